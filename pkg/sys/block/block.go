// Package block finds block devices, tells which file system is on them, and
// attaches files as loop devices.
//
// Sizes are bytes. A device is named as in /sys/class/block, without /dev.
// Source: sysfs(5), loop(4), and for the file systems see probe.go.
package block

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kedgeos/kedge/pkg/format/table"
)

// A Device is one block device, whole or partition.
type Device struct {
	Name      string // e.g. "sda1"
	Path      string // e.g. "/dev/sda1"
	Size      int64  // bytes; 0 for a drive without a medium
	Partition bool
	Removable bool
	ReadOnly  bool
	Parent    string // of a partition: the name of the whole disk
	Number    int    // of a partition: its place in the partition table, from 1
	PartName  string // of a partition: its name in the partition table
	PartUUID  string // of a partition: its unique ID there, lower case; see ReadPartUUIDs
}

// made is the prefix of devices that the kernel makes up, not hardware.
var made = []string{"loop", "ram", "zram", "nbd", "dm-", "md"}

// List returns the block devices of the hardware, whole disks in front of
// their partitions. Devices that the kernel hides have no /dev: the single ways
// to an NVMe disk with several, such as nvme0c0n1, stand behind one that is shown.
func List() ([]Device, error) { return list("/sys/class/block") }

func list(class string) ([]Device, error) {
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	var devices []Device
	for _, e := range entries {
		if slices.ContainsFunc(made, func(p string) bool { return strings.HasPrefix(e.Name(), p) }) {
			continue
		}
		dir := filepath.Join(class, e.Name())
		if hidden, _ := attribute(dir, "hidden"); hidden == 1 {
			continue
		}
		if d, err := describe(dir); err == nil {
			devices = append(devices, d)
		}
	}
	slices.SortStableFunc(devices, func(a, b Device) int { return len(a.Parent) - len(b.Parent) })
	return devices, nil
}

// describe reads one folder of /sys/class/block. A device may go at any time.
func describe(dir string) (Device, error) {
	name := filepath.Base(dir)
	sectors, err := attribute(dir, "size")
	if err != nil {
		return Device{}, err
	}
	// The kernel writes the slash of a name such as cciss/c0d0 as "!".
	d := Device{Name: name, Path: "/dev/" + strings.ReplaceAll(name, "!", "/"), Size: sectors * 512}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		d.Partition = true
		d.PartName = partitionLabel(dir)
		number, _ := attribute(dir, "partition")
		d.Number = int(number)
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			d.Parent = filepath.Base(filepath.Dir(real))
		}
	}
	removable, _ := attribute(dir, "removable")
	d.Removable = removable == 1
	readOnly, _ := attribute(dir, "ro")
	d.ReadOnly = readOnly == 1
	return d, nil
}

// partitionLabel returns the name that the partition table gives a partition.
func partitionLabel(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "uevent"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "PARTNAME="); ok {
			return name
		}
	}
	return ""
}

// ReadPartUUIDs fills in the unique IDs of partitions, from the tables of their
// disks: the kernel does not tell them. A table that cannot be read leaves its
// partitions without.
func ReadPartUUIDs(devices []Device) {
	tables := map[string][]table.Partition{}
	for _, d := range devices {
		if !d.Partition && d.Size > 0 {
			tables[d.Name] = readTable(d)
		}
	}
	for i, d := range devices {
		for _, p := range tables[d.Parent] {
			if d.Partition && p.Index == d.Number {
				devices[i].PartUUID = strings.ToLower(p.ID)
			}
		}
	}
}

func readTable(d Device) []table.Partition {
	f, err := os.Open(d.Path)
	if err != nil {
		return nil
	}
	defer f.Close()
	sector, err := SectorSize(d.Path)
	if err != nil {
		return nil
	}
	parts, err := table.Read(f, d.Size, sector)
	if err != nil {
		return nil
	}
	return parts
}

func attribute(dir, name string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// A Labelled is a device with the file system found on it.
type Labelled struct {
	Device
	FileSystem
}

// Find returns the devices whose file system has this label, without regard to
// case. A device that cannot be read is passed over. When a whole disk and a
// partition of it both match, as on a hybrid ISO, the partition is left out.
func Find(label string) ([]Labelled, error) {
	devices, err := List()
	if err != nil {
		return nil, err
	}
	var found []Labelled
	for _, d := range devices {
		fs, err := ProbeDevice(d)
		if err != nil || !strings.EqualFold(fs.Label, label) {
			continue
		}
		if !slices.ContainsFunc(found, func(f Labelled) bool { return f.Name == d.Parent }) {
			found = append(found, Labelled{d, fs})
		}
	}
	return found, nil
}

// ProbeDevice reads which file system is on a device. The error wraps
// ErrUnknown when there is none that we know.
func ProbeDevice(d Device) (FileSystem, error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return FileSystem{}, err
	}
	defer f.Close()
	return Probe(f)
}
