package install

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// foreignParts are those of another system.
var foreignParts = []table.Partition{{Index: 1, Name: "root", Start: 1 << 20, Size: 1 << 30}}

// installed is a disk with a system of ours.
func installed(t *testing.T, name, arch string, image int64) Disk {
	t.Helper()
	d := blankDisk(name, 64*gb)
	parts, err := layout.Plan(arch, d.Size, image)
	if err != nil {
		t.Fatal(err)
	}
	d.Parts, d.Slots, d.Ours, d.Holds = parts, []string{layout.SlotA, layout.SlotB}, true, []string{"an installed Kedge"}
	return d
}

func TestChooseKeeps(t *testing.T) {
	ours := installed(t, "sda", "amd64", 0)
	foreign := blankDisk("sdb", 100*gb)
	foreign.Parts = foreignParts
	keep := config.Install{NoFormat: true}
	for _, c := range []struct {
		name  string
		disks []Disk
		want  config.Install
		disk  string
		err   error
		says  string
	}{
		{"ours", []Disk{ours}, keep, "/dev/sda", nil, ""},
		{"ours besides another", []Disk{foreign, ours}, keep, "/dev/sda", nil, ""},
		{"ours and to be wiped", []Disk{ours}, config.Install{NoFormat: true, Wipe: true}, "/dev/sda", nil, ""},
		{"only another", []Disk{foreign}, keep, "", ErrNoDisk, "KEDGE-ESP is missing"},
		{"another by name", []Disk{foreign, ours}, config.Install{NoFormat: true, Device: "/dev/sdb"}, "/dev/sdb", ErrForeign, "KEDGE-STATE is missing; without install.no_format"},
	} {
		d, err := Choose(c.disks, c.want, 0)
		if d.Path != c.disk || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: Choose = %q, %v; want %q, %v", c.name, d.Path, err, c.disk, c.err)
		}
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want it to say %q", c.name, err, c.says)
		}
	}
}

const keptLog = `verify
mount ext4 /dev/sda5
write /run/kedge/install/lib/kedge/config.d/50-install.yaml
write /run/kedge/install/lib/kedge/upgrade.json
write /run/kedge/install/lib/kedge/upgrade-failure.json
unmount
copy to /dev/sda3
format vfat /dev/sda2 KEDGE-ESP
mount vfat /dev/sda2
record /run/kedge/install/kedge a
write /run/kedge/install/kedge/grub.cfg
write /run/kedge/install/EFI/BOOT/BOOTX64.EFI
unmount
patch /dev/sda1 0+2048
patch /dev/sda 0+440`

// TestStepsKeep: neither the partitions nor the file system of the state are
// touched, and without a configuration only what concerns slots is.
func TestStepsKeep(t *testing.T) {
	bare := strings.Replace(keptLog, "write /run/kedge/install/lib/kedge/config.d/50-install.yaml\n", "", 1)
	other := strings.NewReplacer("copy to /dev/sda3", "copy to /dev/sda4", "kedge a", "kedge b").Replace
	for _, c := range []struct {
		slots     string
		committed string
		config    string
		want      string
	}{
		{"ab", "", "hostname: a\n", keptLog},
		{"ab", "", "", bare},
		{"b", "", "", bare},
		{"", "", "", bare},
		{"", "a", "", bare},
		{"a", "", "", other(bare)}, // there is a system to start at all times
		{"ab", "a", "", other(bare)},
		{"ab", "b", "", bare},
		{"a", "b", "", other(bare)}, // what is committed is not there
		{"b", "a", "", bare},
	} {
		m := &machine{}
		d := installed(t, "sda", "amd64", 0)
		d.Slots = strings.Split(c.slots, "")
		steps, err := Steps(Options{Disk: d, Image: image(t, "amd64"), Config: []byte(c.config), Keep: true, Committed: c.committed})
		if err != nil {
			t.Fatal(err)
		}
		if err := Run(context.Background(), m, steps, func(Step, int64) {}); err != nil || strings.Join(m.log, "\n") != c.want {
			t.Errorf("Run = %v, did\n%s\nwant\n%s", err, strings.Join(m.log, "\n"), c.want)
		}
	}
}

