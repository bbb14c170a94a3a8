package slot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/bootenv"
)

// stand returns a Store with a record of its own, good being A, that writes
// down what is done and breaks at the step of number fail, from 1.
func stand(t *testing.T, fail int) (Store, *[]string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), Folder)
	if err := Create(dir, A); err != nil {
		t.Fatal(err)
	}
	steps := &[]string{}
	step := func(text string) error {
		*steps = append(*steps, text)
		if len(*steps) == fail {
			return errBroken
		}
		return nil
	}
	return Store{Dir: dir, Open: func(path string) (File, error) {
		name := filepath.Base(path)
		if err := step("open " + name); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		return recorder{f, name, step}, err
	}}, steps
}

var errBroken = errors.New("broken")

// A recorder is a file that tells what is done to it.
type recorder struct {
	*os.File
	name string
	step func(string) error
}

func (r recorder) WriteAt(b []byte, at int64) (int, error) {
	if err := r.step(fmt.Sprintf("write %s %d@%d", r.name, len(b), at)); err != nil {
		n, _ := r.File.WriteAt(b[:40], at)
		return n, err
	}
	return r.File.WriteAt(b, at)
}

func (r recorder) Sync() error {
	return errors.Join(r.step("sync "+r.name), r.File.Sync())
}

func (r recorder) Close() error {
	return errors.Join(r.step("close "+r.name), r.File.Close())
}

func load(t *testing.T, s Store) Record {
	t.Helper()
	r, notes, err := s.Load()
	if err != nil || len(notes) > 0 {
		t.Fatalf("Load = %v, %q, %v", r, notes, err)
	}
	return r
}

func TestStore(t *testing.T) {
	s, steps := stand(t, 0)
	s.Open = nil // the real thing first
	before := map[string]fs.FileInfo{}
	for _, name := range files {
		before[name], _ = os.Stat(filepath.Join(s.Dir, name))
	}
	for _, row := range []struct {
		about string
		do    func() error
		want  Record
		err   error
	}{
		{"create", func() error { return nil }, Record{Good: A}, nil},
		{"arm", func() error { return s.Arm(B, 3, false) }, Record{A, B, 3}, nil},
		{"arm again", func() error { return s.Arm(B, 2, false) }, Record{A, B, 3}, ErrTrial},
		{"arm anew", func() error { return s.Arm(B, 2, true) }, Record{A, B, 2}, nil},
		{"disarm", s.Disarm, Record{Good: A}, nil},
		{"arm the committed", func() error { return s.Arm(A, 2, true) }, Record{Good: A}, ErrCommitted},
		{"commit", func() error { return s.Commit(B) }, Record{Good: B}, nil},
		{"repair", s.Repair, Record{Good: B}, nil},
	} {
		if err := row.do(); !errors.Is(err, row.err) {
			t.Errorf("%s: %v, want %v", row.about, err, row.err)
		}
		if got := load(t, s); got != row.want {
			t.Errorf("%s: record is %v, want %v", row.about, got, row.want)
		}
	}
	for _, name := range files {
		info, err := os.Stat(filepath.Join(s.Dir, name))
		if err != nil || !os.SameFile(info, before[name]) || info.Size() != bootenv.Size {
			t.Errorf("%s was not written in place", name)
		}
	}
	if len(*steps) > 0 {
		t.Errorf("steps of a Store without Open: %q", *steps)
	}
}

func TestStoreSyncsEachWrite(t *testing.T) {
	s, steps := stand(t, 0)
	if err := s.Commit(B); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range files {
		want = append(want, "open "+name, "write "+name+" 1024@0", "sync "+name, "close "+name)
	}
	if !slices.Equal(*steps, want) {
		t.Errorf("steps = %q, want %q", *steps, want)
	}
}

// TestStoreBreaks breaks each step of a Commit in turn: the error says so, a
// slot that was good stays committed, and Repair and Commit mend it.
func TestStoreBreaks(t *testing.T) {
	for fail := 1; fail <= 12; fail++ {
		s, _ := stand(t, fail)
		if err := s.Commit(B); !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "write boot record: ") {
			t.Errorf("step %d broken: %v", fail, err)
		}
		want := A
		if fail > 2 { // good1.env is written
			want = B
		}
		r, _, err := s.Load()
		if err != nil || r.Good != want {
			t.Errorf("step %d broken: record is %v, %v; want slot %s", fail, r, err, want)
		}
		if err := s.Repair(); err != nil {
			t.Error(err)
		}
		load(t, s)
		if err := s.Commit(B); err != nil {
			t.Error(err)
		}
		if r := load(t, s); r != (Record{Good: B}) {
			t.Errorf("step %d broken, commit again: record is %v", fail, r)
		}
	}
}

func TestStoreMendsFiles(t *testing.T) {
	s, _ := stand(t, 0)
	if err := s.Commit(B); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(s.Dir, Good1File))
	os.Truncate(filepath.Join(s.Dir, TrialFile), 5000)
	r, notes, err := s.Load()
	want := []string{"good1.env: environment block: 0 bytes, want 1024", "trial.env: environment block: 1025 bytes, want 1024"}
	if r != (Record{Good: B}) || !slices.Equal(notes, want) || err != nil {
		t.Errorf("Load = %v, %q, %v", r, notes, err)
	}
	if err := s.Repair(); err != nil {
		t.Fatal(err)
	}
	if r := load(t, s); r != (Record{Good: B}) {
		t.Errorf("record is %v", r)
	}
}

// TestStoreWithoutESP: nothing is made in the empty folder of an ESP that is
// not mounted.
func TestStoreWithoutESP(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	_, _, err := s.Load()
	for _, err := range []error{err, s.Arm(B, 1, true), s.Commit(A), s.Disarm(), s.Repair()} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "read boot record: ") {
			t.Errorf("error %v", err)
		}
	}
	if entries, _ := os.ReadDir(s.Dir); len(entries) > 0 {
		t.Errorf("the folder holds %v", entries)
	}
	if err := Create(s.Dir, "c"); err == nil {
		t.Error("Create took slot c")
	}
}

func TestLoadUnreadable(t *testing.T) {
	s, _ := stand(t, 0)
	path := filepath.Join(s.Dir, Good2File)
	os.Remove(path)
	os.Mkdir(path, 0o755)
	r, notes, err := s.Load()
	if r != (Record{Good: A}) || err != nil || len(notes) != 2 || !strings.Contains(notes[0], "is a directory") {
		t.Errorf("Load = %v, %q, %v", r, notes, err)
	}
}
