package install

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
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
		slots  string
		config string
		want   string
	}{
		{"ab", "hostname: a\n", keptLog},
		{"ab", "", bare},
		{"b", "", bare},
		{"", "", bare},
		{"a", "", other(bare)}, // there is a system to start at all times
	} {
		m := &machine{}
		d := installed(t, "sda", "amd64", 0)
		d.Slots = strings.Split(c.slots, "")
		steps, err := Steps(Options{Disk: d, Image: image(t, "amd64"), Config: []byte(c.config), Keep: true})
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
