package block

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUSBPending plugs a stick into a machine, in the order in which the kernel
// shows it.
func TestUSBPending(t *testing.T) {
	sys := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct{ what, path, text, want string }{
		{"no USB at all", "bus/pci/devices/0000:00:01.0/class", "0x010802\n", ""},
		{"a USB device port, no host", "bus/pci/devices/0000:00:02.0/class", "0x0c03fe\n", ""},
		{"a controller without a driver", "bus/pci/devices/0000:00:14.0/class", "0x0c0330\n", "driver of USB controller 0000:00:14.0"},
		{"its driver is bound", "bus/pci/devices/0000:00:14.0/driver/x", "", ""},
		{"its bus is new", "bus/usb/devices/usb1/power/connected_duration", "250\n", "usb1"},
		{"its bus is known", "bus/usb/devices/usb1/power/connected_duration", "2250\n", ""},
		{"a keyboard", "bus/usb/devices/1-2:1.0/bInterfaceClass", "03\n", ""},
		{"a stick without a disk", "bus/usb/devices/1-1:1.0/bInterfaceClass", "08\n", "1-1:1.0"},
		{"its disk", "bus/usb/devices/1-1:1.0/host6/target6:0:0/6:0:0:0/block/sda/size", "8\n", ""},
	} {
		put(step.path, step.text)
		got := usbPending(sys)
		if (step.want == "") != (got == "") || !strings.Contains(got, step.want) {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
	}
}
