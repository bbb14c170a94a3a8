//go:build unix

package console

import (
	"os"

	"golang.org/x/sys/unix"
)

// Rows is how many lines a terminal shows, 0 where that is not known.
func Rows(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Row)
}
