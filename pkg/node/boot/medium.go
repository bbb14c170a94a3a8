package boot

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/sys/block"
)

// A Refusal says why a device is not the medium.
type Refusal struct {
	Device string
	Reason error
}

func (r Refusal) String() string { return fmt.Sprintf("%s: %v", r.Device, r.Reason) }

// A Search looks for the medium whose release has an ID. It remembers what it
// looked at, so that looking again is cheap.
type Search struct {
	ID        string
	Slot      string // that the boot loader chose; "" for a medium, which a slot is not
	Partition string // unique ID of the slot's partition, if the boot loader knew it
	refused   map[block.Device]error
}

// errRead marks a device that could not be read; another look may help.
var errRead = errors.New("read")

// Look goes through the devices and returns the first that is the medium.
func (s *Search) Look(devices []block.Device, open func(path string) (io.ReaderAt, io.Closer, error)) (block.Device, bool) {
	seen := map[block.Device]error{}
	defer func() { s.refused = seen }()
	for _, d := range devices {
		reason, known := s.refused[d]
		switch {
		case !s.place(d):
			reason = errors.New("not where this kernel was started from")
		case !known || errors.Is(reason, errRead):
			reason = judgeDevice(d, s.ID, open)
		}
		if reason == nil {
			return d, true
		}
		seen[d] = reason
	}
	return block.Device{}, false
}

// place tells whether a device can be what the boot loader read: the slot it
// chose, or a medium. An installed system may hold the same release as a stick.
func (s *Search) place(d block.Device) bool {
	if s.Slot == "" {
		return d.PartName != layout.SlotAName && d.PartName != layout.SlotBName
	}
	return d.PartName == layout.SlotPartition(s.Slot) && (s.Partition == "" || d.PartUUID == s.Partition)
}

// Refuse takes back that a device is the medium: it was of no use. The next look
// finds it again, unless another fits first, or its root is damaged: no look
// mends that.
func (s *Search) Refuse(d block.Device, reason error) {
	if !errors.Is(reason, errDamaged) {
		reason = fmt.Errorf("%w: %w", errRead, reason)
	}
	s.refused[d] = reason
}

// Refused returns what the last look did not take, by name of the device.
func (s *Search) Refused() []Refusal {
	var all []Refusal
	for d, reason := range s.refused {
		all = append(all, Refusal{d.Path, reason})
	}
	slices.SortFunc(all, func(a, b Refusal) int { return strings.Compare(a.Device, b.Device) })
	return all
}

func judgeDevice(d block.Device, id string, open func(string) (io.ReaderAt, io.Closer, error)) error {
	if d.Size == 0 {
		return errors.New("no medium in it")
	}
	r, closer, err := open(d.Path)
	if err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	defer closer.Close()
	return Judge(r, d.Size, id)
}

// Judge tells why a device of size bytes is not the medium of the release with
// this ID; nil means that it is.
func Judge(r io.ReaderAt, size int64, id string) error {
	volume, err := isoimage.ReadVolume(r)
	if errors.Is(err, isoimage.ErrFormat) {
		return errors.New("no ISO 9660 file system")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	if volume.ID != release.VolumeID {
		return fmt.Errorf("volume is %q, not %q", volume.ID, release.VolumeID)
	}
	extent, err := isoimage.Find(r, size, "/"+release.ManifestPath)
	if err != nil {
		return fmt.Errorf("find %s: %w", release.ManifestPath, err)
	}
	const limit = 1 << 20
	if extent.Size > limit {
		return fmt.Errorf("%s has %d bytes", release.ManifestPath, extent.Size)
	}
	b := make([]byte, extent.Size)
	if _, err := r.ReadAt(b, extent.Offset); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	manifest, err := release.Decode(b)
	if err != nil {
		return err
	}
	if manifest.ID != id {
		return fmt.Errorf("has Kedge %s with id %s, this kernel belongs to id %s", manifest.Version, manifest.ID, id)
	}
	return nil
}
