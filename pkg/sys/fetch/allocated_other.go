//go:build !unix

package fetch

import "os"

// Allocated is the size of a file, 0 when it is not there.
func Allocated(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
