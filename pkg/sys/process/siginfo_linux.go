package process

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// endedPid reads the process id that waitid(2) left in info, 0 when there was
// none. It stands right behind the three numbers every siginfo begins with,
// padded to the size of a pointer.
func endedPid(info *unix.Siginfo) int {
	const offset = (3*4 + unsafe.Sizeof(uintptr(0)) - 1) / unsafe.Sizeof(uintptr(0)) * unsafe.Sizeof(uintptr(0))
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), offset)))
}
