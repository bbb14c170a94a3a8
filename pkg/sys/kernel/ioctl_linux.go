package kernel

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl hands the kernel a buffer, see ioctl(2).
func ioctl(f *os.File, request uint, buffer []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(&buffer[0]))); errno != 0 {
		return errno
	}
	return nil
}
