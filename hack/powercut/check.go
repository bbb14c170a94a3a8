package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kedgeos/kedge/hack/powercut/judge"
	"github.com/kedgeos/kedge/hack/powercut/record"
	"github.com/kedgeos/kedge/hack/powercut/replay"
)

// options are what a check was asked for.
type options struct {
	dir, work      string
	image          string
	cuts, boot     int
	start          int
	seed           uint64
	only           int
	recording      string
	again          bool
	workers, show  int
	machines, cpus int
	started        uint
}

// check makes the cuts of all recordings and judges them.
func check(ctx context.Context, args []string) error {
	o := options{}
	fs := flag.NewFlagSet("powercut", flag.ContinueOnError)
	fs.StringVar(&o.dir, "dir", "dist/powercut", "`folder` of the recordings")
	fs.StringVar(&o.work, "work", workFolder(), "`folder` for disks, better in memory")
	fs.StringVar(&o.image, "image", "dist/kedge-amd64.iso", "`image` whose cluster is recorded")
	fs.IntVar(&o.cuts, "n", 300, "`number` of cuts over all recordings")
	fs.IntVar(&o.boot, "boot", 0, "`number` of disks that are started to a Ready node, or until installed again")
	fs.IntVar(&o.start, "start", 0, "`number` of disks on whose state Kubernetes is started on this machine, until pods run")
	fs.Uint64Var(&o.seed, "seed", 1, "`seed` of the cuts")
	fs.IntVar(&o.only, "only", -1, "look at the cut of this `number` alone; -recording, -n and -seed as a fault says")
	fs.StringVar(&o.recording, "recording", "", "use this recording alone, by its `name`")
	fs.BoolVar(&o.again, "again", false, "record again what needs no virtual machine")
	fs.IntVar(&o.workers, "workers", runtime.NumCPU(), "`number` of cuts at a time")
	fs.UintVar(&o.started, "started", 0, "`number` of those disks that were started already, by a run that was cut off")
	fs.IntVar(&o.machines, "machines", 1, "`number` of machines that are started at a time")
	fs.IntVar(&o.cpus, "cpus", 0, "`number` of processors of each machine; 0 means as many as any other")
	fs.IntVar(&o.show, "show", 10, "show at most this `number` of faults of a recording")
	if err := fs.Parse(args); err != nil {
		return err
	}
	recordings, err := o.open(ctx)
	if err != nil {
		return err
	}
	machines := 0
	for _, r := range recordings {
		if r.VM {
			machines++
		}
	}
	boot := o.boot
	var all tally
	for _, r := range recordings {
		if r.VM {
			o.boot = (boot + machines - 1) / machines
		}
		t, err := o.checkOne(ctx, r, o.cuts/len(recordings))
		if err != nil {
			return err
		}
		all.add(t)
	}
	all.print()
	return all.err()
}

// workFolder is memory where the system has some to offer as files.
func workFolder() string {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() {
		return memory
	}
	return os.TempDir()
}

