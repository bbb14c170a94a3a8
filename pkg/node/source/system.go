package source

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// System is the Machine this program runs on. MountPoint is an empty folder,
// made when it is missing.
type System struct{ MountPoint string }

// settle is how long a stick that the kernel is about to find is waited for.
const settle = 10 * time.Second

// Devices implements Machine.
func (System) Devices(ctx context.Context) ([]block.Device, error) {
	for end := time.Now().Add(settle); block.USBPending() != "" && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(settle / 40)
	}
	return block.List()
}

// Transport implements Machine.
func (System) Transport(whole block.Device) string { return block.Describe(whole).Transport }

// Probe implements Machine.
func (System) Probe(d block.Device) (block.FileSystem, error) { return block.ProbeDevice(d) }

// Open implements Machine.
func (System) Open(d block.Device) (*os.File, error) { return os.Open(d.Path) }

// OpenImages implements Machine.
func (s System) OpenImages(d block.Device, kind string) (files []*os.File, err error) {
	if err := os.MkdirAll(s.MountPoint, 0o700); err != nil {
		return nil, err
	}
	options := "ro,nosuid,nodev,noexec"
	if kind == "ext4" {
		options += ",noload"
	}
	if err := mount.Mount(mount.Spec{Source: d.Path, Target: s.MountPoint, Type: kind, Options: options}); err != nil {
		return nil, err
	}
	files, err = openImages(s.MountPoint)
	return files, errors.Join(err, mount.Detach(s.MountPoint)) // it goes with the last of the files
}

// openImages opens the files below dir that are wanted. None is followed
// anywhere else.
func openImages(dir string) ([]*os.File, error) {
	var files []*os.File
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(dir, name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && below != "." && !Wanted(path.Join(filepath.ToSlash(below), "a.iso")):
			return fs.SkipDir
		case !d.Type().IsRegular() || !Wanted(filepath.ToSlash(below)):
			return nil
		}
		f, err := os.Open(name)
		if err == nil {
			files = append(files, f)
		}
		return err
	})
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, err
	}
	return files, nil
}
