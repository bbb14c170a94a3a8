package block

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// hubAge is how old a USB bus must be until everything plugged into it is
// known: a port is given 100 ms to become stable, a reset takes 50 ms, and a
// hub in between takes the same again (USB 2.0 specification, section 7.1.7.3).
const hubAge = 2 * time.Second

// USBPending says what of a machine's USB storage may still appear by itself;
// "" when nothing. A machine without USB has nothing pending.
func USBPending() string { return usbPending("/sys") }

func usbPending(sys string) string {
	controllers, _ := filepath.Glob(filepath.Join(sys, "bus/pci/devices/*/class"))
	for _, file := range controllers {
		const usb = "0x0c03" // base class serial bus, subclass USB
		if class := read(file); strings.HasPrefix(class, usb) && !exists(filepath.Join(filepath.Dir(file), "driver")) && controls(class) {
			return "the driver of USB controller " + filepath.Base(filepath.Dir(file))
		}
	}
	buses, _ := filepath.Glob(filepath.Join(sys, "bus/usb/devices/usb*"))
	for _, bus := range buses {
		age, err := strconv.Atoi(read(filepath.Join(bus, "power/connected_duration")))
		if err == nil && time.Duration(age)*time.Millisecond < hubAge {
			return "what is plugged into " + filepath.Base(bus)
		}
	}
	interfaces, _ := filepath.Glob(filepath.Join(sys, "bus/usb/devices/*/bInterfaceClass"))
	for _, file := range interfaces {
		const storage = "08"
		if read(file) != storage {
			continue
		}
		disks, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "host*/target*/*/block/*"))
		if len(disks) == 0 {
			return "the disk of USB device " + filepath.Base(filepath.Dir(file))
		}
	}
	return ""
}

// controls tells a host controller from a USB device or an unspecified one, by
// the programming interface in the class: 00 UHCI, 10 OHCI, 20 EHCI, 30 xHCI.
func controls(class string) bool {
	for _, interfaces := range []string{"00", "10", "20", "30"} {
		if strings.HasSuffix(class, interfaces) {
			return true
		}
	}
	return false
}

func read(file string) string {
	b, _ := os.ReadFile(file)
	return strings.TrimSpace(string(b))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
