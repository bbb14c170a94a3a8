package power

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// LoadKernel gives the running kernel another one, with its initial RAM file
// system and command line, to jump into by StartKernel. A kernel that takes no
// files is given their contents in memory, on arm64. The error wraps
// unix.EPERM where that is locked, ENOSYS where the kernel cannot,
// EKEYREJECTED and ENOKEY where it wants a signature, ENOMEM.
//
// Sources: kexec_file_load(2), kexec_load(2).
func LoadKernel(kernel, initrd *os.File, cmdline string) error {
	err := unix.KexecFileLoad(int(kernel.Fd()), int(initrd.Fd()), cmdline, 0)
	if errors.Is(err, unix.ENOSYS) {
		err = loadSegments(kernel, initrd, cmdline)
	}
	if err != nil {
		return fmt.Errorf("load kernel: %w", err)
	}
	return nil
}

// StartKernel jumps into the kernel that was loaded. It syncs nothing and stops
// nobody; it returns only with an error.
func StartKernel() error {
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC); err != nil {
		return fmt.Errorf("start loaded kernel: %w", err)
	}
	return nil
}
