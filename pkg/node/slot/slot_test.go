package slot

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/bootenv"
)

// damaged blocks, named.
var damaged = map[string][]byte{
	"missing":    nil,
	"zeros":      make([]byte, bootenv.Size),
	"empty":      block(nil),
	"torn":       torn(goodBlock(A), goodBlock(B), 40),
	"torn trial": torn(trialBlock(B, 2), trialBlock(B, 3), 36),
	"no slot":    block(bootenv.Env{{Name: "begin", Value: "good:c"}, {Name: "good", Value: "c"}, {Name: "check", Value: "good:c"}}),
	"no trial":   block(bootenv.Env{{Name: "begin", Value: "c:3"}, {Name: "trial", Value: "c"}, {Name: "tries", Value: "3"}, {Name: "check", Value: "c:3"}}),
	"many tries": block(bootenv.Env{{Name: "begin", Value: "b:4"}, {Name: "trial", Value: "b"}, {Name: "tries", Value: "4"}, {Name: "check", Value: "b:4"}}),
	"brackets":   block(bootenv.Env{{Name: "begin", Value: "("}, {Name: "good", Value: "!"}, {Name: "trial", Value: "!"}, {Name: "tries", Value: "-a"}, {Name: "check", Value: "*"}}),
}

// torn returns a block of which the first k bytes are those of front.
func torn(front, back []byte, k int) []byte {
	return append(append([]byte{}, front[:k]...), back[k:]...)
}

// lost returns a block whose second sector is gone. Its variables can be read,
// but GRUB can write none.
func lost(block []byte) []byte {
	return torn(block, make([]byte, bootenv.Size), bootenv.Sector)
}

// twice returns a trial block in which tries stands once more at the end: GRUB
// reads the last and writes the first.
func twice(block []byte) []byte {
	used := bytes.TrimRight(block, "#")
	return append(append(append([]byte{}, used...), "tries=3\n"...), block[len(used)+8:]...)
}

func TestParse(t *testing.T) {
	a, b, none := goodBlock(A), goodBlock(B), trialBlock("", 0)
	for _, row := range []struct {
		about               string
		good1, good2, trial []byte
		want                Record
		notes               string // joined by a semicolon
	}{
		{"sound", b, b, none, Record{Good: B}, ""},
		{"on trial", a, a, trialBlock(B, 2), Record{A, B, 2}, ""},
		{"last try", a, a, trialBlock(B, 0), Record{A, B, 0}, ""},
		{"tries without a slot", a, a, trialBlock("", 3), Record{Good: A}, ""},
		{"first copy counts", b, a, none, Record{Good: B}, "good2.env: names slot a, good1.env slot b"},
		{"first copy damaged", damaged["torn"], b, none, Record{Good: B}, `good1.env: begin is "good:a", want "good:b"`},
		{"second copy damaged", b, damaged["zeros"], none, Record{Good: B}, "good2.env: environment block: no header"},
		{"both copies damaged", nil, damaged["no slot"], none, Record{Good: A}, `good1.env: environment block: 0 bytes, want 1024; good2.env: good is "c", want a or b`},
		{"trial damaged", a, a, damaged["torn trial"], Record{Good: A}, `trial.env: begin is "b:2", want "b:3"`},
		{"trial of no slot", a, a, damaged["no trial"], Record{Good: A}, `trial.env: trial is "c", want a, b or nothing`},
		{"too many tries", a, a, damaged["many tries"], Record{Good: A}, `trial.env: tries is "4", want 0 to 3`},
		{"second sector lost", lost(b), a, lost(trialBlock(B, 0)), Record{B, B, 0}, "good2.env: names slot a, good1.env slot b"},
		{"cannot be counted down", a, a, lost(trialBlock(B, 3)), Record{Good: A}, "trial.env: environment block: no whole line before the padding"},
		{"never counts down", a, a, twice(trialBlock(B, 3)), Record{Good: A}, "trial.env: tries do not count down from 3"},
		{"files swapped", trialBlock(B, 3), a, b, Record{Good: A}, `good1.env: good is "", want a or b; trial.env: tries is "", want 0 to 3`},
	} {
		got, notes := Parse(row.good1, row.good2, row.trial)
		if joined := strings.Join(notes, "; "); got != row.want || joined != row.notes {
			t.Errorf("%s: Parse = %v, %q; want %v, %q", row.about, got, joined, row.want, row.notes)
		}
	}
}

