package block

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// partitionArg is struct blkpg_partition of linux/blkpg.h.
type partitionArg struct {
	start, length int64 // bytes
	number        int32
	names         [128]byte // not used
}

const blkpg = 0x1269 // the BLKPG request of linux/blkpg.h

// ResizePartition tells the kernel the size in bytes that a partition of the
// disk has by now. Other partitions of the disk may be in use, and so may the
// partition itself.
func ResizePartition(disk string, number int, start, size int64) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	data := &partitionArg{start: start, length: size, number: int32(number)}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_RESIZE_PARTITION, Datalen: int32(unsafe.Sizeof(*data)), Data: (*byte)(unsafe.Pointer(data))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkpg, uintptr(unsafe.Pointer(&arg)))
	runtime.KeepAlive(data)
	if errno != 0 {
		return fmt.Errorf("resize partition %d of %s: %w", number, disk, errno)
	}
	return nil
}
