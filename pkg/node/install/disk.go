package install

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/table"
)

// Errors of Choose that a caller may answer with a question.
var (
	ErrNoDisk   = errors.New("no disk to install to")
	ErrDoubt    = errors.New("more than one disk fits")
	ErrTooSmall = errors.New("disk is too small")
	ErrData     = errors.New("disk holds data")
	ErrForeign  = errors.New("no_format wants a disk with an installed Kedge")
	ErrChanged  = errors.New("disk is not what it was when it was chosen")
)

// A Disk is a whole disk of the machine.
type Disk struct {
	Name             string   // without /dev
	Path             string   // e.g. /dev/nvme0n1
	Links            []string // other names of it, such as /dev/disk/by-id/…
	Size             int64    // bytes
	Sector           int      // logical block size in bytes; 0 means 512
	Model, Serial    string
	Transport        string // usb, nvme, sata, mmc, virtio or scsi
	Removable        bool
	ReadOnly, Medium bool     // cannot be written to; this system runs from it
	Holds            []string // what is on it, for a person; empty when it is blank
	Ours             bool     // a system of ours is installed there
	Parts            []table.Partition
	Slots            []string // of a disk of ours: slots that hold something, a or b
}

// String names a disk the way a person tells it from others.
func (d Disk) String() string {
	parts := []string{d.Path, Bytes(d.Size)}
	for _, s := range []string{d.Transport, d.Model} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if d.Serial != "" {
		parts = append(parts, "serial "+d.Serial)
	}
	return strings.Join(parts, " ")
}

// Bytes is a size as disks are sold: powers of 1000.
func Bytes(n int64) string {
	for _, u := range []struct {
		unit string
		size int64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.unit)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// Choose returns the disk that the configuration means. It never takes one of
// several: what is not named must be the only disk that fits, and blank. Need
// is the size in bytes that the system takes. With ErrData the disk is returned
// too.
func Choose(disks []Disk, c config.Install, need int64) (Disk, error) {
	if c.Device != "" {
		return named(disks, c, need)
	}
	var fit []Disk
	var passed []string
	for _, d := range disks {
		why := unfit(d, c.Disk.Match, need)
		if why == "" && d.Transport == "usb" && c.Disk.Match.Transport == "" {
			why = "it is a USB disk; install.disk.match.transport: usb allows it"
		}
		if _, foreign := layout.Find(d.Parts); why == "" && c.NoFormat && foreign != nil {
			why = "install.no_format: " + foreign.Error()
		}
		if why != "" {
			passed = append(passed, d.String()+": "+why)
			continue
		}
		fit = append(fit, d)
	}
	switch {
	case len(fit) == 0 && len(passed) == 0:
		return Disk{}, fmt.Errorf("%w: this machine has none", ErrNoDisk)
	case len(fit) == 0:
		return Disk{}, fmt.Errorf("%w: %s", ErrNoDisk, strings.Join(passed, "; "))
	case len(fit) > 1:
		return Disk{}, fmt.Errorf("%w: %s: name one by install.device, or say more in install.disk.match", ErrDoubt, list(fit))
	}
	return fit[0], permit(fit[0], c)
}

// named returns the disk that install.device names.
func named(disks []Disk, c config.Install, need int64) (Disk, error) {
	i := slices.IndexFunc(disks, func(d Disk) bool { return d.Path == c.Device || slices.Contains(d.Links, c.Device) })
	if i < 0 {
		return Disk{}, fmt.Errorf("%w: install.device %s is not there; this machine has %s", ErrNoDisk, c.Device, list(disks))
	}
	d := disks[i]
	switch why := unfit(d, c.Disk.Match, need); {
	case why == "":
		return d, permit(d, c)
	case d.Size < need:
		return Disk{}, fmt.Errorf("%w: %s", ErrTooSmall, why)
	default:
		return Disk{}, fmt.Errorf("%w: install.device %s: %s", ErrNoDisk, c.Device, why)
	}
}

// permit refuses a disk with data that nobody allowed to lose, and one without
// a state to keep when that is what is wanted.
func permit(d Disk, c config.Install) error {
	if c.NoFormat {
		if _, err := layout.Find(d.Parts); err != nil {
			return fmt.Errorf("%w: %s: %w; without install.no_format it is installed from the start", ErrForeign, d, err)
		}
		return nil
	}
	if len(d.Holds) == 0 || c.Wipe {
		return nil
	}
	return fmt.Errorf("%w: %s has %s: \"install: {wipe: true}\" destroys it", ErrData, d, strings.Join(d.Holds, ", "))
}

func list(disks []Disk) string {
	if len(disks) == 0 {
		return "no disk"
	}
	names := make([]string, len(disks))
	for i, d := range disks {
		names[i] = d.String()
	}
	return strings.Join(names, "; ")
}

// Unchanged returns a chosen disk as it is now, or ErrChanged: between the look
// and the first write a person may have thought for long.
func Unchanged(chosen Disk, now []Disk) (Disk, error) {
	i := slices.IndexFunc(now, func(d Disk) bool { return d.Path == chosen.Path })
	if i < 0 {
		return Disk{}, fmt.Errorf("%w: %s is gone", ErrChanged, chosen)
	}
	if !same(chosen, now[i]) {
		return Disk{}, fmt.Errorf("%w: it was %s with %s, it is %s with %s", ErrChanged, chosen, chosen.content(), now[i], now[i].content())
	}
	return now[i], nil
}

// SameDisks tells whether two looks at a machine saw the same disks.
func SameDisks(a, b []Disk) bool { return slices.EqualFunc(a, b, same) }

func same(a, b Disk) bool {
	return a.Path == b.Path && a.Size == b.Size && a.Serial == b.Serial && slices.Equal(a.Holds, b.Holds)
}

// content is what is on a disk, for a person.
func (d Disk) content() string {
	if len(d.Holds) == 0 {
		return "nothing on it"
	}
	return strings.Join(d.Holds, ", ")
}

// Named tells whether a configuration means one disk only, whatever others
// there are.
func Named(c config.Install) bool { return c.Device != "" || c.Disk.Match.Serial != "" }

// unfit says why a disk cannot be the one, or "".
func unfit(d Disk, m config.DiskMatch, need int64) string {
	switch {
	case d.Medium:
		return "this system runs from it"
	case d.ReadOnly:
		return "it is read-only"
	case d.Size < need:
		return fmt.Sprintf("it has %d bytes, %d are needed", d.Size, need)
	}
	return unlike(d, m)
}

// Matches tells whether a disk is what a configuration describes.
func Matches(d Disk, m config.DiskMatch) bool { return unlike(d, m) == "" }

// unlike says in what a disk is not the one that is described, or "".
func unlike(d Disk, m config.DiskMatch) string {
	switch {
	case !like(m.Serial, d.Serial):
		return fmt.Sprintf("its serial number is %q", d.Serial)
	case !like(m.Model, d.Model):
		return fmt.Sprintf("its model is %q", d.Model)
	case !like(m.Transport, d.Transport):
		return fmt.Sprintf("its transport is %q", d.Transport)
	}
	if low, err := config.ParseSize(m.MinSize); err == nil && low > 0 && d.Size < low {
		return "it is smaller than min_size"
	}
	if high, err := config.ParseSize(m.MaxSize); err == nil && high > 0 && d.Size > high {
		return "it is larger than max_size"
	}
	return ""
}

// like tells whether text matches a pattern of path.Match, without regard to
// case. The empty pattern matches all.
func like(pattern, text string) bool {
	ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(text))
	return pattern == "" || err == nil && ok
}
