package install

import (
	"bytes"
	"io"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
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
		if err == nil && len(bytes.Trim(first, "\x00")) > 0 {
			slots = append(slots, slot)
		}
	}
	return parts, slots
}

// only returns the slot that is the only one to hold something, or "".
func (d Disk) only() string {
	if len(d.Slots) == 1 {
		return d.Slots[0]
	}
	return ""
}
