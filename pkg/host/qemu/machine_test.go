package qemu

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/process"
)

// needQEMU skips where QEMU is not installed; "make test" installs it.
func needQEMU(t *testing.T, arch string) {
	t.Helper()
	if err := findProgram(arch); err != nil {
		t.Skip(err)
	}
}

// bootSector is a disk with a guest of one sector: it writes its stages to the serial port,
// waits for the power button, says good-bye and switches the machine off.
func bootSector(text, bye string) []byte {
	b := make([]byte, 1<<20)
	copy(b, []byte{
		0xfa,                   // cli
		0x31, 0xc0, 0x8e, 0xd8, // ds = 0
		0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // PM1 enable: power button
		0xbe, 0x40, 0x7c, // si = text
		0xe8, 0x17, 0x00, // call print
		0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xf7, // until PM1 status has it
		0xbe, 0x40, 0x7d, // si = bye
		0xe8, 0x08, 0x00, // call print
		0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // PM1 control: sleep type 0, off
		0xf4,                         // hlt
		0xac, 0x84, 0xc0, 0x74, 0x06, // print: until a zero byte
		0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, 0xc3, // to the serial port
	})
	copy(b[0x40:0x13f], text)
	copy(b[0x140:0x1fd], bye)
	b[510], b[511] = 0x55, 0xaa
	return b
}

func launch(t *testing.T, text string) *VM {
	t.Helper()
	needQEMU(t, "amd64")
	disk := filepath.Join(t.TempDir(), "guest.img")
	if err := os.WriteFile(disk, bootSector(text, "bye\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	vm, err := Launch(t.Context(), Spec{Image: disk, Media: Disk, Arch: "amd64", Memory: 32, Accel: Software, Network: Network{User: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vm.Kill)
	return vm
}

func TestLaunch(t *testing.T) {
	vm := launch(t, "kedge: stage initrd at 0.50s\r\nkedge: stage ready at 3.25s\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stage, err := vm.Console.WaitStage(ctx, 1, "ready")
	if err != nil || stage.Seconds != 3.25 {
		t.Fatalf("WaitStage = %v, %v; console %q", stage, err, vm.Console.Tail(9))
	}
	if log, err := os.ReadFile(vm.Log); err != nil || !bytes.Contains(log, []byte("stage ready at 3.25s")) {
		t.Errorf("console log: %q, %v", log, err)
	}
	if err := vm.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := vm.Console.WaitText(ctx, 0, regexp.MustCompile("^bye$")); err != nil {
		t.Errorf("the guest was not told: %v; last line %q", err, vm.Console.Tail(1))
	}
	if exists(vm.Dir) {
		t.Errorf("%s was left behind", vm.Dir)
	}
}

func TestResetAndCut(t *testing.T) {
	vm := launch(t, "kedge: stage initrd at 0.50s\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := vm.Console.WaitStage(ctx, 1, "initrd"); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.Control.Command(ctx, "system_reset", nil); err != nil {
		t.Fatal(err)
	}
	if err := vm.Control.WaitEvent(ctx, "RESET", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.Console.WaitStage(ctx, 2, "initrd"); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.Control.Command(ctx, "no-such-command", nil); err == nil || !strings.Contains(err.Error(), "has not been found") {
		t.Errorf("a command that QEMU lacks: %v", err)
	}
	vm.Cut()
	if _, _, err := vm.Console.WaitText(ctx, 0, regexp.MustCompile("bye")); err == nil {
		t.Error("the guest had time to say good-bye")
	}
}

func TestLaunchWithoutQEMU(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Launch(t.Context(), Spec{Arch: "arm64", Accel: Software})
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "Debian package qemu-system-arm") {
		t.Errorf("Launch = %v, want the package named", err)
	}
}

func TestLaunchComplains(t *testing.T) {
	needQEMU(t, "amd64")
	_, err := Launch(t.Context(), Spec{Arch: "amd64", Accel: Software, Drives: []Drive{{File: "/nowhere/disk", Bus: Disk}}})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/disk") {
		t.Errorf("Launch = %v, want what QEMU said", err)
	}
}

// TestProbe lets the accelerator's probe guest run where it always must.
func TestProbe(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		needQEMU(t, arch)
		guest := filepath.Join(t.TempDir(), "guest")
		if err := os.WriteFile(guest, probe(arch), 0o600); err != nil {
			t.Fatal(err)
		}
		if !probeRuns(t.Context(), arch, Software, guest) {
			t.Errorf("%s: the probe does not run in software", arch)
		}
		if err := os.WriteFile(guest, make([]byte, 64<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		if probeRuns(t.Context(), arch, "none-such", guest) {
			t.Errorf("%s: the probe runs with no accelerator", arch)
		}
	}
	if got := ChooseAccelerator(t.Context(), "riscv64"); got != Software {
		t.Errorf("another processor's guest: %s, on %s", got, runtime.GOARCH)
	}
}

func TestMakeStick(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("hostname: stick\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"vfat", "iso9660"} {
		image := filepath.Join(t.TempDir(), "stick.img")
		if err := MakeStick(t.Context(), image, kind, "KEDGE", dir); err != nil {
			t.Fatal(err)
		}
		// The judge: what blkid reads, Linux finds by label.
		out, err := process.Tool{Path: "blkid", Args: []string{"-p", "-o", "export", image}}.Output(t.Context())
		if err != nil || !strings.Contains(out, "LABEL=KEDGE\n") || !strings.Contains(out, "TYPE="+kind+"\n") {
			t.Errorf("%s: blkid says %q, %v", kind, out, err)
		}
	}
	image := filepath.Join(t.TempDir(), "stick.img")
	if err := MakeStick(t.Context(), image, "vfat", "KEDGE", dir); err != nil {
		t.Fatal(err)
	}
	out, err := process.Tool{Path: "mtype", Args: []string{"-i", image, "::config.yaml"}}.Output(t.Context())
	if err != nil || out != "hostname: stick\n" {
		t.Errorf("mtype says %q, %v", out, err)
	}
}

func TestMakeState(t *testing.T) {
	image := filepath.Join(t.TempDir(), "state.img")
	if err := MakeState(t.Context(), image, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := (process.Tool{Path: "e2fsck", Args: []string{"-f", "-n", image}}).Run(t.Context()); err != nil {
		t.Error(err)
	}
	if err := MakeState(t.Context(), image, 64<<20); err == nil {
		t.Error("an existing disk was overwritten")
	}
}
