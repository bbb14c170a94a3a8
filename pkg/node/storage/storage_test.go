package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/sys/block"
)

func disk(name, fs, label string) Device {
	d := Device{Disk: install.Disk{Name: name, Path: "/dev/" + name, Size: 500e9, Transport: "sata", Serial: "S-" + name}, Blank: fs == "blank"}
	if fs != "blank" && fs != "data" {
		d.FS = block.FileSystem{Type: fs, Label: label}
	}
	return d
}

func partitionOf(parent, name, fs, label string) Device {
	d := disk(name, fs, label)
	d.Parent, d.Transport, d.Serial = parent, "", ""
	return d
}

func TestDecide(t *testing.T) {
	system, tabled, usb, readOnly := disk("sda", "data", ""), disk("sdd", "data", ""), disk("sde", "blank", ""), disk("sdf", "blank", "")
	system.System, usb.Transport, readOnly.ReadOnly = true, "usb", true
	tabled.Parts = make([]table.Partition, 2)
	linked := disk("sdg", "ext4", "")
	linked.Links = []string{"/dev/disk/by-id/x"}
	state := partitionOf("sda", "sda5", "ext4", "KEDGE-STATE")
	state.System = true
	all := []Device{
		system, disk("sdb", "blank", ""), disk("sdc", "ext4", "data"), tabled, usb, readOnly, linked, disk("sdh", "data", ""), disk("sdi", "squashfs", ""),
		state, partitionOf("sdd", "sdd1", "vfat", "USB"), partitionOf("sdd", "sdd2", "blank", ""),
	}
	serial := func(s string) config.DiskMatch { return config.DiskMatch{Serial: s} }
	for _, c := range []struct {
		name string
		item config.Storage
		want string // plan, or a part of the error
	}{
		{"blank disk", config.Storage{Device: "/dev/sdb"}, "make ext4 /dev/sdb nosuid,nodev,noatime"},
		{"blank disk, all said", config.Storage{Device: "/dev/sdb", Filesystem: "vfat", Label: "PLANT", Options: "ro", Format: "if_blank"}, "make vfat /dev/sdb nosuid,nodev,ro PLANT"},
		{"blank disk, never", config.Storage{Device: "/dev/sdb", Format: "never"}, "! /dev/sdb is blank, and format: never is set"},
		{"label too long", config.Storage{Device: "/dev/sdb", Filesystem: "vfat", Label: "PLANT-FLOOR-1"}, "! too long for vfat"},
		{"file system that is there", config.Storage{Match: serial("s-SDC")}, "mount ext4 /dev/sdc nosuid,nodev,noatime"},
		{"the same by its label", config.Storage{Label: "data"}, "mount ext4 /dev/sdc nosuid,nodev,noatime"},
		{"a partition by its label", config.Storage{Label: "usb"}, "mount vfat /dev/sdd1 nosuid,nodev"},
		{"by link", config.Storage{Device: "/dev/disk/by-id/x", Options: "discard"}, "mount ext4 /dev/sdg nosuid,nodev,noatime,discard"},
		{"a partition", config.Storage{Device: "/dev/sdd2"}, "make ext4 /dev/sdd2 nosuid,nodev,noatime"},
		{"a partition is not matched", config.Storage{Match: serial("S-sdd1")}, "! no such disk"},
		{"other kind", config.Storage{Device: "/dev/sdc", Filesystem: "vfat"}, "! /dev/sdc holds ext4, not vfat"},
		{"other label", config.Storage{Device: "/dev/sdc", Label: "b"}, `! labelled "data", not "b"`},
		{"unknown data", config.Storage{Device: "/dev/sdh"}, `! ("dd if=/dev/zero of=/dev/sdh bs=512 count=2048", and then the same with seek=976560452, makes it blank)`},
		{"another file system", config.Storage{Device: "/dev/sdi"}, "! holds squashfs"},
		{"a partition table", config.Storage{Device: "/dev/sdd"}, "! has a partition table with 2 partitions"},
		{"read-only", config.Storage{Device: "/dev/sdf"}, "! blank and read-only"},
		{"the system's disk", config.Storage{Device: "/dev/sda"}, "! belongs to this system"},
		{"the system's state", config.Storage{Label: "KEDGE-STATE"}, "! belongs to this system"},
		{"the system's disk is not matched", config.Storage{Match: serial("S-sda")}, "! no such disk"},
		{"USB is not matched", config.Storage{Match: serial("S-sde")}, "! no such disk"},
		{"USB by transport", config.Storage{Match: config.DiskMatch{Transport: "usb"}}, "make ext4 /dev/sde nosuid,nodev,noatime"},
		{"more than one", config.Storage{Match: config.DiskMatch{Transport: "sata"}}, "! fits more than one disk: /dev/sdb 500.0 GB sata serial S-sdb; /dev/sdc"},
		{"not there", config.Storage{Device: "/dev/sdx"}, "! no such disk: /dev/sdx: this machine has /dev/sda"},
		{"nothing said", config.Storage{}, "! which disk?"},
	} {
		p, err := Decide(c.item, all)
		got := fmt.Sprintf("mount %s %s %s", p.Type, p.Device, p.Options)
		if p.Make {
			got = strings.TrimSpace(fmt.Sprintf("make %s %s %s %s", p.Type, p.Device, p.Options, p.Label))
		}
		if err != nil {
			got = "! " + err.Error()
		}
		says, bad := strings.CutPrefix(c.want, "! ")
		if bad != (err != nil) || !strings.Contains(got, says) || !bad && got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if missing := strings.Contains(c.want, "no such disk"); errors.Is(err, ErrMissing) != missing {
			t.Errorf("%s: ErrMissing is %v: %v", c.name, !missing, err)
		}
	}
}

