package power

import (
	"context"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

var commands = map[Action]int{
	Reboot:   unix.LINUX_REBOOT_CMD_RESTART,
	PowerOff: unix.LINUX_REBOOT_CMD_POWER_OFF,
	Halt:     unix.LINUX_REBOOT_CMD_HALT,
}

// Do ends the run of the machine at once. It syncs nothing and stops nobody;
// it returns only with an error.
func Do(a Action) error {
	command, known := commands[a]
	if !known {
		return fmt.Errorf("%s: not a power action", a)
	}
	if err := unix.Reboot(command); err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	return nil
}

// Sync writes all file systems back to their disks.
func Sync() { unix.Sync() }

// CatchCtrlAltDel makes Ctrl-Alt-Del a SIGINT for process 1 instead of a
// reset.
func CatchCtrlAltDel() error {
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		return fmt.Errorf("catch ctrl-alt-del: %w", err)
	}
	return nil
}

// Buttons returns the input devices that have a power button.
func Buttons() []string { return buttons("/sys/class/input") }

func buttons(class string) []string {
	var found []string
	paths, _ := filepath.Glob(filepath.Join(class, "event*"))
	for _, path := range paths {
		keys, err := os.ReadFile(filepath.Join(path, "device/capabilities/key"))
		if err == nil && has(strings.Fields(string(keys)), keyPower, bits.UintSize) {
			found = append(found, "/dev/input/"+filepath.Base(path))
		}
	}
	return found
}

// Pressed waits until the button of an input device is pressed. It returns
// an error when ctx ends or the device goes.
func Pressed(ctx context.Context, device string) error {
	// Not blocking, so that the runtime polls it and Close wakes the reader.
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open power button %s: %w", device, err)
	}
	f := os.NewFile(uintptr(fd), device)
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	buffer := make([]byte, 64*24)
	for {
		n, err := f.Read(buffer)
		if err != nil {
			return fmt.Errorf("read power button: %w", err)
		}
		if pressed(buffer[:n], bits.UintSize/8) {
			return nil
		}
	}
}
