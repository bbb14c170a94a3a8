// Package storage mounts the further disks that a configuration names.
//
// It decides which disk an item means and whether it may be used; a loop then
// checks, makes and mounts file systems. A disk that holds anything is never
// formatted, and the disk of the system is never taken.
package storage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/sys/block"
)

// ErrMissing means that no disk of this machine fits an item; one may yet
// appear.
var ErrMissing = errors.New("no such disk")

// A Device is a disk or a partition.
type Device struct {
	install.Disk                  // of a partition: Name, Path, Links, Size and ReadOnly only
	Parent       string           // of a partition: the name of its disk
	System       bool             // the disk of the running or an installed system, or a part of it
	FS           block.FileSystem // Type is "" when there is none that we know
	Blank        bool             // both ends hold nothing, or what we began to make and did not end
}

// A Plan is what is done for one item.
type Plan struct {
	Device  string // path
	Type    string // of the file system
	Make    bool   // it is made first
	Label   string // of a new one
	Target  string
	Options string
}

// Decide says what is done for an item. The error wraps ErrMissing when no
// device fits.
func Decide(item config.Storage, devices []Device) (Plan, error) {
	d, err := find(item, devices)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Device: d.Path, Type: d.FS.Type, Target: item.Path, Options: "nosuid,nodev"}
	switch {
	case d.System:
		return Plan{}, fmt.Errorf("%s belongs to this system", d.Path)
	case d.FS.Type == "":
		if err := makeable(item, d); err != nil {
			return Plan{}, err
		}
		p.Make, p.Label, p.Type = true, item.Label, item.Filesystem
		if p.Type == "" {
			p.Type = "ext4"
		}
	case d.FS.Type != "ext4" && d.FS.Type != "vfat":
		return Plan{}, fmt.Errorf("%s holds %s, which is not for this", d.Path, d.FS.Type)
	case item.Filesystem != "" && item.Filesystem != d.FS.Type:
		return Plan{}, fmt.Errorf("%s holds %s, not %s; nothing that holds data is formatted", d.Path, d.FS.Type, item.Filesystem)
	case item.Label != "" && !sameLabel(d.FS, item.Label):
		return Plan{}, fmt.Errorf("%s holds a file system labelled %q, not %q", d.Path, d.FS.Label, item.Label)
	}
	if p.Type == "ext4" {
		p.Options += ",noatime"
	}
	if item.Options != "" {
		p.Options += "," + item.Options
	}
	if len(p.Label) > 11 && p.Type == "vfat" {
		return Plan{}, fmt.Errorf("label %q is too long for vfat: 11 letters", p.Label)
	}
	return p, nil
}

// sameLabel compares labels; FAT keeps them in capitals.
func sameLabel(fs block.FileSystem, label string) bool {
	return fs.Label == label || fs.Type == "vfat" && strings.EqualFold(fs.Label, label)
}

// makeable tells why no file system is made on a device without one that we
// know.
func makeable(item config.Storage, d Device) error {
	switch {
	case len(d.Parts) > 0:
		return fmt.Errorf("%s has a partition table with %d partitions; storage.device can name one", d.Path, len(d.Parts))
	case !d.Blank:
		return fmt.Errorf("%s is not blank and holds no ext4 or vfat; nothing that holds data is formatted (%s)", d.Path, zeroBoth(d.Path, d.Size))
	case item.Format == config.FormatNever:
		return fmt.Errorf("%s is blank, and format: never is set", d.Path)
	case d.ReadOnly:
		return fmt.Errorf("%s is blank and read-only", d.Path)
	}
	return nil
}

// zeroBoth says how a device becomes blank for us: by zeros at both ends. wipefs
// writes over the marks that it knows, and leaves the rest.
func zeroBoth(path string, size int64) string {
	const sector, count = 512, 2048
	first := fmt.Sprintf("dd if=/dev/zero of=%s bs=%d count=%d", path, sector, count)
	return fmt.Sprintf("%q, and then the same with seek=%d, makes it blank", first, max(size/sector-count, 0))
}

