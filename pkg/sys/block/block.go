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
)

// A Device is one block device, whole or partition.
type Device struct {
	Name      string // e.g. "sda1"
	Path      string // e.g. "/dev/sda1"
	Size      int64  // bytes; 0 for a drive without a medium
	Partition bool
	Removable bool
	Parent    string // of a partition: the whole disk
}

// made is the prefix of devices that the kernel makes up, not hardware.
var made = []string{"loop", "ram", "zram", "nbd", "dm-", "md"}

// List returns the block devices of the hardware, whole disks in front of
// their partitions.
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
		if d, err := describe(filepath.Join(class, e.Name())); err == nil {
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
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			d.Parent = filepath.Base(filepath.Dir(real))
		}
	}
	removable, _ := attribute(dir, "removable")
	d.Removable = removable == 1
	return d, nil
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