// machine notes what it is asked.
type machine struct {
	devices []Device
	late    []Device // appear with the second look
	looks   int
	mounted map[string]string
	log     []string
	fail    string
}

func (m *machine) Devices() ([]Device, error) {
	if m.looks++; m.looks > 1 {
		return append(m.devices, m.late...), nil
	}
	return m.devices, nil
}
func (m *machine) Mounted(target string) (string, error) { return m.mounted[target], nil }
func (m *machine) note(line string) error {
	m.log = append(m.log, line)
	if m.fail != "" && strings.HasPrefix(line, m.fail) {
		return errors.New("input/output error")
	}
	return nil
}
func (m *machine) Check(_ context.Context, kind, device string) error {
	return m.note("check " + kind + " " + device)
}
func (m *machine) Make(_ context.Context, kind, device, label string) error {
	return m.note("make " + kind + " " + device + " " + label)
}
func (m *machine) Mount(kind, device, target, options string) error {
	m.mounted[target] = device
	return m.note("mount " + kind + " " + device + " " + target + " " + options)
}

func TestMount(t *testing.T) {
	items := []config.Storage{
		{Path: "/var/a/deep", Device: "/dev/sdb"},
		{Path: "/var/a", Device: "/dev/sdc"},
		{Path: "/var/twice", Device: "/dev/sdc"},
		{Path: "/var/late", Device: "/dev/sdz"},
		{Path: "/var/gone", Device: "/dev/sdy"},
	}
	m := &machine{devices: []Device{disk("sdb", "blank", ""), disk("sdc", "ext4", "")}, late: []Device{disk("sdz", "vfat", "")}, mounted: map[string]string{}}
	failures := Mount(context.Background(), m, items, 100*time.Millisecond, 10*time.Millisecond)
	const want = `check ext4 /dev/sdc
mount ext4 /dev/sdc /var/a nosuid,nodev,noatime
make ext4 /dev/sdb 
mount ext4 /dev/sdb /var/a/deep nosuid,nodev,noatime
check vfat /dev/sdz
mount vfat /dev/sdz /var/late nosuid,nodev`
	if got := strings.Join(m.log, "\n"); got != want {
		t.Errorf("did\n%s\nwant\n%s", got, want)
	}
	if len(failures) != 2 || failures[0].Index != 2 || failures[1].Index != 4 || !errors.Is(failures[1].Err, ErrMissing) ||
		!strings.Contains(failures[0].Err.Error(), "/dev/sdc is mounted at /var/a already") {
		t.Errorf("failures = %v", failures)
	}
	// An agent that starts again finds all mounted, and touches nothing.
	m.log = nil
	if failures := Mount(context.Background(), m, items[:2], 0, time.Second); len(failures) > 0 || len(m.log) > 0 {
		t.Errorf("once more: %v, %v", failures, m.log)
	}
	// What does not check is not mounted.
	m = &machine{devices: m.devices, mounted: map[string]string{}, fail: "check"}
	if failures := Mount(context.Background(), m, items[1:2], 0, time.Second); len(failures) != 1 || len(m.log) != 1 {
		t.Errorf("damaged: %v, %v", failures, m.log)
	}
}

