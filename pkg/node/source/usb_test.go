package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/sys/block"
)

func TestWanted(t *testing.T) {
	for name, want := range map[string]bool{
		"kedge.iso": true, "KEDGE.ISO": true, "kedge/a.iso": true, "Kedge/B.Iso": true,
		"a/kedge.iso": false, "kedge/x/a.iso": false, "kedge.iso.part": false, "._kedge.iso": false, "kedge/.a.iso": false, "kedge": false,
	} {
		if Wanted(name) != want {
			t.Errorf("Wanted(%s) = %v", name, !want)
		}
	}
}

func TestPlaces(t *testing.T) {
	whole := func(name string) block.Device { return block.Device{Name: name, Path: "/dev/" + name, Size: 1 << 30} }
	part := func(name, disk, label string) block.Device {
		return block.Device{Name: name, Path: "/dev/" + name, Size: 1 << 20, Partition: true, Parent: disk, PartName: label}
	}
	card := whole("mmcblk0")
	card.Removable = true
	empty := whole("sdd")
	empty.Size = 0
	devices := []block.Device{
		whole("vda"), part("vda3", "vda", "KEDGE-A"), part("vda4", "vda", "KEDGE-B"), part("vda5", "vda", "KEDGE-STATE"),
		whole("sda"), part("sda1", "sda", "STICK"), // USB
		whole("sdb"), part("sdb3", "sdb", "KEDGE-A"), part("sdb6", "sdb", "DATA"), // USB, another installed system
		whole("sdc"), part("sdc1", "sdc", "DATA"), // SATA
		empty, whole("sr0"), card, part("mmcblk0p1", "mmcblk0", ""),
	}
	transport := func(d block.Device) string {
		switch d.Name {
		case "sda", "sdb", "sdd":
			return "usb"
		}
		return "sata"
	}
	for running, want := range map[string]string{
		"/dev/vda3": "sda sda1 sr0 mmcblk0 mmcblk0p1",
		"/dev/sda1": "sr0 mmcblk0 mmcblk0p1", // it was started from a stick
		"/dev/sr0":  "sda sda1 mmcblk0 mmcblk0p1",
		"":          "sda sda1 sr0 mmcblk0 mmcblk0p1",
	} {
		var got []string
		for _, d := range Places(devices, running, transport) {
			got = append(got, d.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("Places of a system on %q = %v, want %s", running, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	no := errors.New("no")
	c := func(version, id string, refused error) candidate {
		return candidate{name: version + "-" + id, release: release.Manifest{Version: version, ID: id}, refused: refused}
	}
	for _, tc := range []struct {
		name string
		all  []candidate
		want int
		err  error
		says string
	}{
		{"none", nil, 0, ErrNoImage, ""},
		{"one", []candidate{c("0.2.0", "a", nil)}, 0, nil, ""},
		{"the newest", []candidate{c("0.2.0", "a", nil), c("0.10.0", "b", nil), c("0.3.0", "c", nil)}, 1, nil, ""},
		{"the newest that fits", []candidate{c("0.2.0", "a", nil), c("0.10.0", "b", no)}, 0, nil, ""},
		{"the same twice", []candidate{c("0.2.0", "a", nil), c("0.2.0", "a", nil)}, 0, nil, ""},
		{"two of one version", []candidate{c("0.1.0", "z", nil), c("0.2.0", "a", nil), c("0.2.0", "b", nil)}, 0, ErrSeveral, "0.2.0-a (0.2.0, a), 0.2.0-b (0.2.0, b)"},
		{"two of one version, and a newer one", []candidate{c("0.2.0", "a", nil), c("0.2.0", "b", nil), c("0.3.0", "c", nil)}, 2, nil, ""},
		{"one of another form is no rival", []candidate{c("0.2.0", "a", nil), c("nightly", "b", nil)}, 0, nil, ""},
		{"two of another form", []candidate{c("nightly", "a", nil), c("edge", "b", nil)}, 0, ErrSeveral, "nightly"},
		{"one that is refused", []candidate{c("0.2.0", "a", no)}, 0, no, "0.2.0-a: no"},
		{"all are refused", []candidate{c("0.2.0", "a", no), c("0.3.0", "b", no)}, 0, no, "none of 2 images fits: 0.2.0-a: no; 0.3.0-b: no"},
	} {
		got, err := choose(tc.all)
		if got != tc.want || !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: choose = %d, %v, want %d, %v %q", tc.name, got, err, tc.want, tc.err, tc.says)
		}
	}
}

// makeISO writes an image of a release to a file.
func makeISO(t *testing.T, file, volume, version string) {
	t.Helper()
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: version, Arch: "amd64", Kernel: "6.12"}
	sum := sha256.Sum256([]byte(version))
	m.Files = []release.File{{Path: release.RootPath, Size: int64(len(version)), SHA256: hex.EncodeToString(sum[:])}}
	m.ID = m.ComputeID()
	dir := t.TempDir()
	for name, text := range map[string]string{release.ManifestPath: string(m.Encode()), release.RootPath: version} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", volume, "-o", file, dir).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
}

// A desk is a machine with sticks that are files and folders.
type desk struct {
	sticks map[string]string // device → a file, or a folder that is its file system
	broken string            // a device that cannot be read
}

func (d desk) Devices(context.Context) (all []block.Device, err error) {
	for _, name := range []string{"sda", "sda1", "sdb", "sdb1"} {
		if _, ok := d.sticks[name]; ok {
			all = append(all, block.Device{Name: name, Path: "/dev/" + name, Size: 1, Partition: len(name) == 4, Parent: map[bool]string{true: name[:3]}[len(name) == 4]})
		}
	}
	return all, nil
}

func (desk) Transport(block.Device) string { return "usb" }

func (d desk) Probe(b block.Device) (block.FileSystem, error) {
	if b.Name == d.broken {
		return block.FileSystem{}, errors.New("input/output error")
	}
	name := d.sticks[b.Name]
	switch info, err := os.Stat(name); {
	case name == "":
		return block.FileSystem{}, block.ErrUnknown
	case name == "squashfs":
		return block.FileSystem{Type: "squashfs"}, nil
	case err != nil:
		return block.FileSystem{}, err
	case info.IsDir():
		return block.FileSystem{Type: "vfat"}, nil
	}
	f, err := d.Open(b)
	if err != nil {
		return block.FileSystem{}, err
	}
	defer f.Close()
	return block.Probe(f)
}

func (d desk) Open(b block.Device) (*os.File, error) { return os.Open(d.sticks[b.Name]) }

func (d desk) OpenImages(b block.Device, _ string) ([]*os.File, error) {
	return openImages(d.sticks[b.Name])
}

func TestSearch(t *testing.T) {
	dir := t.TempDir()
	written := filepath.Join(dir, "written.iso")
	makeISO(t, written, release.VolumeID, "0.3.0")
	stick, empty := filepath.Join(dir, "stick"), t.TempDir()
	makeISO(t, filepath.Join(stick, "Kedge-0.2.0.ISO"), release.VolumeID, "0.2.0")
	makeISO(t, filepath.Join(stick, "KEDGE", "kedge-0.4.0.iso"), release.VolumeID, "0.4.0")
	makeISO(t, filepath.Join(stick, "other", "kedge-0.9.0.iso"), release.VolumeID, "0.9.0")
	makeISO(t, filepath.Join(stick, "debian.iso"), "DEBIAN", "0.8.0")
	if err := os.Symlink("/etc/passwd", filepath.Join(stick, "link.iso")); err != nil {
		t.Fatal(err)
	}
	tooNew := errors.New("too new")
	all := func(*release.Image) error { return nil }
	for _, c := range []struct {
		name  string
		desk  desk
		judge func(*release.Image) error
		want  string // version and where from
		err   error
		says  string
	}{
		{"no stick", desk{}, all, "", ErrNoMedium, ""},
		{"one that is an image, with the partition of a hybrid", desk{sticks: map[string]string{"sda": written, "sda1": written}}, all, "0.3.0 /dev/sda", nil, ""},
		{"one with files", desk{sticks: map[string]string{"sda": "", "sda1": stick}}, all, "0.4.0 kedge-0.4.0.iso on /dev/sda1", nil, ""},
		{"both", desk{sticks: map[string]string{"sda": written, "sdb": "", "sdb1": stick}}, func(i *release.Image) error {
			if i.Manifest.Version == "0.4.0" {
				return tooNew
			}
			return nil
		}, "0.3.0 /dev/sda", nil, ""},
		{"an empty one, and one that cannot be read", desk{map[string]string{"sda": empty, "sdb": empty}, "sdb"}, all, "", ErrNoImage,
			"there is no image: /dev/sda (vfat) has no *.iso in its top folder or in kedge/; /dev/sdb: input/output error"},
		{"another file system", desk{sticks: map[string]string{"sda": "squashfs"}}, all, "", ErrNoImage, "/dev/sda: squashfs is no file system to look into"},
		{"nothing fits", desk{sticks: map[string]string{"sda1": stick}}, func(i *release.Image) error { return tooNew }, "", tooNew, "debian.iso on /dev/sda1: open image debian.iso on /dev/sda1: volume is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, from, err := Search(t.Context(), c.desk, "/dev/vda3", c.judge)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("Search = %v, want %v %q", err, c.err, c.says)
			}
			if err != nil {
				return
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			i, err := release.Open(f, info.Size())
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%s %s", i.Manifest.Version, from); got != c.want {
				t.Errorf("found %s, want %s", got, c.want)
			}
			if err := i.Verify(t.Context(), nil); err != nil {
				t.Errorf("what is returned cannot be read: %v", err)
			}
		})
	}
}
