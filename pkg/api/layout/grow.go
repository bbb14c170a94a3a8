package layout

import (
	"slices"

	"github.com/kedgeos/kedge/pkg/format/table"
)

// Grow returns the partitions of a disk of ours with its state made as large
// as a disk of diskSize bytes allows, and whether that is more than it had. It
// is not when another partition lies behind the state.
func Grow(parts []table.Partition, diskSize int64) (grown []table.Partition, more bool) {
	grown = slices.Clone(parts)
	i := slices.IndexFunc(grown, func(p table.Partition) bool { return p.Name == StateName })
	if i < 0 {
		return grown, false
	}
	state := &grown[i]
	for _, p := range parts {
		if p.Start > state.Start {
			return grown, false
		}
	}
	size := diskSize/Align*Align - Align - state.Start
	if size <= state.Size {
		return grown, false
	}
	state.Size = size
	return grown, true
}