// open returns the recordings there are; those that need no machine are made
// when they are missing.
func (o options) open(ctx context.Context) (all []*record.Recording, err error) {
	for name, make := range map[string]func(dir string) error{
		record.Native:  func(dir string) error { return record.MakeNative(ctx, dir, func(string) {}) },
		record.Cluster: func(dir string) error { return record.MakeCluster(ctx, dir, o.image, func(string) {}) },
	} {
		dir := filepath.Join(o.dir, name)
		if _, err := os.Stat(dir); err == nil && !o.again || o.recording != "" && o.recording != name {
			continue
		}
		if _, err := os.Stat(o.image); err != nil && name == record.Cluster {
			say("there is no recording of " + name + ": " + err.Error() + "; \"make image\" builds it")
			continue
		}
		say("record " + name)
		if err := errors.Join(os.RemoveAll(dir), make(dir)); err != nil {
			return nil, fmt.Errorf("record %s: %w", name, err)
		}
	}
	for _, name := range []string{record.Native, record.Cluster, record.Install, record.Life} {
		if o.recording != "" && o.recording != name {
			continue
		}
		r, err := record.Open(filepath.Join(o.dir, name))
		if errors.Is(err, fs.ErrNotExist) && o.recording == "" {
			if name == record.Install || name == record.Life {
				say("there is no recording of " + name + "; \"powercut record\" makes it with virtual machines")
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := r.Usable(); err != nil && o.recording == "" {
			say(fmt.Sprintf("the recording of %s is left out: it was broken off too early: %v", name, err))
			continue
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no recording %q", o.recording)
	}
	return all, nil
}

// A tally counts.
type tally struct {
	cuts, checked, distinct   int
	started, booted           int
	bricked, lost             int // cuts with such a fault
	forced                    int // cuts after which e2fsck needs -y; nothing is lost
	blindChecked, blindFaults int
	blind                     []string // recordings whose negative control found nothing
}

func (t *tally) add(o tally) {
	t.cuts, t.checked, t.distinct = t.cuts+o.cuts, t.checked+o.checked, t.distinct+o.distinct
	t.started, t.booted = t.started+o.started, t.booted+o.booted
	t.bricked, t.lost, t.forced = t.bricked+o.bricked, t.lost+o.lost, t.forced+o.forced
	t.blindChecked, t.blindFaults = t.blindChecked+o.blindChecked, t.blindFaults+o.blindFaults
	t.blind = append(t.blind, o.blind...)
}

func (t tally) print() {
	for _, f := range []struct {
		name  string
		value int
	}{
		{"cuts", t.cuts}, {"checked", t.checked}, {"distinct", t.distinct}, {"started", t.started}, {"booted", t.booted}, {"bricked", t.bricked}, {"data_lost", t.lost},
		{"forced_fsck", t.forced},
		{"control_checked", t.blindChecked}, {"control_faults", t.blindFaults},
	} {
		fmt.Println(f.name, f.value)
	}
}

func (t tally) err() error {
	if t.bricked+t.lost > 0 {
		return fmt.Errorf("%d cuts brick the machine, %d lose something", t.bricked, t.lost)
	}
	if len(t.blind) > 0 {
		return fmt.Errorf("blind: without flushes nothing is found wrong in %s", strings.Join(t.blind, ", "))
	}
	return nil
}

// controlShare is how many cuts there are for one of the negative control, and
// controlLeast how many of those there are at least.
const (
	controlShare = 10
	controlLeast = 60
)

// checkOne checks n cuts of one recording, and starts some of the disks.
func (o options) checkOne(ctx context.Context, r *record.Recording, n int) (t tally, err error) {
	l, err := r.Log()
	if err != nil {
		return t, err
	}
	defer l.Close()
	j, err := judge.New(ctx, r, l, o.work)
	if err != nil {
		return t, err
	}
	phases := r.Phases(len(l.Events))
	cutter := replay.NewCutter(l, o.seed, phases)
	cuts := cutter.Cuts(n)
	if o.only >= 0 {
		cuts = slices.DeleteFunc(cuts, func(c replay.Cut) bool { return c.Number != o.only })
	}
	say(fmt.Sprintf("%s: %d events, %d phases, %d cuts with seed %d", r.Name, len(l.Events), len(phases), len(cuts), o.seed))
	honest := newSweep(o, r, l, j, phases)
	honest.all, honest.show = n, o.show
	if err := honest.run(ctx, cuts); err != nil {
		return t, err
	}
	honest.tellEmpty()
	if err := honest.starts(ctx, cuts, o.start); err != nil {
		return t, err
	}
	if err := honest.boots(ctx, cuts, o.boot); err != nil {
		return t, err
	}
	t = tally{cuts: len(cuts), checked: honest.checked, distinct: len(honest.distinct), started: honest.started, booted: honest.booted, bricked: honest.bricked, lost: honest.lost, forced: honest.forced}
	slots, esps, states := j.Distinct()
	say(fmt.Sprintf("%s: %d distinct disks, with %d slots, %d ESPs, %d states", r.Name, len(honest.distinct), slots, esps, states))
	if o.only < 0 {
		cutter.Blind = true
		control := newSweep(o, r, l, j, phases)
		if err := control.run(ctx, cutter.Cuts(max(n/controlShare, controlLeast))); err != nil {
			return t, err
		}
		t.blindChecked, t.blindFaults = control.checked, control.bricked+control.lost
		say(fmt.Sprintf("%s: negative control: %d of %d cuts brick, %d lose something", r.Name, control.bricked, control.checked, control.lost))
		if t.blindFaults == 0 {
			t.blind = append(t.blind, r.Name)
		}
	}
	return t, nil
}

// A sweep looks at many cuts of one recording.
type sweep struct {
	all    int // cuts that were made, of which it may look at one
	o      options
	r      *record.Recording
	l      *replay.Log
	j      *judge.Judge
	phases []replay.Phase
	show   int

	mu                    sync.Mutex
	checked               int
	started, booted       int
	bricked, lost, forced int
	distinct              map[uint64]bool
	empty                 map[string]*emptied // by the kind of the file
	told                  time.Time
}

// emptied is how often a file was empty after a cut, and after which first.
type emptied struct {
	times int
	first replay.Cut
}

func newSweep(o options, r *record.Recording, l *replay.Log, j *judge.Judge, phases []replay.Phase) *sweep {
	return &sweep{o: o, r: r, l: l, j: j, phases: phases, distinct: map[uint64]bool{}, empty: map[string]*emptied{}}
}

// tellEmpty names the files that were empty after a cut: programs wrote them and
// did not wait for the disk. That is no fault yet.
func (s *sweep) tellEmpty() {
	for _, name := range slices.Sorted(maps.Keys(s.empty)) {
		e := s.empty[name]
		say(fmt.Sprintf("%s: empty after %d cuts, first at %s: %s", s.r.Name, e.times, e.first, name))
	}
}

// run shares the cuts between workers.
func (s *sweep) run(ctx context.Context, cuts []replay.Cut) error {
	g, within := errgroup.WithContext(ctx)
	share := (len(cuts) + s.o.workers - 1) / max(s.o.workers, 1)
	for part := range slices.Chunk(cuts, max(share, 1)) {
		g.Go(func() error { return s.work(within, part) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// work looks at cuts with a disk of its own.
func (s *sweep) work(ctx context.Context, cuts []replay.Cut) error {
	d, closeDisk, err := s.r.Disk(s.l)
	if err != nil {
		return err
	}
	defer closeDisk()
	room, err := s.j.Room(d, s.o.work)
	if err != nil {
		return err
	}
	defer room.Close()
	for _, c := range cuts {
		if ctx.Err() != nil {
			return nil
		}
		if err := d.Advance(c.From); err != nil {
			return err
		}
		i, err := c.Apply(d)
		if err != nil {
			return err
		}
		v, err := room.Look(ctx, i, c.At)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", s.r.Name, c, err)
		}
		s.note(c, i.Sum(0, d.Size), v)
	}
	return nil
}

// every is how often progress is told.
const every = 30 * time.Second

func (s *sweep) note(c replay.Cut, sum uint64, v judge.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked++
	s.distinct[sum] = true
	if len(v.Bricked) > 0 {
		s.bricked++
	}
	if len(v.Lost) > 0 {
		s.lost++
	}
	if v.Forced {
		s.forced++
	}
	for _, name := range v.Empty {
		if e := s.empty[name]; e == nil {
			s.empty[name] = &emptied{1, c}
		} else if e.times++; c.Number < e.first.Number {
			e.first = c
		}
	}
	if faults := append(v.Bricked, v.Lost...); len(faults) > 0 && s.show > 0 {
		s.show--
		say(fmt.Sprintf("%s: FAULT at %s, in %q: %s", s.r.Name, c, s.phase(c.At), strings.Join(faults, "; ")))
		say(fmt.Sprintf("  to see it again: go run ./hack/powercut -recording %s -n %d -seed %d -only %d", s.r.Name, s.all, s.o.seed, c.Number))
	}
	if time.Since(s.told) > every {
		s.told = time.Now()
		say(fmt.Sprintf("%s: %d checked, %d distinct, %d bricked, %d lost", s.r.Name, s.checked, len(s.distinct), s.bricked, s.lost))
	}
}

// phase names what went on before an event.
func (s *sweep) phase(at int) (name string) {
	for _, p := range s.phases {
		if at > p.From || at == p.From && name == "" {
			name = p.Name
		}
	}
	return name
}
