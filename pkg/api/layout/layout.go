// Package layout says how a disk of ours is divided: the names, numbers, types
// and sizes of its partitions, which installer, boot loader, PID 1 and agent
// must agree on.
//
// Numbers are the same on every architecture, since GRUB names partitions by
// them. Sizes and starts are bytes, all multiples of Align. What a slot holds
// is an image, at byte 0 of the partition; the rest of it is not looked at.
package layout

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/format/table"
)

// Names of the partitions. StateName is the label of its file system too.
const (
	BIOSName  = "KEDGE-BIOS"
	ESPName   = "KEDGE-ESP"
	SlotAName = "KEDGE-A"
	SlotBName = "KEDGE-B"
	StateName = "KEDGE-STATE"
)

// Numbers of the partitions that GRUB names.
const (
	ESPNumber   = 2
	SlotANumber = 3
	SlotBNumber = 4
)

// BootFolder is where GRUB's configuration and the boot record lie on the ESP.
const BootFolder = "kedge"

// Types of the partitions. BIOS boot is from the GRUB manual, section "BIOS
// installation", the ESP from UEFI 2.10, section 5.3.3; those of the slots are
// our own; the last is Linux file system data.
const (
	BIOSType  = "21686148-6449-6E6F-744E-656564454649"
	ESPType   = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	SlotAType = "73CAD465-BF67-4A6D-9840-8176DE87CD11"
	SlotBType = "89455335-95A6-4307-A726-8416378B808B"
	StateType = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
)

// Slots, as they are named in the boot record and on the command line.
const (
	SlotA = "a"
	SlotB = "b"
)

// Sizes in bytes.
const (
	Align    = mib        // of every start and size
	BIOSSize = 1 * mib    // amd64 only
	ESPSize  = 128 * mib  // FAT32
	SlotSize = 640 * mib  // at least
	StateMin = 1024 * mib // ext4; takes what is left of the disk

	// On sectors of 4096 bytes FAT32 needs as many clusters of that size
	// (Microsoft's FAT specification of 2005, section 3.5: 65525 at least).
	espSize4K = 264 * mib

	slotStep  = 64 * mib // slots are multiples of it
	slotTimes = 3        // a slot has room for so many of today's images

	mib = 1 << 20
)

// kinds lists the partitions of a disk by number, without starts; the sizes of
// slots and state are their least.
var kinds = []table.Partition{
	{Index: 1, Name: BIOSName, Type: BIOSType, Size: BIOSSize},
	{Index: ESPNumber, Name: ESPName, Type: ESPType, Size: ESPSize},
	{Index: SlotANumber, Name: SlotAName, Type: SlotAType, Size: SlotSize},
	{Index: SlotBNumber, Name: SlotBName, Type: SlotBType, Size: SlotSize},
	{Index: 5, Name: StateName, Type: StateType, Size: StateMin},
}

// SlotPartition returns the name of the partition of a slot, "" if there is no
// such slot.
func SlotPartition(slot string) string {
	switch slot {
	case SlotA:
		return SlotAName
	case SlotB:
		return SlotBName
	}
	return ""
}

// Plan divides a disk of diskSize bytes for the architecture arch, "amd64" or
// "arm64", by today's image of imageSize bytes; 0 stands for a small one. The
// partitions are in order of number and of place; their IDs are left empty for
// the caller. An error tells a person why a disk does not do.
func Plan(arch string, diskSize, imageSize int64) ([]table.Partition, error) {
	return PlanFor(arch, diskSize, imageSize, 512)
}

// PlanFor is Plan for a disk with sectors of 512 or 4096 bytes.
func PlanFor(arch string, diskSize, imageSize int64, sector int) ([]table.Partition, error) {
	if arch != "amd64" && arch != "arm64" {
		return nil, fmt.Errorf("plan disk: architecture %q", arch)
	}
	if imageSize < 0 || imageSize > maxImage {
		return nil, fmt.Errorf("plan disk: image of %d bytes", imageSize)
	}
	var parts []table.Partition
	at := int64(Align) // the table takes less than Align at either end
	for _, p := range kinds {
		if p.Name == BIOSName && arch != "amd64" {
			continue
		}
		if p.Name == SlotAName || p.Name == SlotBName {
			p.Size = max(p.Size, up(slotTimes*imageSize, slotStep))
		}
		if p.Name == ESPName && sector > 512 {
			p.Size = espSize4K
		}
		p.Start = at
		at += p.Size
		parts = append(parts, p)
	}
	if need := at + Align; diskSize < need {
		return nil, fmt.Errorf("plan disk: too small: it has %d MiB and needs %d MiB", max(diskSize, 0)/mib, need/mib)
	}
	state := &parts[len(parts)-1]
	state.Size = diskSize/Align*Align - Align - state.Start
	return parts, nil
}

const maxImage = 1 << 50 // keeps the sums far from overflow

// up rounds n up to a multiple of step.
func up(n, step int64) int64 { return (n + step - 1) / step * step }

// Find returns the partitions of a disk of ours by name, out of all that its
// table holds. Others between or behind them do no harm. The error lists what
// is missing or has another number or type. A disk may lack the BIOS boot
// partition, as those of arm64 do.
func Find(parts []table.Partition) (map[string]table.Partition, error) {
	found := map[string]table.Partition{}
	var problems []string
	for _, want := range kinds {
		named := slices.DeleteFunc(slices.Clone(parts), func(p table.Partition) bool { return p.Name != want.Name })
		switch {
		case len(named) == 0 && want.Name == BIOSName:
			continue
		case len(named) == 0:
			problems = append(problems, want.Name+" is missing")
		case len(named) > 1:
			problems = append(problems, fmt.Sprintf("%s is there %d times", want.Name, len(named)))
		case !strings.EqualFold(named[0].Type, want.Type):
			problems = append(problems, fmt.Sprintf("%s has type %s, not %s", want.Name, named[0].Type, want.Type))
		case named[0].Index != want.Index:
			problems = append(problems, fmt.Sprintf("%s has number %d, not %d", want.Name, named[0].Index, want.Index))
		default:
			found[want.Name] = named[0]
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("not a disk of Kedge: %s", strings.Join(problems, ", "))
	}
	return found, nil
}
