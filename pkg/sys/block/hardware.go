package block

import (
	"os"
	"path/filepath"
	"strings"
)

// Hardware is what a disk says about itself; what it does not say is "".
type Hardware struct {
	Model, Serial string
	Transport     string // usb, nvme, sata, mmc, virtio or scsi
}

// Describe returns what the hardware of a whole disk says.
func Describe(d Device) Hardware { return describeHardware("/sys/class/block", d.Name) }

func describeHardware(class, name string) Hardware {
	dir := filepath.Join(class, name)
	h := Hardware{
		Model:  firstText(dir, "device/model", "device/name"),
		Serial: firstText(dir, "device/serial", "serial", "device/vpd_pg80"),
	}
	if vendor := firstText(dir, "device/vendor"); vendor != "" && !strings.HasPrefix(vendor, "0x") && vendor != "ATA" {
		h.Model = strings.TrimSpace(vendor + " " + h.Model)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return h
	}
	// The way to a disk in /sys/devices names the buses in between; the one
	// nearest to the machine comes first.
	for _, bus := range []struct{ mark, name string }{
		{"/usb", "usb"}, {"/nvme/", "nvme"}, {"/virtual/nvme-subsystem/", "nvme"}, {"/mmc_host/", "mmc"}, {"/ata", "sata"}, {"/virtio", "virtio"}, {"/host", "scsi"},
	} {
		if strings.Contains(real, bus.mark) {
			h.Transport = bus.name
			break
		}
	}
	return h
}

// firstText returns the first attribute that says something printable.
func firstText(dir string, names ...string) string {
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if strings.HasSuffix(name, "vpd_pg80") && len(b) > 4 {
			b = b[4:] // SCSI Primary Commands, unit serial number page: a header of four bytes
		}
		text := strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return -1
			}
			return r
		}, string(b)))
		if text != "" {
			return text
		}
	}
	return ""
}
