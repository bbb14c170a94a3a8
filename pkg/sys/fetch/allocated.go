//go:build unix

package fetch

import "syscall"

// Allocated is how many bytes of its file system a file takes up, 0 when it is
// not there. One with holes takes less than its size.
func Allocated(path string) int64 {
	var s syscall.Stat_t
	if syscall.Stat(path, &s) != nil {
		return 0
	}
	return int64(s.Blocks) * 512
}
