package qemu

import (
	"errors"
	"fmt"
	"os"

	"github.com/kedgeos/kedge/pkg/sys/process"
)

// ErrMissing means that QEMU or firmware is not on this host; the message
// names the Debian package.
var ErrMissing = errors.New("not installed")

// firmwareFiles lists where distributions keep UEFI: code, empty variables.
var firmwareFiles = map[string][][2]string{
	"amd64": {
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
	},
	"arm64": {
		{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
		{"/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"},
	},
}

var packages = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86", "qemu-system-aarch64": "qemu-system-arm",
	"amd64": "ovmf", "arm64": "qemu-efi-aarch64",
}

// findProgram fails with ErrMissing when QEMU for arch is not there.
func findProgram(arch string) error {
	name := program(arch)
	if _, err := process.Find(name); err != nil {
		return fmt.Errorf("find %s: %w (Debian package %s)", name, ErrMissing, packages[name])
	}
	return nil
}

// findFirmware returns the files of the UEFI firmware for arch.
func findFirmware(arch string) (code, vars string, err error) {
	for _, f := range firmwareFiles[arch] {
		if exists(f[0]) && exists(f[1]) {
			return f[0], f[1], nil
		}
	}
	return "", "", fmt.Errorf("find UEFI firmware for %s: %w (Debian package %s)", arch, ErrMissing, packages[arch])
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