func TestNext(t *testing.T) {
	for _, row := range []struct {
		record Record
		slot   string
		trial  bool
		after  Record
	}{
		{Record{Good: B}, B, false, Record{Good: B}},
		{Record{A, B, 3}, B, true, Record{A, B, 2}},
		{Record{A, B, 1}, B, true, Record{A, B, 0}},
		{Record{A, B, 0}, A, false, Record{A, B, 0}},
	} {
		if slot, trial, after := Next(row.record); slot != row.slot || trial != row.trial || after != row.after {
			t.Errorf("Next(%v) = %s, %v, %v", row.record, slot, trial, after)
		}
	}
}

func TestArmRefuses(t *testing.T) {
	for _, row := range []struct {
		record  Record
		slot    string
		tries   int
		replace bool
		want    error // nil for one without a name
		text    string
	}{
		{Record{Good: A}, A, 3, true, ErrCommitted, "arm slot a: slot is the committed one"},
		{Record{A, B, 2}, B, 3, false, ErrTrial, "arm slot b: another trial is running"},
		{Record{A, B, 0}, B, 3, false, ErrTrial, "arm slot b: another trial is running"},
		{Record{A, B, 2}, B, 3, true, nil, ""},
		{Record{B, B, 2}, A, 3, false, nil, ""}, // a Commit that was not finished
		{Record{Good: A}, B, 0, false, nil, "arm slot b: 0 tries, want 1 to 3"},
		{Record{Good: A}, B, 4, false, nil, "arm slot b: 4 tries, want 1 to 3"},
		{Record{Good: A}, "c", 3, false, nil, `arm slot "c": want a or b`},
		{Record{Good: A}, "", 3, false, nil, `arm slot "": want a or b`},
	} {
		writes, err := row.record.Arm(row.slot, row.tries, row.replace)
		if row.text == "" && (err != nil || len(writes) != 1) {
			t.Errorf("Arm of %v = %d writes, %v", row.record, len(writes), err)
		}
		if row.text != "" && (err == nil || err.Error() != row.text || len(writes) > 0) {
			t.Errorf("Arm of %v = %d writes, %v; want %s", row.record, len(writes), err, row.text)
		}
		if row.want != nil && !errors.Is(err, row.want) {
			t.Errorf("Arm of %v: %v, want %v", row.record, err, row.want)
		}
	}
	if _, err := Commit("c"); err == nil {
		t.Error("Commit took slot c")
	}
}

// A disk is the contents of the three files.
type disk [3][]byte

var files = []string{Good1File, Good2File, TrialFile}

// with returns the disk after a write.
func (d disk) with(w Write) disk {
	d[slices.Index(files, w.File)] = w.Data
	return d
}

func (d disk) record() Record {
	r, _ := Parse(d[0], d[1], d[2])
	return r
}

// start does what GRUB does at one start, down to the bytes.
func (d disk) start(t *testing.T) (slot string, trial bool, after disk) {
	t.Helper()
	r := d.record()
	slot, trial, left := Next(r)
	if trial {
		b, err := countDown(d[2], r.Trial, left.Tries)
		if err != nil {
			t.Fatalf("record %v cannot be counted down: %v", r, err)
		}
		d = d.with(Write{TrialFile, b})
		if got := d.record(); got != left {
			t.Fatalf("record after the start is %v, want %v", got, left)
		}
	}
	return slot, trial, d
}

