package replay

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"os"
	"slices"
)

// chunk is the size in bytes of what has one sum; partitions begin and end at
// multiples of it.
const chunk = 1 << 20

// A Disk is what is sure to be on a disk after the first events of its log. It
// only goes forward. It holds references to the log, four bytes a sector.
type Disk struct {
	Log  *Log
	Size int64 // bytes

	base    io.ReaderAt
	at      int      // events that are done
	refs    []uint32 // by sector
	sums    []uint64 // by chunk
	mirrors []*Mirror
}

// NewDisk returns the disk before the first event: size bytes, those of base.
func NewDisk(l *Log, base io.ReaderAt, size int64) (*Disk, error) {
	if need := l.Size(); size < need || size%Sector != 0 {
		return nil, fmt.Errorf("%w: it writes up to byte %d of a disk of %d", ErrLog, need, size)
	}
	return &Disk{Log: l, Size: size, base: base, refs: make([]uint32, size/Sector), sums: make([]uint64, (size+chunk-1)/chunk)}, nil
}

// Advance does the events before number at.
func (d *Disk) Advance(at int) error {
	if at < d.at || at > len(d.Log.Events) {
		return fmt.Errorf("replay to event %d: the disk is at %d of %d", at, d.at, len(d.Log.Events))
	}
	for ; d.at < at; d.at++ {
		e := d.Log.Events[d.at]
		for i := range e.Count {
			d.set(e.First+i, e.ref(i))
		}
		for _, m := range d.mirrors {
			if err := m.follow(d, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Disk) set(sector, ref uint32) {
	d.sums[int64(sector)*Sector/chunk] ^= d.sum(sector, d.refs[sector]) ^ d.sum(sector, ref)
	d.refs[sector] = ref
}

var seed = maphash.MakeSeed()

// sum tells contents of a sector apart, as far as 64 bits can.
func (d *Disk) sum(sector, ref uint32) uint64 {
	if ref == untouched {
		return 0
	}
	h := maphash.Bytes(seed, d.Log.content(ref)) ^ uint64(sector)*0x9e3779b97f4a7c15
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return h ^ h>>32
}

// An Image is what a power cut has left of a disk. It is good until the disk
// advances.
type Image struct {
	Disk *Disk
	over map[uint32]uint32 // references by sector, where they are not the disk's
}

// Image returns the disk as it is.
func (d *Disk) Image() *Image { return &Image{d, map[uint32]uint32{}} }

// put writes those sectors of an event that keep says; nil means all.
func (i *Image) put(e Event, keep func(uint32) bool) {
	for n := range e.Count {
		if keep == nil || keep(n) {
			i.over[e.First+n] = e.ref(n)
		}
	}
}

func (i *Image) ref(sector uint32) uint32 {
	if ref, ok := i.over[sector]; ok {
		return ref
	}
	return i.Disk.refs[sector]
}

// ReadAt implements io.ReaderAt.
func (i *Image) ReadAt(b []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, errors.New("read before the disk")
	}
	for n < len(b) && at < i.Disk.Size {
		sector := uint32(at / Sector)
		within := at % Sector
		ref := i.ref(sector)
		if ref != untouched {
			k := copy(b[n:], i.Disk.Log.content(ref)[within:])
			n, at = n+k, at+int64(k)
			continue
		}
		run := Sector - within // as long as it comes from the base
		for at+run < i.Disk.Size && int64(len(b)-n) > run && i.ref(uint32((at+run)/Sector)) == untouched {
			run += Sector
		}
		run = min(run, int64(len(b)-n))
		k, err := i.Disk.base.ReadAt(b[n:n+int(run)], at)
		n, at = n+k, at+int64(k)
		if int64(k) < run {
			return n, fmt.Errorf("read base image: %w", err)
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Sum is a number that is the same for two images of one disk in which the
// bytes from start on, size of them, are the same. Both are multiples of 1 MiB,
// or reach to the end of the disk.
func (i *Image) Sum(start, size int64) uint64 {
	var sum uint64
	for c := start / chunk; c*chunk < start+size; c++ {
		sum ^= i.Disk.sums[c]
	}
	for sector, ref := range i.over {
		if at := int64(sector) * Sector; at >= start && at < start+size {
			sum ^= i.Disk.sum(sector, i.Disk.refs[sector]) ^ i.Disk.sum(sector, ref)
		}
	}
	return sum
}

// A Mirror is a file that follows a part of a disk, so that images of that part
// are made by a copy and few writes.
type Mirror struct {
	Start, Size int64 // bytes on the disk
	file        *os.File
}

// Mirror makes a file that holds a part of the disk and follows it.
func (d *Disk) Mirror(path string, start, size int64) (*Mirror, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	m := &Mirror{start, size, f}
	if err := d.Image().writeTo(f, start, size); err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	d.mirrors = append(d.mirrors, m)
	return m, nil
}

// Path returns the name of the mirror's file.
func (m *Mirror) Path() string { return m.file.Name() }

// Close ends the mirror's life, not that of the file.
func (m *Mirror) Close() error { return m.file.Close() }

// follow writes an event.
func (m *Mirror) follow(d *Disk, e Event) error {
	for n := range e.Count {
		if err := writeSector(m.file, d, m.Start, m.Size, e.First+n, e.ref(n)); err != nil {
			return err
		}
	}
	return nil
}

func writeSector(w io.WriterAt, d *Disk, start, size int64, sector, ref uint32) error {
	at := int64(sector)*Sector - start
	if at < 0 || at >= size {
		return nil
	}
	_, err := w.WriteAt(d.Log.content(ref), at)
	return err
}

// Patch makes a copy of the mirror's file into the image's part of the disk.
func (i *Image) Patch(w io.WriterAt, m *Mirror) error {
	for _, sector := range slices.Sorted(maps.Keys(i.over)) {
		if err := writeSector(w, i.Disk, m.Start, m.Size, sector, i.over[sector]); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes a part of the image to a new sparse file.
func (i *Image) WriteFile(path string, start, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(i.writeTo(f, start, size), f.Close())
}

// CopyTo writes a part of the image to the same place of a new file.
func (i *Image) CopyTo(w io.WriterAt, start, size int64) error {
	return i.copyTo(w, start, size, start)
}

// writeTo fills a new file, and leaves out what is zero.
func (i *Image) writeTo(f *os.File, start, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return i.copyTo(f, start, size, 0)
}

// copyTo writes what is not zero to a file from byte to on.
func (i *Image) copyTo(f io.WriterAt, start, size, to int64) error {
	buffer := make([]byte, 64<<10)
	for at := int64(0); at < size; at += int64(len(buffer)) {
		b := buffer[:min(int64(len(buffer)), size-at)]
		if _, err := i.ReadAt(b, start+at); err != nil {
			return err
		}
		if len(bytes.TrimLeft(b, "\x00")) == 0 {
			continue
		}
		if _, err := f.WriteAt(b, to+at); err != nil {
			return err
		}
	}
	return nil
}
