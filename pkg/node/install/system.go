package install

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/mount"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// System is the Machine that this program runs on.
type System struct{}

// Verify implements Machine.
func (System) Verify(ctx context.Context, i *release.Image, progress func(int64)) error {
	return i.Verify(ctx, progress)
}

// margin is what is made blank at either end of a disk, and at the start of
// each new partition, in bytes: marks of partition tables and file systems lie
// there.
const margin = 1 << 20

// Erase implements Machine.
func (System) Erase(_ context.Context, d Disk) error {
	f, err := openExclusive(d.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	return blank(f, 0, d.Size-margin)
}

// openExclusive fails when somebody has mounted the device or a part of it.
func openExclusive(device string) (*os.File, error) {
	f, err := os.OpenFile(device, os.O_RDWR|os.O_EXCL, 0)
	if err != nil {
		return nil, fmt.Errorf("%w (a mounted file system, or another program, uses it)", err)
	}
	return f, nil
}

func blank(f *os.File, offsets ...int64) error {
	zero := make([]byte, margin)
	for _, at := range offsets {
		if _, err := f.WriteAt(zero, max(at, 0)); err != nil {
			return err
		}
	}
	return f.Sync()
}

// deviceWait is how long new partitions may take to get their devices.
const deviceWait = 30 * time.Second

// Partition implements Machine.
func (System) Partition(ctx context.Context, d Disk, parts []table.Partition) error {
	sector, err := block.SectorSize(d.Path)
	if err != nil {
		return err
	}
	f, err := openExclusive(d.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	starts := make([]int64, len(parts))
	for i := range parts {
		starts[i], parts[i].ID = parts[i].Start, newID()
	}
	if err := blank(f, starts...); err != nil {
		return err
	}
	if err := table.Write(f, d.Size, sector, newID(), parts); err != nil {
		return err
	}
	if err := f.Close(); err != nil { // the kernel refuses while we hold it
		return err
	}
	if err := block.Reread(ctx, d.Path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deviceWait)
	defer cancel()
	for _, p := range parts {
		if _, err := block.WaitPartition(ctx, d.Name, p.Index); err != nil {
			return err
		}
	}
	return nil
}

// newID returns a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// chunk is how much is copied at a time, in bytes.
const chunk = 4 << 20

// Copy implements Machine. The image's first bytes, without which it is none,
// are written last: a copy that was cut off is not an image. All is read back
// from the hardware and compared by its SHA-256.
func (System) Copy(ctx context.Context, i *release.Image, device string, progress func(int64)) error {
	f, err := openExclusive(device)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := blank(f, 0); err != nil {
		return err
	}
	head := make([]byte, min(margin, i.Size))
	if _, err := i.Reader().ReadAt(head, 0); err != nil {
		return err
	}
	written := sha256.New()
	written.Write(head)
	rest := io.NewSectionReader(i.Reader(), int64(len(head)), i.Size-int64(len(head)))
	if err := pump(ctx, io.MultiWriter(written, io.NewOffsetWriter(f, int64(len(head)))), rest, progress); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	progress(int64(len(head)))
	if err := f.Sync(); err != nil {
		return err
	}
	if err := block.Forget(f); err != nil {
		return err
	}
	back := sha256.New()
	if err := pump(ctx, back, io.NewSectionReader(f, 0, i.Size), progress); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !bytes.Equal(written.Sum(nil), back.Sum(nil)) {
		return errors.New("read back: the disk does not return what was written to it: it is broken")
	}
	return f.Close()
}

// pump copies until r ends.
func pump(ctx context.Context, w io.Writer, r io.Reader, progress func(int64)) error {
	for buffer := make([]byte, chunk); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(r, buffer)
		if _, err := w.Write(buffer[:n]); err != nil {
			return err
		}
		progress(int64(n))
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Format implements Machine.
func (System) Format(ctx context.Context, kind, device, label string) error {
	args := formatArgs(kind, device, label)
	return process.Tool{Path: args[0], Args: args[1:]}.Run(ctx)
}

// formatArgs is what makes a file system. The ESP is FAT32 on sectors of every
// size: mkfs.vfat finds the sector out, and on large ones a cluster is one sector.
func formatArgs(kind, device, label string) []string {
	if kind == "vfat" {
		args := []string{"mkfs.vfat", "-F", "32", "-n", label, device}
		if sector, err := block.SectorSize(device); err == nil && sector > 512 {
			args = append(args[:3], append([]string{"-s", "1"}, args[3:]...)...)
		}
		return args
	}
	return []string{"mke2fs", "-q", "-F", "-t", "ext4", "-m", "1", "-L", label, device}
}

// Mount implements Machine.
func (System) Mount(kind, device, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return mount.Mount(mount.Spec{Type: kind, Source: device, Target: dir, Options: "nosuid,nodev,noexec"})
}

// Unmount implements Machine.
func (System) Unmount(dir string) error { return mount.Unmount(dir) }

// Write implements Machine. Files of the state are for root only.
func (System) Write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, data, 0o600)
}

// Record implements Machine.
func (System) Record(dir, committed string) error { return slot.Create(dir, committed) }

// Patch implements Machine.
func (System) Patch(device string, offset int64, data []byte) error {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, offset)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Disks returns the disks of this machine that a system could be installed to.
// Medium is the device that the running system was read from, "" for none.
func Disks(medium string) ([]Disk, error) {
	devices, err := block.List()
	if err != nil {
		return nil, err
	}
	names := links("/dev/disk")
	var disks []Disk
	for _, d := range devices {
		if d.Partition || d.Size == 0 || strings.HasPrefix(d.Name, "sr") || strings.HasPrefix(d.Name, "fd") || strings.Contains(d.Name, "boot") {
			continue // no medium, a disc, a floppy, or the boot area of an eMMC
		}
		h := block.Describe(d)
		disk := Disk{
			Name: d.Name, Path: d.Path, Links: names[d.Path], Size: d.Size, Model: h.Model, Serial: h.Serial, Transport: h.Transport,
			Removable: d.Removable, ReadOnly: d.ReadOnly, Medium: d.Path == medium,
		}
		if disk.Sector, err = block.SectorSize(d.Path); err != nil {
			disk.Sector = 512
		}
		disk.Holds, disk.Ours, disk.Parts, disk.Slots = inspect(d)
		for _, p := range devices {
			if p.Parent == d.Name && p.Path == medium {
				disk.Medium = true
			}
		}
		disks = append(disks, disk)
	}
	return disks, nil
}

// Links returns the names below /dev/disk by the device that they lead to.
func Links() map[string][]string { return links("/dev/disk") }

// links returns the names below dir by the device that they lead to.
func links(dir string) map[string][]string {
	all := map[string][]string{}
	paths, _ := filepath.Glob(filepath.Join(dir, "by-*", "*"))
	for _, p := range paths {
		if target, err := filepath.EvalSymlinks(p); err == nil {
			all[target] = append(all[target], p)
		}
	}
	return all
}

// inspect says what is on a disk, whether that is a system of ours, its
// partitions, and which slots hold something.
func inspect(d block.Device) (holds []string, ours bool, parts []table.Partition, slots []string) {
	f, err := os.Open(d.Path)
	if err != nil {
		return []string{fmt.Sprintf("something that cannot be read (%v)", err)}, false, nil, nil
	}
	defer f.Close()
	sector, err := block.SectorSize(d.Path)
	if err != nil {
		sector = 512
	}
	holds, ours = Inspect(f, d.Size, sector)
	parts, slots = divided(f, d.Size, sector)
	return holds, ours, parts, slots
}

// Inspect says what is on a disk of size bytes with logical blocks of sector
// bytes, and whether that is a system of ours. An installation that was cut off
// is nothing.
func Inspect(f io.ReaderAt, size int64, sector int) (holds []string, ours bool) {
	if unfinished(f, size, sector) {
		return nil, false
	}
	if fs, err := block.Probe(f); err == nil {
		holds = append(holds, strings.TrimSpace(fmt.Sprintf("a file system %s %s", fs.Type, fs.Label)))
	}
	parts, err := table.Read(f, size, sector)
	switch {
	case err == nil && len(parts) > 0:
		_, notOurs := layout.Find(parts)
		ours = notOurs == nil
		holds = append(holds, fmt.Sprintf("a partition table with %d partitions", len(parts)))
		if ours {
			holds = append(holds, "an installed Kedge")
		}
	case len(holds) == 0 && (err == nil || !errors.Is(err, table.ErrNoTable)):
		holds = append(holds, "a partition table")
	case len(holds) == 0:
		if empty, err := Blank(f, size); err != nil {
			holds = append(holds, fmt.Sprintf("something that cannot be read (%v)", err))
		} else if !empty {
			holds = append(holds, "data of an unknown kind")
		}
	}
	return holds, ours
}

// Blank tells whether a device of size bytes holds nothing at either end, where
// the marks of partition tables, RAID, LVM and file systems lie. One that cannot
// be read is not blank.
func Blank(r io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, min(margin, size))
	for _, at := range []int64{0, max(size-margin, 0)} {
		if n, err := r.ReadAt(b, at); n < len(b) {
			return false, fmt.Errorf("read at %d: %w", at, err)
		}
		if !zero(b) {
			return false, nil
		}
	}
	return true, nil
}
