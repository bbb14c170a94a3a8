package block

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDescribeHardware reads sysfs as it looks for disks of each kind. The
// ways through /sys/devices are those of real machines.
func TestDescribeHardware(t *testing.T) {
	for _, c := range []struct {
		name, way string
		files     map[string]string
		want      Hardware
	}{
		{"sda", "pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda",
			map[string]string{"device/vendor": "ATA     ", "device/model": "Example SSD 870 ", "device/vpd_pg80": "\x00\x80\x00\x08S5Y1NX0R"},
			Hardware{"Example SSD 870", "S5Y1NX0R", "sata"}},
		{"sdb", "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb",
			map[string]string{"device/vendor": "Kingston", "device/model": "DataTraveler 3.0"}, Hardware{"Kingston DataTraveler 3.0", "", "usb"}},
		{"sdc", "pci0000:00/0000:00:10.0/host0/target0:2:0/0:2:0:0/block/sdc",
			map[string]string{"device/vendor": "DELL", "device/model": "PERC H330"}, Hardware{"DELL PERC H330", "", "scsi"}},
		{"mmcblk0", "pci0000:00/0000:00:1c.0/mmc_host/mmc0/mmc0:0001/block/mmcblk0",
			map[string]string{"device/name": "DA4064", "device/serial": "0x1f2e3d4c"}, Hardware{"DA4064", "0x1f2e3d4c", "mmc"}},
		{"nvme0n1", "pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0/nvme0n1",
			map[string]string{"device/model": "Example NVMe 1TB   ", "device/serial": "  21270A "}, Hardware{"Example NVMe 1TB", "21270A", "nvme"}},
		// The kernel's own way, with nvme_core.multipath, leads over no bus.
		{"nvme1n1", "virtual/nvme-subsystem/nvme-subsys1/nvme1n1",
			map[string]string{"device/model": "Example NVMe 1TB   ", "device/serial": "21270B"}, Hardware{"Example NVMe 1TB", "21270B", "nvme"}},
		{"vda", "pci0000:00/0000:00:05.0/virtio2/block/vda",
			map[string]string{"serial": "kedge-drive0", "device/vendor": "0x1af4"}, Hardware{"", "kedge-drive0", "virtio"}},
	} {
		root := t.TempDir()
		class, dir := filepath.Join(root, "class/block"), filepath.Join(root, "devices", c.way)
		for path, text := range c.files {
			path = filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(class, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(dir, filepath.Join(class, c.name)); err != nil {
			t.Fatal(err)
		}
		if got := describeHardware(class, c.name); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
