package power

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// LoadKernel gives the running kernel another one, with its initial RAM file
// system and command line, to jump into by StartKernel. The error wraps
// unix.EPERM where that is locked, ENOSYS where the kernel cannot,
// EKEYREJECTED and ENOKEY where it wants a signature, ENOMEM.
//
// Source: kexec_file_load(2).
func LoadKernel(kernel, initrd *os.File, cmdline string) error {
	if err := unix.KexecFileLoad(int(kernel.Fd()), int(initrd.Fd()), cmdline, 0); err != nil {
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
