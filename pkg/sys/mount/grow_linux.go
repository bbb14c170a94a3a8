package mount

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resizeExt4 is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64), of the kernel's
// fs/ext4/ext4.h.
const resizeExt4 = 0x40086610

// GrowExt4 makes the ext4 file system that is mounted at target as large as
// size bytes allow. The kernel does it by its journal: whatever happens on the
// way, the file system stays whole.
func GrowExt4(target string, size int64) error {
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	defer dir.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return fmt.Errorf("grow %s: %w", target, err)
	}
	if fs.Type != unix.EXT4_SUPER_MAGIC {
		return fmt.Errorf("grow %s: not ext4", target)
	}
	blocks := uint64(size / int64(fs.Bsize))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), resizeExt4, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("grow %s to %d blocks: %w", target, blocks, errno)
	}
	return nil
}