func TestStepsKeepRefuses(t *testing.T) {
	small, other := installed(t, "sda", "amd64", 0), installed(t, "sda", "arm64", 0)
	i := image(t, "amd64")
	i.Size = 700 << 20
	if _, err := Steps(Options{Disk: small, Image: i, Keep: true}); !errors.Is(err, ErrTooSmall) || !strings.Contains(err.Error(), "the image has 700 MiB, the slots of /dev/sda") {
		t.Errorf("an image that is too large: %v", err)
	}
	if _, err := Steps(Options{Disk: other, Image: image(t, "amd64"), Keep: true}); !errors.Is(err, ErrForeign) {
		t.Errorf("a disk of another architecture: %v", err)
	}
	if _, err := Steps(Options{Disk: blankDisk("sda", 64*gb), Image: image(t, "amd64"), Keep: true}); !errors.Is(err, ErrForeign) {
		t.Errorf("a blank disk: %v", err)
	}
}

// TestDivided finds the slots that hold something.
func TestDivided(t *testing.T) {
	const size = 4 << 30
	parts, err := layout.Plan("amd64", size, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range parts {
		parts[i].ID = newID()
	}
	d := &sparse{size: size, blocks: map[int64][]byte{}}
	if got, slots := divided(d, size, 512); got != nil || slots != nil {
		t.Errorf("a blank disk: %v, %v", got, slots)
	}
	if err := table.Write(d, size, 512, newID(), parts); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   int64
		want string
	}{{0, ""}, {parts[3].Start + isoimage.VolumeOffset, "b"}, {parts[2].Start + isoimage.VolumeOffset, "a b"}} {
		if c.at > 0 {
			d.WriteAt([]byte{1}, c.at)
		}
		if got, slots := divided(d, size, 512); len(got) != 5 || strings.Join(slots, " ") != c.want {
			t.Errorf("%d partitions, slots %v, want %s", len(got), slots, c.want)
		}
	}
}

// TestCommitted reads the record where the ESP is mounted, read-only.
func TestCommitted(t *testing.T) {
	d := installed(t, "nvme0n1", "amd64", 0)
	for _, good := range []string{layout.SlotA, layout.SlotB, ""} {
		dir, log := t.TempDir(), []string{}
		if good != "" {
			if err := slot.Create(filepath.Join(dir, slot.Folder), good); err != nil {
				t.Fatal(err)
			}
		}
		got, err := committed(d, dir, func(s mount.Spec) error {
			log = append(log, s.Type+" "+s.Source+" "+s.Options)
			return nil
		}, func(string) error {
			log = append(log, "unmount")
			return nil
		})
		if got != good || (err == nil) != (good != "") || strings.Join(log, ", ") != "vfat /dev/nvme0n1p2 ro,nosuid,nodev,noexec, unmount" {
			t.Errorf("committed = %q, %v, want %q; did %q", got, err, good, log)
		}
	}
}

// TestHas: a disk has an image when one of its slots has the same release with the
// same configuration.
func TestHas(t *testing.T) {
	old, other := image(t, "amd64"), image(t, "arm64")
	configured := image(t, "amd64")
	area, err := isoimage.EncodeEmbed([]byte("hostname: kept-it\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := configured.SetEmbedded(area); err != nil {
		t.Fatal(err)
	}
	parts := installed(t, "sda", "amd64", 0).Parts
	for _, c := range []struct {
		name     string
		slot     int // index of a partition
		holds, i *release.Image
		want     bool
	}{
		{"the same in slot a", 2, old, old, true},
		{"the same in slot b", 3, configured, configured, true},
		{"another configuration", 2, old, configured, false},
		{"another release", 3, other, old, false},
		{"elsewhere", 4, old, old, false},
	} {
		d := &sparse{64 * gb, map[int64][]byte{}}
		b, err := io.ReadAll(c.holds.Reader())
		if err != nil {
			t.Fatal(err)
		}
		d.WriteAt(b, parts[c.slot].Start)
		if got := has(d, parts, c.i); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if (Disk{Path: "/nonexistent", Parts: parts}).Has(old) {
		t.Error("a disk that is not there has it")
	}
}
