// Package record makes recordings of machines whose power is cut afterwards, on
// paper: every write and flush of a disk, and what was promised when.
//
// A recording is a folder with the log of the disk (see package replay), the
// disk before the first event unless it was empty, and recording.json.
package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kedgeos/kedge/hack/powercut/replay"
)

// Names of the files of a recording.
const (
	logFile  = "writes.log"
	baseFile = "base.img"
	diskFile = "disk.img" // what QEMU writes to; of no use later
	infoFile = "recording.json"
)

// A Recording is what was recorded.
type Recording struct {
	Name  string
	Size  int64  // of the disk in bytes
	Small int64  `json:",omitempty"` // its size until the mark Grown; 0 means Size
	Base  string // the disk before it; "" when it was empty
	Stick string `json:",omitempty"` // the image that installs; "" when none was there
	VM    bool   // of a machine that can be booted
	Marks []Mark

	dir string
}

// A What says what a mark tells.
type What string

// What is marked. But for Phase, each says what holds from then on, in place of
// what an earlier mark of the kind said of the same thing.
const (
	Phase     What = "phase"     // Name: what goes on
	Installed What = "installed" // the disk starts by itself
	Again     What = "again"     // from Installed on: with Any, it is installed again, and its state kept; without, that is over
	Grown     What = "grown"     // the disk has been made larger
	Slot      What = "slot"      // slot Name holds the release ID; "" for nobody knows
	Good      What = "good"      // the committed slot is one of Any
	Upgrade   What = "upgrade"   // the phase of the upgrade's state is one of Any
	File      What = "file"      // the file Name of the state has one of the SHA-256 digests in Any; "" for no file
	Row       What = "row"       // the cluster's datastore has the key Name
)

// A Mark is something that was known when so many events had happened.
type Mark struct {
	Event int
	What  What
	Name  string   `json:",omitempty"`
	ID    string   `json:",omitempty"`
	Any   []string `json:",omitempty"`
}

// Open reads the recording in a folder.
func Open(dir string) (*Recording, error) {
	b, err := os.ReadFile(filepath.Join(dir, infoFile))
	if err != nil {
		return nil, err
	}
	r := &Recording{dir: dir}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read recording %s: %w", dir, err)
	}
	return r, nil
}

// Log opens the recording's log.
func (r *Recording) Log() (*replay.Log, error) { return replay.OpenLog(filepath.Join(r.dir, logFile)) }

// Usable says why there is nothing to check, for a recording that was broken off
// before its disk was installed.
func (r *Recording) Usable() error {
	if !slices.ContainsFunc(r.Marks, func(m Mark) bool { return m.What == Installed }) {
		return errors.New("it is never installed")
	}
	l, err := r.Log()
	if err != nil {
		return err
	}
	return l.Close()
}

// Path returns the path of a file of the recording that Base or Stick names.
func (r *Recording) Path(name string) string { return filepath.Join(r.dir, name) }

// Disk returns the disk before the first event, and what ends its use.
func (r *Recording) Disk(l *replay.Log) (*replay.Disk, func() error, error) {
	if r.Base == "" {
		d, err := replay.NewDisk(l, empty{}, r.Size)
		return d, func() error { return nil }, err
	}
	f, err := os.Open(r.Path(r.Base))
	if err != nil {
		return nil, nil, err
	}
	d, err := replay.NewDisk(l, f, r.Size)
	return d, f.Close, err
}

type empty struct{}

// ReadAt implements io.ReaderAt.
func (empty) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}

// SizeAt returns the bytes that the disk has when so many events have happened.
func (r *Recording) SizeAt(at int) int64 {
	grown := func(m Mark) bool { return m.What == Grown && m.Event <= at }
	if r.Small == 0 || slices.ContainsFunc(r.Marks, grown) {
		return r.Size
	}
	return r.Small
}

// Phases returns the phases of the recording, whose log has that many events.
func (r *Recording) Phases(events int) (phases []replay.Phase) {
	for _, m := range r.Marks {
		if m.What != Phase {
			continue
		}
		if n := len(phases); n > 0 {
			phases[n-1].To = m.Event
		}
		phases = append(phases, replay.Phase{Name: m.Name, From: m.Event, To: events})
	}
	return phases
}

// Promised returns the marks that hold when so many events have happened.
func (r *Recording) Promised(at int) []Mark {
	var hold []Mark
	for _, m := range r.Marks {
		if m.What == Phase || m.Event > at {
			continue
		}
		hold = slices.DeleteFunc(hold, func(old Mark) bool { return old.What == m.What && old.Name == m.Name })
		hold = append(hold, m)
	}
	return hold
}

// A recorder writes a recording while it happens. Its methods may be called
// from any goroutine.
type recorder struct {
	say func(string)

	mu sync.Mutex
	r  Recording
}

// newRecorder makes the folder anew, with an empty log.
func newRecorder(dir string, r Recording, say func(string)) (*recorder, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r.dir = dir
	return &recorder{say: say, r: r}, os.WriteFile(filepath.Join(dir, logFile), nil, 0o644)
}

func (r *recorder) path(name string) string { return filepath.Join(r.r.dir, name) }

// count returns the events of the log so far.
func (r *recorder) count() (int, error) {
	if info, err := os.Stat(r.path(logFile)); err != nil || info.Size() == 0 {
		return 0, err
	}
	l, err := replay.OpenLog(r.path(logFile))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return len(l.Events), nil
}

// settle is how long the log takes at most to hold what the guest knows to be
// written.
const settle = 300 * time.Millisecond

// before marks what may be different from now on, before it is done.
func (r *recorder) before(marks ...Mark) error { return r.mark(marks) }

// after marks what is promised from now on, when its doer has said so.
func (r *recorder) after(marks ...Mark) error {
	time.Sleep(settle)
	return r.mark(marks)
}

func (r *recorder) mark(marks []Mark) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.count()
	if err != nil {
		return err
	}
	for _, m := range marks {
		m.Event = n
		r.r.Marks = append(r.r.Marks, m)
		r.say(fmt.Sprintf("%s: event %d: %s %s %s%q", r.r.Name, n, m.What, m.Name, m.ID, m.Any))
	}
	return r.save()
}

// phase marks the begin of a phase.
func (r *recorder) phase(name string) error { return r.before(Mark{What: Phase, Name: name}) }

// save writes the recording; one that was broken off is good up to there.
func (r *recorder) save() error {
	b, err := json.MarshalIndent(r.r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.path(infoFile), append(b, '\n'), 0o644)
}

// createSparse makes an empty file of size bytes.
func createSparse(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// CopySparse copies a file and leaves out what is zero.
func CopySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for at := int64(0); at < info.Size(); at += int64(len(buffer)) {
		b := buffer[:min(int64(len(buffer)), info.Size()-at)]
		if _, err := in.ReadAt(b, at); err != nil {
			return err
		}
		if len(bytes.TrimLeft(b, "\x00")) == 0 {
			continue
		}
		if _, err := out.WriteAt(b, at); err != nil {
			return err
		}
	}
	return out.Close()
}