// disks returns every state of the record, sound and damaged.
func disks() (all []disk) {
	cross := func(goods1, goods2, trials [][]byte) {
		for _, good1 := range goods1 {
			for _, good2 := range goods2 {
				for _, trial := range trials {
					all = append(all, disk{good1, good2, trial})
				}
			}
		}
	}
	sound := [][]byte{goodBlock(A), goodBlock(B)}
	goods := append([][]byte{damaged["torn"], nil}, sound...)
	trials := [][]byte{trialBlock("", 0), twice(trialBlock(B, 3)), damaged["torn trial"], nil}
	for tries := range MaxTries + 1 {
		trials = append(trials, trialBlock(A, tries), trialBlock(B, tries))
	}
	cross(goods, goods, trials)
	// Sectors of zeros, in fewer places: they mix with a block in thousands of
	// ways.
	zeros := [][]byte{damaged["zeros"], lost(goodBlock(B))}
	some := [][]byte{trialBlock("", 0), trialBlock(B, 2)}
	cross(zeros, sound, some)
	cross(sound, zeros, some)
	cross(zeros, zeros, some)
	cross(sound, sound, [][]byte{damaged["zeros"], lost(trialBlock(B, 3)), lost(trialBlock(A, 0))})
	return all
}

// A change is a named list of writes.
type change struct {
	name   string
	writes []Write
}

// changes returns all that can be done to a disk, GRUB's own write included.
func changes(t *testing.T, d disk) []change {
	all := []change{{"disarm", Disarm()}, {"repair", Repair(d[0], d[1], d[2])}}
	r := d.record()
	for _, s := range []string{A, B} {
		writes, err := Commit(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, change{"commit " + s, writes})
	}
	for tries := range MaxTries {
		writes, err := r.Arm(Other(r.Good), tries+1, true)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, change{"arm " + Other(r.Good), writes})
	}
	if _, trial, after := d.start(t); trial {
		all = append(all, change{"start", []Write{{TrialFile, after[2]}}})
	}
	return all
}

// cuts calls f with every disk that a power cut in a change can leave: after
// each write, and within it with any number of bytes from the front or from
// the back written. A missing file is made whole or not at all.
func cuts(d disk, writes []Write, f func(disk)) {
	f(d)
	for _, w := range writes {
		old := d[slices.Index(files, w.File)]
		for k := 1; k < bootenv.Size && old != nil; k++ {
			if w.Data[k-1] != old[k-1] { // else it is the mixture before
				f(d.with(Write{w.File, torn(w.Data, old, k)}))
				f(d.with(Write{w.File, torn(old, w.Data, k)}))
			}
		}
		d = d.with(w)
		f(d)
	}
}

// A pick is what GRUB boots at one start.
type pick struct {
	slot  string
	trial bool
}

// settler returns a function that says what a disk boots until it does not
// change any more. It remembers: millions of disks read as a few hundred.
func settler(t *testing.T) func(disk) []pick {
	type key struct{ good1, good2, trial string }
	known := map[key][]pick{}
	read := [3]map[string]string{{}, {}, {}}
	reads := func(i int, b []byte, parse func() string) string {
		s, ok := read[i][string(b)]
		if !ok {
			s = parse()
			read[i][string(b)] = s
		}
		return s
	}
	return func(d disk) []pick {
		good := func(i int) string {
			return reads(i, d[i], func() string { s, err := parseGood(d[i]); return fmt.Sprint(s, err == nil) })
		}
		k := key{good(0), good(1), reads(2, d[2], func() string { s, n, err := parseTrial(d[2]); return fmt.Sprint(s, n, err == nil) })}
		if _, ok := known[k]; !ok {
			for i := 0; ; i++ {
				slot, trial, next := d.start(t)
				known[k] = append(known[k], pick{slot, trial})
				if !trial && next.record() == d.record() {
					break
				}
				if i > 2*MaxTries {
					t.Fatalf("%v does not settle", d.record())
				}
				d = next
			}
		}
		return known[k]
	}
}