// TestLook: what makes a device blank, and what does not.
func TestLook(t *testing.T) {
	const size = 8 << 20
	path := filepath.Join(t.TempDir(), "device")
	look := func() Device {
		d := Device{Disk: install.Disk{Path: path, Size: size}}
		d.look(path)
		return d
	}
	put := func(at int64, b ...byte) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
	}
	put(0, 0)
	if !look().Blank {
		t.Error("zeros are not blank")
	}
	for _, at := range []int64{0, 65 << 10, size - 512} {
		put(at, 1)
		if look().Blank {
			t.Errorf("blank with a byte at %d", at)
		}
		put(at, 0)
	}
	// A power cut while a file system was made: it is begun anew.
	put(4096, 1)
	if err := mark(path); err != nil {
		t.Fatal(err)
	}
	if d := look(); !d.Blank {
		t.Error("with our mark: not blank")
	}
	if err := (System{}).Make(t.Context(), "ext4", path, "plant"); err != nil {
		t.Fatal(err)
	}
	if d := look(); d.FS.Type != "ext4" || d.FS.Label != "plant" || d.Blank {
		t.Errorf("made: %+v", d)
	}
	marks := func() int {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(b, markText)
	}
	if n := marks(); n > 0 {
		t.Errorf("made: %d marks stay", n)
	}
	// The power cut came when only the mark was left to take away.
	if err := mark(path); err != nil {
		t.Fatal(err)
	}
	if d := look(); d.FS.Type != "ext4" || d.Blank {
		t.Errorf("with a mark that stayed: %+v", d)
	}
	if err := (System{}).Check(t.Context(), "ext4", path); err != nil || marks() > 0 {
		t.Errorf("Check = %v, %d marks stay", err, marks())
	}
	// What is said to make it blank does.
	put(size-1, 1)
	dd := strings.Fields(strings.Split(zeroBoth(path, size), `"`)[1])
	_, seek, _ := strings.Cut(zeroBoth(path, size), "with ")
	seek, _, _ = strings.Cut(seek, ",")
	for _, more := range []string{"seek=0", seek} {
		if out, err := exec.Command(dd[0], append(dd[1:], more, "conv=notrunc")...).CombinedOutput(); err != nil {
			t.Fatalf("dd: %v\n%s", err, out)
		}
	}
	if !look().Blank {
		t.Error("not blank after dd")
	}
}

// TestMakeKeepsMark: mke2fs leaves the mark alone until it is done.
func TestMakeKeepsMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ext4", "vfat"} {
		if err := errors.Join(os.Truncate(path, 300<<20), mark(path), format(t.Context(), kind, path, "PLANT")); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if !marked(f, 300<<20) {
			t.Errorf("%s: the mark is gone", kind)
		}
		f.Close()
	}
}
