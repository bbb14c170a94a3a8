package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
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
		{"unknown data", config.Storage{Device: "/dev/sdh"}, "! /dev/sdh is not blank"},
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

func TestBlank(t *testing.T) {
	b := make([]byte, 3<<20)
	if !blank(bytes.NewReader(b), 3<<20) {
		t.Error("zeros are not blank")
	}
	for _, at := range []int{0, 65 << 10, 3<<20 - 512} {
		b[at] = 1
		if blank(bytes.NewReader(b), 3<<20) {
			t.Errorf("blank with a byte at %d", at)
		}
		b[at] = 0
	}
	if !blank(bytes.NewReader(b[:4096]), 4096) {
		t.Error("a small one is not blank")
	}
	if f, err := os.Open(t.TempDir()); err != nil || blank(f, 1<<20) {
		t.Errorf("what cannot be read is blank, %v", err)
	}
}
