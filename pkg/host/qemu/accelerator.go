package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/process"
)

// An Accelerator is how QEMU runs the guest's instructions.
type Accelerator string

// KVM uses the host's processor; Software translates, with one host thread for
// each of the guest's processors.
const (
	KVM      Accelerator = "kvm"
	Software Accelerator = "tcg,thread=multi"
)

// ChooseAccelerator returns KVM when this host really runs guests of arch with
// it, else Software. A device /dev/kvm that opens is not proof enough: nested
// hosts have one that fails at the first instruction it must emulate. So a
// guest of 22 bytes is started, which uses a vector register and then ends QEMU.
func ChooseAccelerator(ctx context.Context, arch string) Accelerator {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil || arch != runtime.GOARCH {
		return Software
	}
	device.Close()
	dir, err := os.MkdirTemp("", "kedge-kvm-")
	if err != nil {
		return Software
	}
	defer os.RemoveAll(dir)
	guest := filepath.Join(dir, "guest")
	if os.WriteFile(guest, probe(arch), 0o600) == nil && probeRuns(ctx, arch, KVM, guest) {
		return KVM
	}
	return Software
}

// probeRuns starts the probe guest and tells whether it got to its end.
func probeRuns(ctx context.Context, arch string, accel Accelerator, guest string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	args := []string{"-accel", string(accel), "-m", "32", "-nodefaults", "-no-user-config", "-display", "none", "-bios", guest}
	if arch == "arm64" {
		args = append(args, "-machine", "virt", "-cpu", "max", "-no-reboot")
	} else {
		args = append(args, "-machine", "pc", "-device", "isa-debug-exit")
	}
	err := process.Tool{Path: program(arch), Args: args}.Run(ctx)
	if arch == "arm64" {
		return err == nil
	}
	var status interface{ ExitCode() int }
	return errors.As(err, &status) && status.ExitCode() == probeStatus
}

// probeStatus is the status that isa-debug-exit makes of the probe's 0x31.
const probeStatus = 0x31<<1 | 1

// probe returns the firmware of the probe guest.
func probe(arch string) []byte {
	if arch == "arm64" {
		return []byte{
			0x08, 0x01, 0x80, 0x52, // mov  w8, #8
			0x00, 0x80, 0xb0, 0x52, // mov  w0, #0x84000000
			0x00, 0x00, 0x08, 0x2a, // orr  w0, w0, w8        PSCI SYSTEM_OFF
			0x02, 0x00, 0x00, 0xd4, // hvc  #0
		}
	}
	rom := make([]byte, 64<<10) // ends at 4 GiB; the processor starts 16 bytes before
	copy(rom[0xff00:], []byte{
		0x0f, 0x20, 0xe0, // mov  eax, cr4
		0x66, 0x0d, 0x00, 0x06, 0x00, 0x00, // or eax, OSFXSR|OSXMMEXCPT
		0x0f, 0x22, 0xe0, // mov  cr4, eax
		0x66, 0x0f, 0xef, 0xc0, // pxor xmm0, xmm0
		0xba, 0x01, 0x05, // mov  dx, 0x501               isa-debug-exit
		0xb0, 0x31, // mov  al, 0x31
		0xee, // out  dx, al
		0xf4, // hlt
	})
	copy(rom[0xfff0:], []byte{0xe9, 0x0d, 0xff}) // jmp 0xff00
	return rom
}
