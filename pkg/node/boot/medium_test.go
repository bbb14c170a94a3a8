package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/sys/block"
)

// medium lets xorriso make an image with a manifest in it, and returns its
// path and the release's ID.
func medium(t *testing.T, volume string) (path, id string) {
	t.Helper()
	folder := t.TempDir()
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: "0.1.0", Arch: "amd64", Kernel: "6.12"}
	for _, name := range []string{release.KernelPath, release.InitrdPath, release.RootPath} {
		m.Files = append(m.Files, release.File{Path: name, Size: 1, SHA256: strings.Repeat("0", 64)})
	}
	m.ID = m.ComputeID()
	file := filepath.Join(folder, release.ManifestPath)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, m.Encode(), 0o644); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image.iso")
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", volume, "-o", image, folder).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	return image, m.ID
}

func TestJudge(t *testing.T) {
	image, id := medium(t, release.VolumeID)
	other, _ := medium(t, "DEBIAN")
	for _, c := range []struct{ name, image, id, want string }{
		{"right", image, id, ""},
		{"older release", image, "0123456789abcdef", "has Kedge 0.1.0 with id " + id + ", this kernel belongs to id 0123456789abcdef"},
		{"another system", other, id, `volume is "DEBIAN", not "KEDGE_OS"`},
		{"no image", os.DevNull, id, "no ISO 9660 file system"},
	} {
		f, err := os.Open(c.image)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, _ := f.Stat()
		got := ""
		if err := Judge(f, info.Size(), c.id); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: Judge = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestSearch(t *testing.T) {
	image, id := medium(t, release.VolumeID)
	opened := map[string]int{}
	broken := true
	open := func(path string) (io.ReaderAt, io.Closer, error) {
		opened[path]++
		if path == "/dev/sr0" && broken {
			return nil, nil, errors.New("drive not ready")
		}
		if path == "/dev/sda" {
			path = os.DevNull
		} else {
			path = image
		}
		f, err := os.Open(path)
		return f, f, err
	}
	devices := []block.Device{{Path: "/dev/sda", Size: 1 << 20}, {Path: "/dev/sr0", Size: 1 << 20}, {Path: "/dev/sr1"}}
	s := Search{ID: id}
	for range 3 {
		if d, found := s.Look(devices, open); found {
			t.Fatalf("found %v", d)
		}
	}
	var told strings.Builder
	told.WriteString(noMedium(id, s.Refused()))
	want := "no medium with id " + id + "\n  /dev/sda: no ISO 9660 file system\n  /dev/sr0: read: drive not ready\n  /dev/sr1: no medium in it\n"
	if told.String() != want {
		t.Errorf("told:\n%swant:\n%s", told.String(), want)
	}
	if opened["/dev/sda"] != 1 || opened["/dev/sr0"] != 3 || opened["/dev/sr1"] != 0 {
		t.Errorf("opened %v: what was read need not be read again, what failed must", opened)
	}
	broken = false
	if d, found := s.Look(devices, open); !found || d.Path != "/dev/sr0" {
		t.Errorf("Look = %v, %v; want /dev/sr0", d, found)
	}
	s.Refuse(devices[1], errors.New("mount: input/output error"))
	if d, found := s.Look(devices, open); !found || d.Path != "/dev/sr0" {
		t.Errorf("Look after Refuse = %v, %v; want /dev/sr0 again", d, found)
	}
	s.Refuse(devices[1], fmt.Errorf("%w (block 0): mount: input/output error", errDamaged))
	before := opened["/dev/sr0"]
	if d, found := s.Look(devices, open); found || opened["/dev/sr0"] != before {
		t.Errorf("Look after damage = %v, %v, opened %d times more; want it left alone", d, found, opened["/dev/sr0"]-before)
	}
	if told := noMedium(id, s.Refused()); !strings.Contains(told, "  /dev/sr0: root file system is damaged (block 0): mount") {
		t.Errorf("of a damaged medium: %q", told)
	}
	slots := []block.Device{{Path: "/dev/sdb3", Size: 1 << 20, PartName: "KEDGE-A", PartUUID: "aa"}, {Path: "/dev/sr0", Size: 1 << 20}, {Path: "/dev/sdb4", Size: 1 << 20, PartName: "KEDGE-B", PartUUID: "bb"},
		{Path: "/dev/sdc4", Size: 1 << 20, PartName: "KEDGE-B", PartUUID: "cc"}}
	s = Search{ID: id}
	if d, found := s.Look(slots, open); !found || d.Path != "/dev/sr0" {
		t.Errorf("Look for a medium = %v, %v; want /dev/sr0: a slot with the same image is none", d, found)
	}
	s = Search{ID: id, Slot: "b", Partition: "bb"}
	if d, found := s.Look(slots, open); !found || d.Path != "/dev/sdb4" {
		t.Errorf("Look for a slot = %v, %v; want /dev/sdb4: a disc with the same image is another medium", d, found)
	}
	if none := noMedium(id, nil); !strings.Contains(none, "was seen at all") {
		t.Errorf("without devices: %q", none)
	}
}

// TestRecordForm holds the names that the agent and users read.
func TestRecordForm(t *testing.T) {
	b, err := json.Marshal(Record{Mode: "live", ID: "1", Medium: "/dev/sr0", Stages: []Mark{{"initrd", 1.2}}, Messages: []Event{"m"}})
	want := `{"mode":"live","id":"1","medium":"/dev/sr0","root":"","stages":[{"name":"initrd","seconds":1.2}],"messages":["m"]}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v; want %s", b, err, want)
	}
}

func TestBesideSlot(t *testing.T) {
	devices := []block.Device{
		{Path: "/dev/sda", Name: "sda"}, {Path: "/dev/nvme0n1", Name: "nvme0n1"}, {Path: "/dev/sr0", Name: "sr0"},
		{Path: "/dev/sda5", Parent: "sda", PartName: "KEDGE-STATE"}, {Path: "/dev/nvme0n1p3", Parent: "nvme0n1", PartName: "KEDGE-A"},
		{Path: "/dev/nvme0n1p5", Parent: "nvme0n1", PartName: "KEDGE-STATE"},
	}
	for medium, want := range map[string]string{"/dev/nvme0n1p3": "/dev/nvme0n1p5 true", "/dev/sr0": " false", "": " false", "/dev/gone": " false"} {
		path, installed := besideSlot(devices, medium)
		if got := fmt.Sprint(path, " ", installed); got != want {
			t.Errorf("besideSlot(%s) = %s, want %s", medium, got, want)
		}
	}
	if path, installed := besideSlot(devices[:5], "/dev/nvme0n1p3"); path != "" || !installed {
		t.Errorf("a disk that lost its state takes that of another: %q, %v", path, installed)
	}
}

func TestHardwareID(t *testing.T) {
	for _, c := range []struct {
		h    block.Hardware
		want string
	}{
		{block.Hardware{Model: "Samsung SSD 870", Serial: "S6PX", Transport: "sata"}, "ata-Samsung_SSD_870_S6PX"},
		{block.Hardware{Serial: "boot", Transport: "virtio"}, "virtio-boot"},
		{block.Hardware{Model: "QEMU HARDDISK", Transport: "scsi"}, ""},
	} {
		if got := hardwareID(c.h); got != c.want {
			t.Errorf("hardwareID(%+v) = %q, want %q", c.h, got, c.want)
		}
	}
}
