package block

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

// TestProbe lets the tools of each file system make one, and reads it.
func TestProbe(t *testing.T) {
	const ext4UUID = "3b1f0a52-61c4-4d0e-9a53-0123456789ab"
	for _, c := range []struct {
		name string
		make func(image, folder string) []string
		want FileSystem
	}{
		{"iso9660", func(image, folder string) []string {
			return []string{"xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-V", "KEDGE_OS", "--modification-date=2026010203040500", "-o", image, folder}
		}, FileSystem{"iso9660", "KEDGE_OS", "2026-01-02-03-04-05-00"}},
		{"ext4", func(image, _ string) []string {
			return []string{"mke2fs", "-q", "-t", "ext4", "-L", "KEDGE-STATE", "-U", ext4UUID, image, "8M"}
		}, FileSystem{"ext4", "KEDGE-STATE", ext4UUID}},
		{"vfat", func(image, _ string) []string {
			return []string{"mformat", "-C", "-i", image, "-T", "131072", "-h", "16", "-s", "32", "-F", "-N", "12345678", "-v", "KEDGE", "::"}
		}, FileSystem{"vfat", "KEDGE", "1234-5678"}},
		{"fat12", func(image, _ string) []string {
			return []string{"mformat", "-C", "-i", image, "-f", "1440", "-N", "12345678", "-v", "CIDATA", "::"}
		}, FileSystem{"vfat", "CIDATA", "1234-5678"}},
		{"squashfs", func(image, folder string) []string {
			return []string{"mksquashfs", folder, image, "-quiet", "-no-progress"}
		}, FileSystem{"squashfs", "", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(filepath.Join(folder, "file"), []byte("content"), 0o644); err != nil {
				t.Fatal(err)
			}
			tool := c.make(image, folder)
			cmd := exec.Command(tool[0], tool[1:]...)
			cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "TZ=UTC")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", tool, err, out)
			}
			f, err := os.Open(image)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got, err := Probe(f); err != nil || got != c.want {
				t.Errorf("Probe = %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestProbeUnknown(t *testing.T) {
	for _, data := range [][]byte{make([]byte, 64<<10), []byte("short"), bytes.Repeat([]byte{0x55, 0xAA}, 40<<10)} {
		if fs, err := Probe(bytes.NewReader(data)); !errors.Is(err, ErrUnknown) {
			t.Errorf("Probe = %+v, %v; want ErrUnknown", fs, err)
		}
	}
	if _, err := Probe(bytes.NewReader(nil)); err == nil {
		t.Error("Probe of nothing gives no error")
	}
}

func FuzzProbe(f *testing.F) {
	f.Add([]byte("hsqs"))
	f.Fuzz(func(t *testing.T, data []byte) { Probe(bytes.NewReader(data)) })
}

// TestList reads a copy of sysfs in which one drive has no medium, and one is
// reached in two ways, of which the kernel shows only what they lead to.
func TestList(t *testing.T) {
	root := t.TempDir()
	class := filepath.Join(root, "class/block")
	write := func(path, content string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("devices/x/sda/size", "2048\n")
	write("devices/x/sda/removable", "1\n")
	write("devices/x/sda/sda1/size", "1024\n")
	write("devices/x/sda/sda1/partition", "1\n")
	write("devices/x/sda/sda1/uevent", "MAJOR=8\nPARTN=1\nPARTNAME=KEDGE-A\n")
	write("devices/y/sr0/size", "0\n")
	write("devices/z/loop0/size", "8\n")
	write("devices/z/cciss!c0d0/size", "8\n")
	write("devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/size", "16\n")
	write("devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/hidden", "0\n")
	write("devices/n/nvme0/nvme0c0n1/size", "16\n")
	write("devices/n/nvme0/nvme0c0n1/hidden", "1\n")
	if err := os.MkdirAll(class, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]string{"nvme0n1": "virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "nvme0c0n1": "n/nvme0/nvme0c0n1", "sda": "x/sda", "sda1": "x/sda/sda1", "sr0": "y/sr0", "loop0": "z/loop0", "cciss!c0d0": "z/cciss!c0d0"} {
		if err := os.Symlink("../../devices/"+at, filepath.Join(class, name)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := list(class)
	want := []Device{
		{Name: "cciss!c0d0", Path: "/dev/cciss/c0d0", Size: 4096},
		{Name: "nvme0n1", Path: "/dev/nvme0n1", Size: 8192},
		{Name: "sda", Path: "/dev/sda", Size: 1 << 20, Removable: true},
		{Name: "sr0", Path: "/dev/sr0"},
		{Name: "sda1", Path: "/dev/sda1", Size: 1 << 19, Partition: true, Parent: "sda", Number: 1, PartName: "KEDGE-A"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("list = %+v, %v; want %+v", got, err, want)
	}
}
