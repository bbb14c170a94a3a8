package block

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SectorSize returns the logical block size of a device in bytes.
func SectorSize(device string) (int, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return 0, fmt.Errorf("read sector size of %s: %w", device, err)
	}
	return n, nil
}

// rereadPatience is how long a device may be busy, because somebody looks at
// it, before its table is given up.
const rereadPatience = 10 * time.Second

// Reread makes the kernel read the partition table of a disk again. It fails
// while a partition of the disk is in use.
func Reread(ctx context.Context, device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	for end := time.Now().Add(rereadPatience); ; {
		err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			if err != nil {
				return fmt.Errorf("read partition table of %s again: %w", device, err)
			}
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// WaitPartition waits until a partition of a disk, both by name without /dev,
// is there, and returns its path.
func WaitPartition(ctx context.Context, disk string, number int) (string, error) {
	name := partitionName(disk, number)
	for {
		if _, err := os.Stat("/dev/" + name); err == nil {
			if n, err := attribute(filepath.Join("/sys/class/block", name), "partition"); err == nil && int(n) == number {
				return "/dev/" + name, nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("wait for partition %d of %s: %w", number, disk, context.Cause(ctx))
		}
	}
}

// partitionName is how the kernel names a partition: a "p" keeps the numbers
// of disks such as nvme0n1 and mmcblk0 apart from that of the partition.
func partitionName(disk string, number int) string {
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		disk += "p"
	}
	return strings.ReplaceAll(disk, "/", "!") + strconv.Itoa(number)
}

// Forget makes the kernel drop what it remembers of a device, so that the next
// read comes from the hardware.
func Forget(f *os.File) error {
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("flush buffers of %s: %w", f.Name(), err)
	}
	return nil
}
