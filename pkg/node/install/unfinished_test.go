package install

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
)

// sparse is a disk in memory of which little is written.
type sparse struct {
	size   int64
	blocks map[int64][]byte // by offset, of 512 bytes
}

func (d *sparse) ReadAt(b []byte, at int64) (n int, err error) {
	for n < len(b) && at+int64(n) < d.size {
		from := (at + int64(n)) % 512
		block := d.blocks[at+int64(n)-from]
		if block == nil {
			block = make([]byte, 512)
		}
		n += copy(b[n:], block[from:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (d *sparse) WriteAt(b []byte, at int64) (int, error) {
	for n := 0; n < len(b); {
		from := (at + int64(n)) % 512
		key := at + int64(n) - from
		if d.blocks[key] == nil {
			d.blocks[key] = make([]byte, 512)
		}
		n += copy(d.blocks[key][from:], b[n:])
	}
	return len(b), nil
}

// writesTo keeps the order of the writes to a disk.
type writesTo struct{ all []func(*sparse) }

func (w *writesTo) WriteAt(b []byte, at int64) (int, error) {
	b = bytes.Clone(b)
	w.all = append(w.all, func(d *sparse) { d.WriteAt(b, at) })
	return len(b), nil
}

// TestUnfinished cuts an installation off: between any two writes of the table,
// with the table alone, and with what makes an image in a slot.
func TestUnfinished(t *testing.T) {
	const size = 4 << 30
	parts, err := layout.Plan("amd64", size, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range parts {
		parts[i].ID = newID()
	}
	var w writesTo
	if err := table.Write(&w, size, 512, newID(), parts); err != nil {
		t.Fatal(err)
	}
	d := &sparse{size, map[int64][]byte{}}
	look := func(name string, wantHolds, wantOurs bool) {
		t.Helper()
		if holds, ours := Inspect(d, size, 512); len(holds) > 0 != wantHolds || ours != wantOurs {
			t.Errorf("%s: Inspect = %q, %v", name, holds, ours)
		}
	}
	for _, write := range w.all {
		look("within the table", false, false)
		write(d)
	}
	look("with the table", false, false)
	d.WriteAt([]byte("a boot loader"), 0)
	look("with a boot loader", false, false)
	for _, p := range parts {
		if p.Name != layout.SlotAName && p.Name != layout.SlotBName {
			continue
		}
		d.WriteAt([]byte("\x01CD001"), p.Start+isoimage.VolumeOffset)
		look("with an image in "+p.Name, true, true)
		d.WriteAt(make([]byte, 512), p.Start+isoimage.VolumeOffset)
	}
	parts[4].Name = "data"
	if err := table.Write(d, size, 512, newID(), parts); err != nil {
		t.Fatal(err)
	}
	look("with somebody else's partitions", true, false)
	d.WriteAt(make([]byte, 512), 0)
	look("with somebody else's, without their boot sector", true, false)
}

// TestInspectEnds: marks of RAID and the backup of a partition table lie at the
// end of a disk, and what cannot be read is not blank.
func TestInspectEnds(t *testing.T) {
	const size = 4 << 30
	for _, c := range []struct {
		name string
		at   int64 // of a byte; -1 for none
		bad  int64 // offset of a block that cannot be read; -1 for none
		want string
	}{
		{"blank", -1, -1, ""},
		{"data at the start", 600 << 10, -1, "data of an unknown kind"},
		{"RAID metadata 1.0", size - 8<<10, -1, "data of an unknown kind"},
		{"a backup of a partition table", size - 512, -1, "data of an unknown kind"},
		{"a bad block at the start", -1, 700 << 10, "something that cannot be read"},
		{"a bad block at the end", -1, size - 512, "something that cannot be read"},
	} {
		d := &failing{sparse{size, map[int64][]byte{}}, c.bad}
		if c.at >= 0 {
			d.WriteAt([]byte{1}, c.at)
		}
		holds, ours := Inspect(d, size, 512)
		if got := strings.Join(holds, ", "); ours || (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: Inspect = %q, want %q", c.name, got, c.want)
		}
	}
}

// failing is a disk with a bad block.
type failing struct {
	sparse
	bad int64
}

func (d *failing) ReadAt(b []byte, at int64) (int, error) {
	if d.bad >= at && d.bad < at+int64(len(b)) {
		n, _ := d.sparse.ReadAt(b[:d.bad-at], at)
		return n, errors.New("input/output error")
	}
	return d.sparse.ReadAt(b, at)
}
