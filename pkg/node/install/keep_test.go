package install

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/layout"
)

// installed is a disk with a system of ours.
func installed(t *testing.T, name, arch string, image int64) Disk {
	t.Helper()
	d := blankDisk(name, 64*gb)
	parts, err := layout.Plan(arch, d.Size, image)
	if err != nil {
		t.Fatal(err)
	}
	d.Parts, d.Ours, d.Holds = parts, true, []string{"an installed Kedge"}
	return d
}

func TestChooseKeeps(t *testing.T) {
	ours := installed(t, "sda", "amd64", 0)
	foreign := blankDisk("sdb", 100*gb)
	foreign.Foreign = "not a disk of Kedge: KEDGE-ESP is missing"
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
		{"another by name", []Disk{foreign, ours}, config.Install{NoFormat: true, Device: "/dev/sdb"}, "/dev/sdb", ErrForeign, "KEDGE-ESP is missing; without install.no_format"},
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
unmount
patch /dev/sda4 32768+512
copy to /dev/sda3
format vfat /dev/sda2 KEDGE-ESP
mount vfat /dev/sda2
record /run/kedge/install/kedge a
write /run/kedge/install/kedge/grub.cfg
write /run/kedge/install/EFI/BOOT/BOOTX64.EFI
unmount
patch /dev/sda1 0+2048
patch /dev/sda 0+440
patch /dev/sda3 32768+512`

// TestStepsKeep: neither the partitions nor the file system of the state are
// touched, and without a configuration nothing in it is.
func TestStepsKeep(t *testing.T) {
	_, more, _ := strings.Cut(keptLog, "unmount\n")
	for _, c := range []struct {
		config string
		want   string
	}{{"hostname: a\n", keptLog}, {"", "verify\n" + more}} {
		m := &machine{}
		steps, err := Steps(Options{Disk: installed(t, "sda", "amd64", 0), Image: image(t, "amd64"), Config: []byte(c.config), Keep: true})
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
