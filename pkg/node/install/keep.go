package install

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// divided returns the partitions of a disk, and of one of ours the slots in
// which something stands where an image begins.
func divided(disk io.ReaderAt, size int64, sector int) (parts []table.Partition, slots []string) {
	parts, err := table.Read(disk, size, sector)
	if err != nil {
		return nil, nil
	}
	found, err := layout.Find(parts)
	if err != nil {
		return parts, nil
	}
	for _, slot := range []string{layout.SlotA, layout.SlotB} {
		first := make([]byte, 512)
		_, err := disk.ReadAt(first, found[layout.SlotPartition(slot)].Start+isoimage.VolumeOffset)
		if err == nil && !zero(first) {
			slots = append(slots, slot)
		}
	}
	return parts, slots
}

// Has tells whether one of a disk's slots has an image with the release and the
// embedded configuration of i. What cannot be read is not there.
func (d Disk) Has(i *release.Image) bool {
	f, err := os.Open(d.Path)
	if err != nil {
		return false
	}
	defer f.Close()
	return has(f, d.Parts, i)
}

func has(disk io.ReaderAt, parts []table.Partition, i *release.Image) bool {
	want, err := i.Embedded()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(parts, func(p table.Partition) bool {
		if p.Name != layout.SlotAName && p.Name != layout.SlotBName {
			return false
		}
		there, err := release.Open(io.NewSectionReader(disk, p.Start, p.Size), p.Size)
		if err != nil || there.Manifest.ID != i.Manifest.ID {
			return false
		}
		area, err := there.Embedded()
		return err == nil && bytes.Equal(area, want)
	})
}

// Committed returns the slot that a disk of ours starts, from the boot record on
// its EFI system partition, to which nothing is written.
func Committed(d Disk) (string, error) { return committed(d, mountDir, mount.Mount, mount.Unmount) }

func committed(d Disk, dir string, mountAt func(mount.Spec) error, unmount func(string) error) (good string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := mountAt(mount.Spec{Type: "vfat", Source: devicePath(d, d.Parts, layout.ESPName), Target: dir, Options: "ro,nosuid,nodev,noexec"}); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unmount(dir)) }()
	record, _, err := slot.Store{Dir: filepath.Join(dir, slot.Folder)}.Load()
	return record.Good, err
}

// spare returns the slot to write on a disk that keeps its state, so that there is
// a system at all times: the one that holds nothing, or is not the committed one.
func (o Options) spare() string {
	switch o.Disk.only() {
	case layout.SlotA:
		return layout.SlotB
	case layout.SlotB:
		return layout.SlotA
	}
	if o.Committed == layout.SlotA && len(o.Disk.Slots) > 0 {
		return layout.SlotB
	}
	return layout.SlotA
}

// only returns the slot that is the only one to hold something, or "".
func (d Disk) only() string {
	if len(d.Slots) == 1 {
		return d.Slots[0]
	}
	return ""
}
