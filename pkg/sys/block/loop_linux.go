package block

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// AttachLoop makes the file at path a read-only block device and returns its
// path. It stays until DetachLoop.
func AttachLoop(path string) (string, error) { return AttachPart(path, 0, 0) }

// AttachPart is AttachLoop for size bytes of a file from offset on, which is a
// multiple of 512; no size means all that follows.
func AttachPart(path string, offset, size int64) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("attach %s: %w", path, err)
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("attach %s: find a free loop device: %w", path, err)
		}
		device := "/dev/loop" + strconv.Itoa(n)
		err = configureLoop(device, path, int(file.Fd()), offset, size)
		if errors.Is(err, unix.EBUSY) {
			continue // somebody else was faster
		}
		if err != nil {
			return "", fmt.Errorf("attach %s to %s: %w", path, device, err)
		}
		return device, nil
	}
}

func configureLoop(device, path string, file int, offset, size int64) error {
	dev, err := os.Open(device)
	if err != nil {
		return err
	}
	defer dev.Close()
	config := unix.LoopConfig{Fd: uint32(file), Info: unix.LoopInfo64{Offset: uint64(offset), Sizelimit: uint64(size), Flags: unix.LO_FLAGS_READ_ONLY}}
	copy(config.Info.File_name[:], path)
	return unix.IoctlLoopConfigure(int(dev.Fd()), &config)
}

// DetachLoop frees a loop device, when its last user is gone.
func DetachLoop(device string) error {
	if !strings.HasPrefix(device, "/dev/loop") {
		return fmt.Errorf("detach %s: not a loop device", device)
	}
	dev, err := os.Open(device)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", device, err)
	}
	return nil
}
