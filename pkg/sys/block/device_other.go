//go:build !linux

package block

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// SectorSize needs Linux.
func SectorSize(device string) (int, error) {
	return 0, fmt.Errorf("read sector size of %s: %w", device, errors.ErrUnsupported)
}

// Reread needs Linux.
func Reread(_ context.Context, device string) error {
	return fmt.Errorf("read partition table of %s again: %w", device, errors.ErrUnsupported)
}

// WaitPartition needs Linux.
func WaitPartition(_ context.Context, disk string, _ int) (string, error) {
	return "", fmt.Errorf("wait for a partition of %s: %w", disk, errors.ErrUnsupported)
}

// Forget needs Linux.
func Forget(f *os.File) error {
	return fmt.Errorf("flush buffers of %s: %w", f.Name(), errors.ErrUnsupported)
}
