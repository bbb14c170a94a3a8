//go:build !linux

package block

import "errors"

// ResizePartition needs Linux.
func ResizePartition(disk string, number int, start, size int64) error { return errors.ErrUnsupported }