// TestPowerCut cuts the power at every byte of every change of every record,
// and lets the machine start until it has settled.
func TestPowerCut(t *testing.T) {
	cut := 0
	settle := settler(t)
	for _, d := range disks() {
		before := d.record()
		if before.Trial == "" {
			// GRUB cannot count this one down, but a write that is cut after
			// the second sector may make it whole.
			before.Trial, before.Tries, _ = readTrial(d[2])
		}
		for _, c := range changes(t, d) {
			end := d
			for _, w := range c.writes {
				end = end.with(w)
			}
			after := end.record()
			cuts(d, c.writes, func(at disk) {
				cut++
				trials := 0
				for _, p := range settle(at) {
					if p.trial {
						trials++
					}
					if p.trial && p.slot != before.Trial && p.slot != after.Trial || !p.trial && p.slot != before.Good && p.slot != after.Good {
						t.Fatalf("%s of %v: picks %v; blocks %.80q", c.name, before, p, at)
					}
				}
				if trials > max(before.Tries, after.Tries) {
					t.Fatalf("%s of %v: %d trials; blocks %.80q", c.name, before, trials, at)
				}
			})
		}
	}
	t.Logf("%d cuts", cut)
}

// TestTrialRuns: after Arm the trial is picked as often as it has tries, then
// the committed slot for ever.
func TestTrialRuns(t *testing.T) {
	for _, d := range disks() {
		r := d.record()
		for tries := 1; tries <= MaxTries; tries++ {
			writes, err := r.Arm(Other(r.Good), tries, true)
			if err != nil {
				t.Fatal(err)
			}
			at := d.with(writes[0])
			for i := range 3 * MaxTries {
				slot, trial, next := at.start(t)
				if wantTrial := i < tries; trial != wantTrial || (slot == r.Good) == wantTrial {
					t.Fatalf("%v, armed for %d tries: start %d picks %s, trial %v", r, tries, i+1, slot, trial)
				}
				at = next
			}
		}
	}
}

// TestCommitHolds: as soon as the first write of Commit is on the disk, its
// slot is the one that stays; and when all are, one damaged block of any kind
// does not change that.
func TestCommitHolds(t *testing.T) {
	settle := settler(t)
	for _, d := range disks() {
		for _, s := range []string{A, B} {
			at := d
			writes, err := Commit(s)
			if err != nil {
				t.Fatal(err)
			}
			cuts(d.with(writes[0]), writes[1:], func(at disk) {
				if picks := settle(at); picks[len(picks)-1] != (pick{s, false}) {
					t.Fatalf("commit %s of %v: picks %v; blocks %.80q", s, d.record(), picks, at)
				}
			})
			for _, w := range writes {
				at = at.with(w)
			}
			for name, block := range damaged {
				for _, file := range files {
					if slot, trial, _ := at.with(Write{file, block}).start(t); slot != s || trial {
						t.Fatalf("%s committed, %s %s: picks %s, trial %v", s, file, name, slot, trial)
					}
				}
			}
		}
	}
}

func TestRepair(t *testing.T) {
	for _, d := range disks() {
		before := d.record()
		at := d
		for _, w := range Repair(d[0], d[1], d[2]) {
			at = at.with(w)
		}
		after, notes := Parse(at[0], at[1], at[2])
		if before.Trial == before.Good {
			before.Trial, before.Tries = "", 0
		}
		if after != before || len(notes) > 0 {
			t.Fatalf("Repair made %v of %v, notes %q", after, before, notes)
		}
		if again := Repair(at[0], at[1], at[2]); len(again) > 0 {
			t.Fatalf("%v is repaired twice: %q", before, again)
		}
	}
	if w := Repair(goodBlock(B), goodBlock(B), trialBlock(A, 0)); !reflect.DeepEqual(w, []Write(nil)) {
		t.Errorf("Repair of a sound record = %q", w)
	}
}
