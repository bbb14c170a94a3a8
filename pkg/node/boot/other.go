package boot

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/block"
)

// tryOther puts the other slot on trial when the committed one cannot be
// started and nobody is there to mend it: a trial that ends well is what this
// machine starts from then on, one that does not leaves all as it was.
func (i *initrd) tryOther() {
	if i.source.Slot == "" || i.journal.Record().Trial {
		return // GRUB counts the starts of a trial, and a medium has no other slot
	}
	devices, err := block.List()
	if err == nil {
		block.ReadPartUUIDs(devices)
		err = armOther(devices, i.source)
	}
	if err != nil {
		i.say(fmt.Sprintf("the other slot is not tried: %v", err))
		return
	}
	i.say(fmt.Sprintf("slot %s cannot be started; the next start tries slot %s", i.source.Slot, slot.Other(i.source.Slot)))
}

func armOther(devices []block.Device, source Source) error {
	other := slot.Other(source.Slot)
	one := slices.IndexFunc(devices, func(d block.Device) bool {
		return d.PartName == layout.SlotPartition(source.Slot) && (source.Partition == "" || d.PartUUID == source.Partition)
	})
	if one < 0 {
		return fmt.Errorf("the disk of slot %s is not there", source.Slot)
	}
	two := slices.IndexFunc(devices, func(d block.Device) bool {
		return d.Parent == devices[one].Parent && d.PartName == layout.SlotPartition(other)
	})
	if two < 0 {
		return fmt.Errorf("the disk has no slot %s", other)
	}
	f, err := os.Open(devices[two].Path)
	if err != nil {
		return err
	}
	_, err = release.Open(f, devices[two].Size)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("slot %s: %w", other, err)
	}
	return update.System{Medium: devices[one].Path, MountPoint: "/run/kedge/esp"}.Arm(other, slot.MaxTries)
}
