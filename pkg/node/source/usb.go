package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/sys/block"
)

// Errors of a search.
var (
	ErrNoMedium = errors.New("there is no USB stick and no disc")
	ErrNoImage  = errors.New("there is no image")
	ErrSeveral  = errors.New("several images fit")
)

// A Machine is what a search needs of the system.
type Machine interface {
	// Devices returns the block devices, once those that are about to appear are
	// there.
	Devices(ctx context.Context) ([]block.Device, error)
	Transport(whole block.Device) string // as block.Hardware's
	Probe(d block.Device) (block.FileSystem, error)
	Open(d block.Device) (*os.File, error)
	// OpenImages opens the files on a file system whose names Wanted takes, read
	// only. They stay open when the file system is out of sight again.
	OpenImages(d block.Device, kind string) ([]*os.File, error)
}

// Wanted tells whether a path below the top of a file system may be an image:
// *.iso in the top folder or in kedge/, in any case.
func Wanted(name string) bool {
	dir, file := path.Split(strings.ToLower(name))
	return (dir == "" || dir == "kedge/") && strings.HasSuffix(file, ".iso") && !strings.HasPrefix(file, ".")
}

// Places returns the devices that a stick or disc of images can be: those on
// USB, removable ones and optical drives with a medium, but nothing of the disk
// that holds what runs, and no partition of an installed system.
func Places(devices []block.Device, running string, transport func(whole block.Device) string) []block.Device {
	whole := map[string]block.Device{}
	own := ""
	for _, d := range devices {
		if !d.Partition {
			whole[d.Name] = d
		}
		if d.Path == running {
			own = disk(d)
		}
	}
	installed := map[string]bool{own: own != ""}
	for _, d := range devices {
		if slices.Contains([]string{layout.SlotAName, layout.SlotBName, layout.StateName}, d.PartName) {
			installed[disk(d)] = true
		}
	}
	var places []block.Device
	for _, d := range devices {
		w := whole[disk(d)]
		loose := w.Removable || strings.HasPrefix(w.Name, "sr") || transport(w) == "usb"
		if d.Size > 0 && loose && !installed[disk(d)] {
			places = append(places, d)
		}
	}
	return places
}

// disk returns the name of the disk that a device is, or lies on.
func disk(d block.Device) string {
	if d.Partition {
		return d.Parent
	}
	return d.Name
}

// A candidate is an image that was found.
type candidate struct {
	name    string // for a person
	file    *os.File
	release release.Manifest
	refused error // why it is not taken
}

// Search returns the image on a stick or disc that is meant: the only one that
// judge takes, or the newest of them. Running is the device of the running
// medium or slot. The error wraps ErrNoMedium, ErrNoImage or ErrSeveral, or says
// why none was taken.
func Search(ctx context.Context, m Machine, running string, judge func(*release.Image) error) (*os.File, string, error) {
	devices, err := m.Devices(ctx)
	if err != nil {
		return nil, "", err
	}
	places := Places(devices, running, m.Transport)
	if len(places) == 0 {
		return nil, "", fmt.Errorf("find an image: %w", ErrNoMedium)
	}
	found, looked := look(m, places)
	defer func() {
		for _, c := range found {
			c.file.Close()
		}
	}()
	for i := range found {
		found[i].refused = found[i].judge(judge)
	}
	chosen, err := choose(found)
	if errors.Is(err, ErrNoImage) {
		return nil, "", fmt.Errorf("find an image: %w: %s", err, strings.Join(looked, "; "))
	}
	if err != nil {
		return nil, "", fmt.Errorf("find an image: %w", err)
	}
	taken := found[chosen]
	found = slices.Delete(found, chosen, chosen+1)
	return taken.file, taken.name, nil
}

// look opens what may be an image, and notes what it saw.
func look(m Machine, places []block.Device) (found []candidate, looked []string) {
	images := map[string]bool{} // disks that are one
	for _, d := range places {
		if images[d.Parent] && d.Partition {
			continue
		}
		fs, err := m.Probe(d)
		switch {
		case errors.Is(err, block.ErrUnknown):
			continue // as a disk with partitions, which come by themselves
		case err != nil:
			looked = append(looked, fmt.Sprintf("%s: %v", d.Path, err))
		case fs.Type == "iso9660" && fs.Label == release.VolumeID:
			images[d.Name] = true
			f, err := m.Open(d)
			if err != nil {
				looked = append(looked, fmt.Sprintf("%s: %v", d.Path, err))
				continue
			}
			found = append(found, candidate{name: d.Path, file: f})
		case slices.Contains([]string{"vfat", "ext4", "iso9660"}, fs.Type):
			files, err := m.OpenImages(d, fs.Type)
			if err != nil {
				looked = append(looked, fmt.Sprintf("%s: %v", d.Path, err))
			} else if len(files) == 0 {
				looked = append(looked, fmt.Sprintf("%s (%s) has no *.iso in its top folder or in kedge/", d.Path, fs.Type))
			}
			for _, f := range files {
				found = append(found, candidate{name: path.Base(f.Name()) + " on " + d.Path, file: f})
			}
		default:
			looked = append(looked, fmt.Sprintf("%s: %s is no file system to look into: FAT, ext4 and ISO 9660 are", d.Path, fs.Type))
		}
	}
	return found, looked
}

func (c *candidate) judge(judge func(*release.Image) error) error {
	size, err := c.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	i, err := release.Open(c.file, size)
	if err != nil {
		return fmt.Errorf("open image %s: %w", c.name, err)
	}
	c.release = i.Manifest
	return judge(i)
}

// choose returns the place of the image that is meant.
func choose(all []candidate) (int, error) {
	if len(all) == 0 {
		return 0, ErrNoImage
	}
	best, rivals := -1, []int(nil)
	for i, c := range all {
		if c.refused != nil {
			continue
		}
		switch {
		case best < 0 || newer(c.release.Version, all[best].release.Version):
			best, rivals = i, nil
		case c.release.ID != all[best].release.ID && !newer(all[best].release.Version, c.release.Version):
			rivals = append(rivals, i)
		}
	}
	if best < 0 {
		return 0, refusals(all)
	}
	if len(rivals) > 0 {
		var names []string
		for _, i := range append([]int{best}, rivals...) {
			names = append(names, fmt.Sprintf("%s (%s, %s)", all[i].name, all[i].release.Version, all[i].release.ID))
		}
		return 0, fmt.Errorf("%w: %s", ErrSeveral, strings.Join(names, ", "))
	}
	return best, nil
}

// newer compares versions; one that is not in the form of semver.org is newer
// than none.
func newer(a, b string) bool {
	return semver.Compare("v"+strings.TrimPrefix(a, "v"), "v"+strings.TrimPrefix(b, "v")) > 0
}

// refusals says why none of the images was taken.
func refusals(all []candidate) error {
	if len(all) == 1 {
		return fmt.Errorf("%s: %w", all[0].name, all[0].refused)
	}
	format, args := "none of %d images fits", []any{len(all)}
	for i, c := range all {
		format += map[bool]string{true: ": ", false: "; "}[i == 0] + "%s: %w"
		args = append(args, c.name, c.refused)
	}
	return fmt.Errorf(format, args...)
}
