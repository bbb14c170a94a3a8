package install

import (
	"context"
	"errors"
	"fmt"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/node/slot"
)

type verify struct{ image *release.Image }

func (s verify) String() string { return "verify image " + s.image.Manifest.ID }
func (s verify) Bytes() int64   { return s.image.Total() }

func (s verify) Do(ctx context.Context, m Machine, progress func(int64)) error {
	return m.Verify(ctx, s.image, progress)
}

// Changes tells whether a step changes a disk.
func Changes(s Step) bool {
	_, looks := s.(verify)
	return !looks
}

type erase struct{ disk Disk }

func (erase) Bytes() int64     { return 0 }
func (s erase) String() string { return "erase " + s.disk.Path }

func (s erase) Do(ctx context.Context, m Machine, _ func(int64)) error { return m.Erase(ctx, s.disk) }

type partition struct {
	disk  Disk
	parts []table.Partition
}

func (partition) Bytes() int64     { return 0 }
func (s partition) String() string { return "partition " + s.disk.Path }

func (s partition) Do(ctx context.Context, m Machine, _ func(int64)) error {
	return m.Partition(ctx, s.disk, s.parts)
}

type copyImage struct {
	image  *release.Image
	device string
}

func (s copyImage) String() string {
	return fmt.Sprintf("write Kedge %s to %s", s.image.Manifest.Version, s.device)
}

// Bytes counts what is written and what is read back.
func (s copyImage) Bytes() int64 { return 2 * s.image.Size }

func (s copyImage) Do(ctx context.Context, m Machine, progress func(int64)) error {
	return m.Copy(ctx, s.image, s.device, progress)
}

type format struct{ kind, device, label string }

func (format) Bytes() int64     { return 0 }
func (s format) String() string { return fmt.Sprintf("make %s on %s, %s", s.kind, s.device, s.label) }

func (s format) Do(ctx context.Context, m Machine, _ func(int64)) error {
	return m.Format(ctx, s.kind, s.device, s.label)
}

// A file is one to write, by its path on the new file system.
type file struct {
	path string
	data []byte
}

// mountDir is where new file systems are mounted while they are filled.
const mountDir = "/run/kedge/install"

// fill writes files to a new file system, in order, and a boot record with the
// committed slot when one is given.
type fill struct {
	kind, device string
	files        []file
	committed    string
}

func (fill) Bytes() int64     { return 0 }
func (s fill) String() string { return fmt.Sprintf("write %d files to %s", len(s.files), s.device) }

func (s fill) Do(_ context.Context, m Machine, _ func(int64)) error {
	if err := m.Mount(s.kind, s.device, mountDir); err != nil {
		return err
	}
	write := func() error {
		if s.committed != "" {
			if err := m.Record(mountDir+"/"+slot.Folder, s.committed); err != nil {
				return err
			}
		}
		for _, f := range s.files {
			if err := m.Write(mountDir+"/"+f.path, f.data); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.Join(write(), m.Unmount(mountDir))
}

type patch struct {
	device string
	offset int64
	data   []byte
	what   string
}

func (patch) Bytes() int64     { return 0 }
func (s patch) String() string { return fmt.Sprintf("write %s to %s", s.what, s.device) }

func (s patch) Do(_ context.Context, m Machine, _ func(int64)) error {
	return m.Patch(s.device, s.offset, s.data)
}
