package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/mount"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// System is the Machine that this program runs on. Medium is the device that it
// was started from, "" for none.
type System struct{ Medium string }

// Devices implements Machine.
func (s System) Devices() ([]Device, error) {
	disks, err := install.Disks(s.Medium)
	if err != nil {
		return nil, err
	}
	all, err := block.List()
	if err != nil {
		return nil, err
	}
	var devices []Device
	system := map[string]bool{}
	for _, d := range disks {
		dev := Device{Disk: d, System: d.Medium || d.Ours}
		system[d.Name] = dev.System
		dev.look(d.Path)
		devices = append(devices, dev)
	}
	names := install.Links()
	for _, p := range all {
		if !p.Partition || p.Size == 0 {
			continue
		}
		dev := Device{
			Disk:   install.Disk{Name: p.Name, Path: p.Path, Links: names[p.Path], Size: p.Size, ReadOnly: p.ReadOnly},
			Parent: p.Parent, System: system[p.Parent] || strings.HasPrefix(p.PartName, "KEDGE-"),
		}
		dev.look(p.Path)
		devices = append(devices, dev)
	}
	return devices, nil
}

// look reads what is on a device. One that cannot be read is not blank.
func (d *Device) look(device string) {
	f, err := os.Open(device)
	if err != nil {
		return
	}
	defer f.Close()
	if fs, err := block.Probe(f); err == nil {
		d.FS = fs
		d.System = d.System || fs.Label == layout.StateName
		return
	}
	empty, err := install.Blank(f, d.Size)
	d.Blank = err == nil && (empty || marked(f, d.Size))
}

// Mounted implements Machine.
func (System) Mounted(target string) (string, error) {
	table, err := mount.Table()
	if err != nil {
		return "", err
	}
	source := ""
	for _, m := range table {
		if m.Target == target {
			source = m.Source
		}
	}
	return source, nil
}

// Check implements Machine. A file system that was finished just before a power
// cut loses our mark here, before anything is written to it.
func (System) Check(ctx context.Context, kind, device string) error {
	if err := unmark(device); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return err
	}
	if kind != "ext4" {
		return nil // nothing that mends FAT without losing anything
	}
	err := process.Command{Args: []string{"e2fsck", "-p", device}}.Run(ctx)
	if code, known := process.ExitCode(err); known && code < 4 {
		return nil
	}
	return fmt.Errorf("check %s: %w; \"e2fsck %s\" asks what to do about it", device, err, device)
}

// Make implements Machine. The device has our mark meanwhile: after a power cut
// it is begun anew.
func (System) Make(ctx context.Context, kind, device, label string) error {
	if err := mark(device); err != nil {
		return err
	}
	if err := format(ctx, kind, device, label); err != nil {
		return err
	}
	return unmark(device)
}

// format makes a file system. What mke2fs usually does first, to discard all
// blocks, would take our mark away.
func format(ctx context.Context, kind, device, label string) error {
	if kind != "ext4" {
		return install.System{}.Format(ctx, kind, device, label)
	}
	return process.Tool{Path: "mke2fs", Args: []string{"-q", "-F", "-t", "ext4", "-E", "nodiscard", "-m", "1", "-L", label, device}}.Run(ctx)
}

// Mount implements Machine. Folders in the root of the system, which is
// read-only, are made in memory.
func (System) Mount(kind, device, target, options string) error {
	err := os.MkdirAll(target, 0o755)
	if errors.Is(err, syscall.EROFS) {
		top := "/" + strings.SplitN(strings.TrimPrefix(target, "/"), "/", 2)[0]
		if err := mount.Mount(mount.Spec{Type: "tmpfs", Source: "tmpfs", Target: top, Options: "nosuid,nodev,mode=0755,size=1M"}); err != nil {
			return err
		}
		err = os.MkdirAll(target, 0o755)
	}
	if err != nil {
		return err
	}
	return mount.Mount(mount.Spec{Type: kind, Source: device, Target: filepath.Clean(target), Options: options})
}