// find returns the one device that an item means.
func find(item config.Storage, devices []Device) (Device, error) {
	var fits func(Device) bool
	var what string
	switch {
	case item.Device != "":
		what = item.Device
		fits = func(d Device) bool { return d.Path == item.Device || slices.Contains(d.Links, item.Device) }
	case item.Match != config.DiskMatch{}:
		what = "match"
		fits = func(d Device) bool {
			usb := d.Transport == "usb" && item.Match.Transport == ""
			return d.Parent == "" && !d.System && !usb && install.Matches(d.Disk, item.Match)
		}
	case item.Label != "":
		what = "label " + item.Label
		fits = func(d Device) bool { return d.FS.Type != "" && sameLabel(d.FS, item.Label) }
	default:
		return Device{}, errors.New("which disk? device, match or label says so")
	}
	var found []Device
	for _, d := range devices {
		if fits(d) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return Device{}, fmt.Errorf("%w: %s: this machine has %s", ErrMissing, what, names(devices))
	case 1:
		return found[0], nil
	}
	return Device{}, fmt.Errorf("%s fits more than one disk: %s", what, names(found))
}

func names(devices []Device) string {
	var all []string
	for _, d := range devices {
		if d.Parent == "" {
			all = append(all, d.Disk.String())
		}
	}
	if len(all) == 0 {
		return "no disk"
	}
	return strings.Join(all, "; ")
}

// A Machine is what Mount needs of one.
type Machine interface {
	Devices() ([]Device, error)
	// Mounted returns the device mounted at a path, "" for none.
	Mounted(target string) (string, error)
	// Check mends a file system without losing anything, or says that it cannot.
	Check(ctx context.Context, kind, device string) error
	Make(ctx context.Context, kind, device, label string) error
	// Mount makes the folder too.
	Mount(kind, device, target, options string) error
}

// A Failure is an item that is not mounted.
type Failure struct {
	Index int // in the list
	Item  config.Storage
	Err   error
}

// Mount mounts the items that are not mounted yet, those nearer to the root
// first, and returns what failed. While a disk is missing it looks again, until
// patience is over or ctx ends.
func Mount(ctx context.Context, m Machine, items []config.Storage, patience, pause time.Duration) []Failure {
	for end := time.Now().Add(patience); ; {
		failures := mountAll(ctx, m, items)
		missing := slices.ContainsFunc(failures, func(f Failure) bool { return errors.Is(f.Err, ErrMissing) })
		if !missing || !time.Now().Add(pause).Before(end) {
			return failures
		}
		select {
		case <-ctx.Done():
			return failures
		case <-time.After(pause):
		}
	}
}

func mountAll(ctx context.Context, m Machine, items []config.Storage) []Failure {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return depth(items[a].Path) - depth(items[b].Path) })
	var failures []Failure
	devices, err := m.Devices()
	taken := map[string]string{} // device to path
	for _, i := range order {
		if err := mountOne(ctx, m, items[i], devices, err, taken); err != nil {
			failures = append(failures, Failure{i, items[i], err})
		}
	}
	slices.SortFunc(failures, func(a, b Failure) int { return a.Index - b.Index })
	return failures
}

func depth(p string) int { return strings.Count(path.Clean(p), "/") }

func mountOne(ctx context.Context, m Machine, item config.Storage, devices []Device, listed error, taken map[string]string) error {
	source, err := m.Mounted(item.Path)
	if err != nil || source != "" {
		taken[source] = item.Path
		return err
	}
	if listed != nil {
		return listed
	}
	p, err := Decide(item, devices)
	if err != nil {
		return err
	}
	if other, twice := taken[p.Device]; twice {
		return fmt.Errorf("%s is mounted at %s already", p.Device, other)
	}
	if p.Make {
		err = m.Make(ctx, p.Type, p.Device, p.Label)
	} else {
		err = m.Check(ctx, p.Type, p.Device)
	}
	if err == nil {
		err = m.Mount(p.Type, p.Device, p.Target, p.Options)
	}
	if err == nil {
		taken[p.Device] = item.Path
	}
	return err
}
