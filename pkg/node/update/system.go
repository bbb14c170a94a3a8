package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/filelock"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// System is the Slots of the disk that this machine was started from. Medium is
// the device of the running slot, MountPoint an empty folder for the EFI system
// partition, made when it is missing.
type System struct{ Medium, MountPoint string }

// partition returns the partition of our disk that has this name.
func (s System) partition(name string) (block.Device, error) {
	devices, err := block.List()
	if err != nil {
		return block.Device{}, err
	}
	running := slices.IndexFunc(devices, func(d block.Device) bool { return d.Path == s.Medium })
	if running < 0 {
		return block.Device{}, fmt.Errorf("find %s: %s is gone", name, s.Medium)
	}
	for _, d := range devices {
		if d.Parent == devices[running].Parent && d.PartName == name {
			return d, nil
		}
	}
	return block.Device{}, fmt.Errorf("find %s: disk %s has no such partition", name, devices[running].Parent)
}

// SlotSize returns the size of the partition of a slot, in bytes.
func (s System) SlotSize(slot string) (int64, error) {
	d, err := s.partition(layout.SlotPartition(slot))
	return d.Size, err
}

// Manifest returns that of the image in a slot.
func (s System) Manifest(slot string) (release.Manifest, error) {
	d, err := s.partition(layout.SlotPartition(slot))
	if err != nil {
		return release.Manifest{}, err
	}
	f, err := os.Open(d.Path)
	if err != nil {
		return release.Manifest{}, err
	}
	defer f.Close()
	i, err := release.Open(f, d.Size)
	if err != nil {
		return release.Manifest{}, fmt.Errorf("slot %s: %w", slot, err)
	}
	return i.Manifest, nil
}

// record calls f with the boot record, while its partition is mounted; one
// caller after the other.
func (s System) record(f func(slot.Store) error) error {
	esp, err := s.partition(layout.ESPName)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.MountPoint, 0o700); err != nil {
		return err
	}
	lock, err := filelock.Wait(s.MountPoint + ".lock")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := mount.Mount(mount.Spec{Type: "vfat", Source: esp.Path, Target: s.MountPoint, Options: "nosuid,nodev,noexec,umask=0077"}); err != nil {
		return err
	}
	return errors.Join(f(slot.Store{Dir: s.MountPoint + "/" + slot.Folder}), mount.Unmount(s.MountPoint))
}

// Record reads the boot record, and mends what a power cut left half done. The
// notes say what was damaged.
func (s System) Record() (r slot.Record, notes []string, err error) {
	err = s.record(func(store slot.Store) error {
		if r, notes, err = store.Load(); err != nil || len(notes) == 0 {
			return err
		}
		return store.Repair()
	})
	return r, notes, err
}

// Disarm implements Slots.
func (s System) Disarm() error { return s.record(slot.Store.Disarm) }

// Arm implements Slots.
func (s System) Arm(name string, tries int) error {
	return s.record(func(store slot.Store) error { return store.Arm(name, tries, true) })
}

// Commit implements Slots.
func (s System) Commit(name string) error {
	return s.record(func(store slot.Store) error { return store.Commit(name) })
}

// Write implements Slots. What is not what was admitted is no image afterwards:
// nothing may start it.
func (s System) Write(ctx context.Context, i *release.Image, partition string, progress func(int64)) error {
	d, err := s.partition(partition)
	if err != nil {
		return err
	}
	if err = (install.System{}).Copy(ctx, i, d.Path, progress); err == nil {
		err = verifyCopy(ctx, i, d)
	}
	if err != nil {
		return errors.Join(err, unmake(d.Path))
	}
	return nil
}

// verifyCopy holds what lies in a slot now to the manifest that was admitted, and
// to what its signature said of the whole: a stick may have said something else
// when it was read once more.
func verifyCopy(ctx context.Context, i *release.Image, d block.Device) error {
	f, err := os.Open(d.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	written, err := release.Open(f, d.Size)
	if err == nil && !bytes.Equal(written.Manifest.Encode(), i.Manifest.Encode()) {
		err = fmt.Errorf("%w: its manifest has changed since it was admitted", release.ErrDamaged)
	}
	if err == nil {
		written.Expect(i)
		err = written.Verify(ctx, nil)
	}
	if err != nil {
		return fmt.Errorf("verify copy: %w", err)
	}
	return nil
}

// unmake takes away what makes an image of what is on a device.
func unmake(device string) error {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, 1<<20), 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
