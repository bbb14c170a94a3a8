package replay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// A writer makes a log.
type writer struct{ b []byte }

func newWriter(counted uint64) *writer {
	w := &writer{make([]byte, Sector)}
	le := binary.LittleEndian
	le.PutUint64(w.b, magic)
	le.PutUint64(w.b[8:], version)
	le.PutUint64(w.b[16:], counted)
	le.PutUint32(w.b[24:], Sector)
	return w
}

func (w *writer) entry(first, count, flags uint64, data []byte) *writer {
	head := make([]byte, Sector)
	for i, v := range []uint64{first, count, flags, uint64(len(data))} {
		binary.LittleEndian.PutUint64(head[8*i:], v)
	}
	w.b = append(append(w.b, head...), data...)
	return w
}

func (w *writer) write(first uint64, flags uint64, letters string) *writer {
	var data []byte
	for _, c := range []byte(letters) {
		data = append(data, bytes.Repeat([]byte{c}, Sector)...)
	}
	return w.entry(first, uint64(len(letters)), flags, data)
}

func (w *writer) flush() *writer { return w.entry(0, 0, flagFlush, nil) }

func (w *writer) log(t testing.TB) *Log {
	t.Helper()
	l, err := ReadLog(w.b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// letters shows a disk, one letter a sector.
func letters(t testing.TB, i *Image) string {
	t.Helper()
	b := make([]byte, i.Disk.Size)
	if _, err := i.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	var s []byte
	for at := 0; at < len(b); at += Sector {
		c := b[at]
		if !bytes.Equal(b[at:at+Sector], bytes.Repeat([]byte{c}, Sector)) {
			t.Fatalf("sector %d is torn in itself", at/Sector)
		}
		if c == 0 {
			c = '0'
		}
		s = append(s, c)
	}
	return string(s)
}

// base is a disk of letters.
func base(s string) *bytes.Reader {
	var b []byte
	for _, c := range []byte(s) {
		b = append(b, bytes.Repeat([]byte{c}, Sector)...)
	}
	return bytes.NewReader(b)
}

func disk(t testing.TB, l *Log, letters string) *Disk {
	t.Helper()
	d, err := NewDisk(l, base(letters), int64(len(letters))*Sector)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReadLog(t *testing.T) {
	w := newWriter(4).write(3, 0, "ab").flush().write(0, flagFUA, "c").entry(5, 2, flagDiscard, nil).
		entry(0, 0, flagMark, make([]byte, Sector)).write(1, flagFlush, "d")
	got := w.log(t).Events
	want := []Event{
		{Write, false, 3, 2, 2}, {Kind: Flush}, {Write, true, 0, 1, 6}, {Discard, false, 5, 2, 8}, {Kind: Flush}, {Write, false, 1, 1, 11},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// TestReadLogTail: what QEMU has counted must be whole; behind that, a part
// entry is the end.
func TestReadLogTail(t *testing.T) {
	whole := newWriter(1).write(0, 0, "ab").write(2, 0, "cd").b
	for cut := len(whole); cut >= 0; cut-- {
		l, err := ReadLog(whole[:cut])
		switch {
		case cut < 4*Sector:
			if !errors.Is(err, ErrLog) {
				t.Fatalf("%d bytes: %v", cut, err)
			}
		case err != nil:
			t.Fatalf("%d bytes: %v", cut, err)
		case len(l.Events) != 1 && cut < len(whole):
			t.Fatalf("%d bytes: %d events", cut, len(l.Events))
		}
	}
	for _, bad := range []*writer{
		newWriter(1).entry(0, 1, 16, zeroSector[:]), newWriter(1).entry(1<<32, 1, 0, zeroSector[:]), newWriter(1).entry(0, 0, 0, nil),
		newWriter(1).entry(0, 1<<62, 0, zeroSector[:]), newWriter(1).entry(0, 0, flagMark, nil).entry(0, 1<<40, 0, nil),
	} {
		if l, err := ReadLog(bad.b); err == nil && len(l.Events) > 0 {
			t.Errorf("taken: %v", l.Events)
		}
	}
	if _, err := ReadLog(make([]byte, Sector)); !errors.Is(err, ErrLog) {
		t.Errorf("no superblock: %v", err)
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(newWriter(3).write(3, 0, "ab").flush().write(0, flagFUA, "c").b)
	f.Add(newWriter(0).entry(5, 2, flagDiscard, nil).entry(0, 0, flagMark, make([]byte, 9)).b)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ReadLog(data)
		if err != nil {
			return
		}
		for _, e := range l.Events {
			if e.Kind == Write && e.Count > 0 {
				l.content(e.ref(0))
				l.content(e.ref(e.Count - 1))
			}
		}
		const most = 64 << 10
		if size := l.Size(); size <= most {
			d, err := NewDisk(l, bytes.NewReader(make([]byte, most)), most)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Advance(len(l.Events)); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Image().ReadAt(make([]byte, most), 0); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDisk(t *testing.T) {
	l := newWriter(0).write(1, 0, "ab").write(2, 0, "cd").entry(0, 2, flagDiscard, nil).flush().log(t)
	d := disk(t, l, "uvwxyz")
	for at, want := range []string{"uvwxyz", "uabxyz", "uacdyz", "00cdyz", "00cdyz"} {
		if err := d.Advance(at); err != nil {
			t.Fatal(err)
		}
		if got := letters(t, d.Image()); got != want {
			t.Errorf("after %d events: %s, want %s", at, got, want)
		}
	}
	if err := d.Advance(1); err == nil {
		t.Error("the disk went back")
	}
	part := make([]byte, 1000)
	if n, err := d.Image().ReadAt(part, 6*Sector-700); n != 700 || err != io.EOF || part[0] != 'y' || part[699] != 'z' {
		t.Errorf("read over the end: %d, %v", n, err)
	}
	if _, err := NewDisk(l, base("uvw"), 3*Sector); !errors.Is(err, ErrLog) {
		t.Errorf("a disk that is too small: %v", err)
	}
}

// workload is a log of random writes, and the sectors of its disk.
func workload(t testing.TB, seed uint64, sectors uint32) *Log {
	r := rand.New(rand.NewPCG(seed, 0))
	w := newWriter(0)
	for range 60 {
		if r.IntN(4) == 0 {
			w.flush()
			continue
		}
		count := 1 + r.Uint32N(6)
		var flags uint64
		if r.IntN(5) == 0 {
			flags = flagFUA
		}
		text := make([]byte, count)
		for i := range text {
			text[i] = byte('A' + r.IntN(50))
		}
		w.write(uint64(r.Uint32N(sectors-count)), flags, string(text))
	}
	return w.log(t)
}

const sectors = 40

// possible says, for a cut of an honest disk, what each sector may hold: what
// was flushed or confirmed with FUA, or something that was written since.
func possible(t *testing.T, l *Log, c Cut) []string {
	d := disk(t, l, string(bytes.Repeat([]byte{'.'}, sectors)))
	if err := d.Advance(c.From); err != nil {
		t.Fatal(err)
	}
	may := make([]string, sectors)
	for n, b := range []byte(letters(t, d.Image())) {
		may[n] = string(b)
	}
	for n := c.From; n < c.At; n++ {
		e := l.Events[n]
		for i := range e.Count {
			b := string(l.content(e.ref(i))[:1])
			if e.FUA && n < c.At-1 {
				may[e.First+i] = b
			} else {
				may[e.First+i] += b
			}
		}
	}
	return may
}

// TestCutsArePossible holds every cut against the rules of a disk.
func TestCutsArePossible(t *testing.T) {
	seen := map[Manner]int{}
	states := map[string]bool{}
	for seed := range uint64(20) {
		l := workload(t, seed, sectors)
		d := disk(t, l, string(bytes.Repeat([]byte{'.'}, sectors)))
		for _, c := range NewCutter(l, seed, nil).Cuts(200) {
			if err := d.Advance(c.From); err != nil {
				t.Fatal(err)
			}
			for _, e := range l.Events[c.From:c.At] {
				if e.Kind == Flush {
					t.Fatalf("%v: a flush is undone", c)
				}
			}
			i, err := c.Apply(d)
			if err != nil {
				t.Fatal(err)
			}
			got := letters(t, i)
			for n, may := range possible(t, l, c) {
				if !bytes.Contains([]byte(may), []byte{got[n]}) {
					t.Fatalf("%v: sector %d is %c, may be one of %s", c, n, got[n], may)
				}
			}
			seen[c.Manner]++
			states[fmt.Sprint(seed, got)] = true
			again, err := c.Apply(d)
			if err != nil || letters(t, again) != got {
				t.Fatalf("%v is another one the second time: %v", c, err)
			}
		}
	}
	for _, m := range []Manner{Boundary, Prefix, Subset, Torn} {
		if seen[m] < 500 {
			t.Errorf("%d cuts are %s", seen[m], m)
		}
	}
	if len(states) < 1000 {
		t.Errorf("only %d different images", len(states))
	}
}

// TestBlindCutsForget: the negative control loses what was flushed.
func TestBlindCutsForget(t *testing.T) {
	l := newWriter(0).write(0, 0, "a").flush().write(1, 0, "b").flush().write(2, 0, "c").flush().log(t)
	c := NewCutter(l, 1, nil)
	c.Blind = true
	d := disk(t, l, "......")
	lost := 0
	for _, cut := range c.Cuts(200) {
		if err := d.Advance(cut.From); err != nil {
			t.Fatal(err)
		}
		i, err := cut.Apply(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := letters(t, i); cut.At >= 4 && got[0] == '.' {
			lost++
		}
	}
	if lost == 0 {
		t.Error("nothing that was flushed is lost")
	}
}

// TestEverySubset: with few unflushed writes, all that can happen does.
func TestEverySubset(t *testing.T) {
	l := newWriter(0).flush().write(0, 0, "ab").write(1, 0, "cd").log(t)
	d := disk(t, l, "...")
	if err := d.Advance(1); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, c := range NewCutter(l, 7, []Phase{{"x", 1, 3}, {"none", 3, 3}}).Cuts(2000) {
		i, err := c.Apply(d)
		if err != nil {
			t.Fatal(err)
		}
		got[letters(t, i)] = true
	}
	for _, a := range ".a" {
		for _, b := range ".bc" {
			for _, c := range ".d" {
				if s := string([]rune{a, b, c}); !got[s] {
					t.Errorf("never %s", s)
				}
			}
		}
	}
}

func TestBoundariesAreAllSeen(t *testing.T) {
	w := newWriter(0)
	for n := range 30 {
		w.write(uint64(n), 0, "x").flush()
	}
	l := w.log(t)
	phases := []Phase{{"one", 0, 20}, {"two", 20, 60}}
	at := map[int]bool{}
	for _, c := range NewCutter(l, 3, phases).Cuts(1000) {
		if c.Manner == Boundary {
			at[c.At] = true
		}
	}
	if len(at) != 31 {
		t.Errorf("%d of 31 boundaries", len(at))
	}
}

func TestSumAndMirror(t *testing.T) {
	const size = 3 * chunk
	w := newWriter(0).write(10, 0, "ab").write(4096, 0, "c").flush().write(10, 0, "xy").write(11, 0, "b").write(10, 0, "a")
	d, err := NewDisk(w.log(t), bytes.NewReader(make([]byte, size)), size)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m, err := d.Mirror(filepath.Join(dir, "mirror"), 0, 2*chunk)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	empty := d.Image().Sum(0, size)
	if err := d.Advance(3); err != nil {
		t.Fatal(err)
	}
	before := d.Image()
	low, high := before.Sum(0, chunk), before.Sum(2*chunk, chunk)
	if low == empty || high == empty || before.Sum(chunk, chunk) != empty {
		t.Errorf("sums %x, %x, empty %x", low, high, empty)
	}
	i := d.Image()
	i.put(d.Log.Events[3], nil)
	if i.Sum(0, chunk) == low || i.Sum(2*chunk, chunk) != high {
		t.Error("the sum of an image does not follow its writes")
	}
	i.put(d.Log.Events[4], nil)
	i.put(d.Log.Events[5], nil)
	if i.Sum(0, chunk) != low {
		t.Error("equal contents have two sums")
	}
	i.put(d.Log.Events[3], func(n uint32) bool { return n == 1 })
	copied, err := os.ReadFile(m.Path())
	if err != nil {
		t.Fatal(err)
	}
	patched := filepath.Join(dir, "patched")
	if err := os.WriteFile(patched, copied, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(patched, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := i.Patch(f, m); err != nil {
		t.Fatal(err)
	}
	direct := filepath.Join(dir, "direct")
	if err := i.WriteFile(direct, 0, 2*chunk); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 2*chunk)
	if _, err := i.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{patched, direct} {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not the image: %v", filepath.Base(path), err)
		}
	}
	if want[10*Sector] != 'a' || want[11*Sector] != 'y' {
		t.Errorf("image holds %c%c", want[10*Sector], want[11*Sector])
	}
}
