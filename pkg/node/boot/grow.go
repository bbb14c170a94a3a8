package boot

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// growPartition makes the state's partition reach to the end of its disk, which
// may be larger than its table says: a virtual disk was enlarged, or an image
// was copied to a larger one. A table with a damaged copy is written again too.
func (s *System) growPartition(state string) error {
	devices, err := block.List()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(devices, func(d block.Device) bool { return d.Path == state && d.Partition && d.PartName == layout.StateName })
	if i < 0 {
		return nil // a whole disk, or a table that is not ours
	}
	part := devices[i]
	i = slices.IndexFunc(devices, func(d block.Device) bool { return d.Name == part.Parent })
	if i < 0 || devices[i].ReadOnly {
		return nil
	}
	disk := devices[i]
	sector, err := block.SectorSize(disk.Path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(disk.Path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("grow %s: %w", state, err)
	}
	defer f.Close()
	now, written, err := growTable(f, disk.Size, sector)
	if err != nil {
		return fmt.Errorf("grow %s: %w", state, err)
	}
	if written {
		s.say("partition table of " + disk.Path + " written again: the disk is larger than it said, or a copy of it was damaged")
	}
	if now.Size <= part.Size {
		return nil
	}
	s.say(fmt.Sprintf("state partition %s grows from %d to %d MiB", state, part.Size>>20, now.Size>>20))
	return block.ResizePartition(disk.Path, now.Index, now.Start, now.Size)
}

// A tableFile is a disk whose table is read and written.
type tableFile interface {
	io.ReaderAt
	io.WriterAt
}

// growTable brings the table of a disk of ours of size bytes up to the size of
// the disk, when that is needed, and returns the state's partition as the table
// has it now. The new backup is complete, at the end of the disk, before the
// primary table is touched: cut off anywhere, one of the two is sound, which
// the kernel takes and the next call mends.
func growTable(disk tableFile, size int64, sector int) (state table.Partition, written bool, err error) {
	id, parts, err := table.ReadID(disk, size, sector)
	if err != nil {
		return state, false, err
	}
	if _, err := layout.Find(parts); err != nil {
		return state, false, err
	}
	parts, more := layout.Grow(parts, size)
	if more || !table.Whole(disk, size, sector) {
		if err := table.Write(disk, size, sector, id, parts); err != nil {
			return state, false, err
		}
		written = true
	}
	i := slices.IndexFunc(parts, func(p table.Partition) bool { return p.Name == layout.StateName })
	return parts[i], written, nil
}

// worthGrowing is how much larger than its file system a device must be, in
// bytes: the rest of a block group may not be of use.
const worthGrowing = 128 << 20

// growFileSystem makes the state's file system, mounted at target, as large as
// its device. It looks at every boot: the power may have gone before.
func (s *System) growFileSystem(state, target string) error {
	f, err := os.Open(state)
	if err != nil {
		return err
	}
	defer f.Close()
	has, err := block.Ext4Size(f)
	if err != nil {
		return fmt.Errorf("grow %s: %w", state, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size < has+worthGrowing {
		return err
	}
	s.say(fmt.Sprintf("state file system %s grows from %d to %d MiB", state, has>>20, size>>20))
	return mount.GrowExt4(target, size)
}
