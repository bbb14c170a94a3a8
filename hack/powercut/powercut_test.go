package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/hack/powercut/judge"
	"github.com/kedgeos/kedge/hack/powercut/record"
	"github.com/kedgeos/kedge/hack/powercut/replay"
	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
)

// native returns the recording that needs no machine, made for this test.
func native(t *testing.T) *record.Recording {
	t.Helper()
	dir := filepath.Join(t.TempDir(), record.Native)
	err := record.MakeNative(t.Context(), dir, func(string) {})
	if errors.Is(err, record.ErrNative) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// memory is a folder for disks that goes with the test.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(workFolder(), "powercut-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestPowerCuts cuts the power of an installation and two upgrades some hundred
// times.
func TestPowerCuts(t *testing.T) {
	r := native(t)
	o := options{work: memory(t), cuts: 250, seed: 7, only: -1, workers: 2, show: 5}
	tally, err := o.checkOne(t.Context(), r, o.cuts)
	if err == nil {
		err = tally.err()
	}
	if err != nil {
		t.Fatal(err)
	}
	if tally.checked != o.cuts || tally.distinct < 80 {
		t.Errorf("%d checked, %d distinct", tally.checked, tally.distinct)
	}
	t.Run("judge sees", func(t *testing.T) { judgeSees(t, r) })
}

// judgeSees damages the disk at the end of the recording, in one way at a time.
func judgeSees(t *testing.T, r *record.Recording) {
	whole, err := os.ReadFile(r.Path("writes.log"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := replay.ReadLog(whole)
	if err != nil {
		t.Fatal(err)
	}
	j, err := judge.New(t.Context(), r, l, memory(t))
	if err != nil {
		t.Fatal(err)
	}
	parts := j.Parts()
	d, closeDisk, err := r.Disk(l)
	if err != nil {
		t.Fatal(err)
	}
	defer closeDisk()
	if err := d.Advance(len(l.Events)); err != nil {
		t.Fatal(err)
	}
	last := d.Image()
	// find returns where some bytes lie in a partition.
	find := func(p table.Partition, what string) int64 {
		b := make([]byte, 16<<20)
		for at := p.Start; at < p.Start+p.Size; at += int64(len(b) - len(what)) {
			n, err := last.ReadAt(b, at)
			if err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if i := bytes.Index(b[:n], []byte(what)); i >= 0 {
				return at + int64(i)
			}
		}
		t.Fatalf("%s has no %q", p.Name, what)
		return 0
	}
	esp, state := parts[layout.ESPName], parts[layout.StateName]
	for _, c := range []struct {
		name          string
		at            int64
		data          []byte
		bricked, lost string
	}{
		{"nothing", 0, nil, "", ""},
		{"the table's checksum", 512 + 17, []byte{0xAA}, "", ""}, // the backup counts
		{"the table's first entry", 1024 + 56, []byte("x"), "", ""},
		{"no table", 0, make([]byte, 512), "no protective MBR", ""},
		{"the boot code", 100, []byte("xx"), "boot loader for BIOS", ""},
		{"core image", parts[layout.BIOSName].Start + 1000, []byte("xx"), "boot loader for BIOS", ""},
		{"a folder of the ESP", find(esp, "GRUB    CFG"), []byte("\xe5"), "EFI system partition", ""},
		{"GRUB's configuration", find(esp, "# Written when Kedge"), []byte("##"), "configuration is not whole", ""},
		{"the committed slot", parts[layout.SlotAName].Start + 1<<20, []byte("xx"), "slot a, which it starts (trial: false), is not whole", ""},
		{"its image", parts[layout.SlotAName].Start + isoimage.VolumeOffset, make([]byte, 512), "not an ISO 9660 image", ""},
		{"a copy of the record", find(esp, "good:a"), []byte("good:x"), "", ""}, // the second one counts
		{"the superblock", state.Start + 1024 + 0x38, []byte("xx"), "", "e2fsck"},
		{"a file of the state", find(state, "hostname: turn-5"), []byte("hostname: turn-6"), "", "70-local.yaml has the digest"},
	} {
		v := look(t, r, j, damaged(t, whole, last, c.at, c.data))
		for what, pair := range map[string][2]string{"bricked": {strings.Join(v.Bricked, "; "), c.bricked}, "lost": {strings.Join(v.Lost, "; "), c.lost}} {
			if got, want := pair[0], pair[1]; !strings.Contains(got, want) || want == "" && got != "" {
				t.Errorf("%s: %s: %q, want %q", c.name, what, got, want)
			}
		}
	}
}

// damaged returns a log that has one more write at its end.
func damaged(t *testing.T, whole []byte, last *replay.Image, at int64, data []byte) *replay.Log {
	first := at / replay.Sector * replay.Sector
	sectors := make([]byte, (at+int64(len(data))-first+replay.Sector-1)/replay.Sector*replay.Sector)
	if _, err := last.ReadAt(sectors, first); err != nil {
		t.Fatal(err)
	}
	copy(sectors[at-first:], data)
	entry := make([]byte, replay.Sector) // see replay's format of the log
	binary.LittleEndian.PutUint64(entry, uint64(first/replay.Sector))
	binary.LittleEndian.PutUint64(entry[8:], uint64(len(sectors)/replay.Sector))
	l, err := replay.ReadLog(slices.Concat(whole, entry, sectors))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(last.Disk.Log.Events) + 1; len(data) > 0 && len(l.Events) != want {
		t.Fatalf("%d events, want %d", len(l.Events), want)
	}
	return l
}

// look judges the disk at the end of a log.
func look(t *testing.T, r *record.Recording, j *judge.Judge, l *replay.Log) judge.Verdict {
	d, closeDisk, err := r.Disk(l)
	if err != nil {
		t.Fatal(err)
	}
	defer closeDisk()
	if err := d.Advance(len(l.Events)); err != nil {
		t.Fatal(err)
	}
	room, err := j.Room(d, memory(t))
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	v, err := room.Look(t.Context(), d.Image(), len(l.Events))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDisksWithEmptyFilesStartFirst(t *testing.T) {
	cuts := make([]replay.Cut, 100)
	for i := range cuts {
		cuts[i].Number, cuts[i].From = 99-i, i
	}
	s := &sweep{empty: map[string]*emptied{}}
	for name, number := range map[string]int{"a": 17, "b": 17, "c": 3, "d": 42} {
		s.empty[name] = &emptied{times: 1, first: cuts[99-number]}
	}
	numbers := func(n int) (all []int) {
		for _, c := range s.choose(cuts, n) {
			all = append(all, c.Number)
		}
		return all
	}
	if got := numbers(200); len(got) != len(cuts) {
		t.Errorf("of 100 cuts %d are chosen, all were asked for", len(got))
	}
	for n, want := range map[int][]int{0: nil, 1: {99}, 4: {99, 50, 17, 3}} {
		got := numbers(n)
		if !slices.Equal(got, want) {
			t.Errorf("%d chosen: %v, want %v", n, got, want)
		}
	}
}
