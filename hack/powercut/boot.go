package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kedgeos/kedge/hack/powercut/judge"
	"github.com/kedgeos/kedge/hack/powercut/replay"
	"github.com/kedgeos/kedge/pkg/host/qemu"
)

// bootLimit is how long a disk may take to a Ready node; emulation is slow.
const bootLimit = 15 * time.Minute

// mostStarts is how often a machine may start until it is Ready: a trial has
// three starts.
const mostStarts = 5

// choose returns n of the cuts to start from, in their order. Half of them at
// most are the first that left a certain file empty; the others are spread evenly.
func (s *sweep) choose(cuts []replay.Cut, n int) []replay.Cut {
	n = min(n, len(cuts))
	first := map[int]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.empty)) {
		if len(first) < n/2 {
			first[s.empty[name].first.Number] = true
		}
	}
	var chosen, others []replay.Cut
	for _, c := range cuts {
		if first[c.Number] {
			chosen = append(chosen, c)
		} else {
			others = append(others, c)
		}
	}
	for k, rest := 0, n-len(chosen); k < rest; k++ {
		chosen = append(chosen, others[k*len(others)/rest])
	}
	slices.SortStableFunc(chosen, func(a, b replay.Cut) int { return cmp.Compare(a.From, b.From) })
	return chosen
}

// boots starts n machines with disks of the cuts, as many at a time as was asked
// for, but for those that an earlier run has started.
func (s *sweep) boots(ctx context.Context, cuts []replay.Cut, n int) error {
	cuts = s.choose(cuts, n)
	if !s.r.VM || len(cuts) == 0 {
		return nil
	}
	turn, err := qemu.Turn()
	if err != nil {
		return err
	}
	defer turn.Unlock()
	return s.share(ctx, cuts[min(int(s.o.started), len(cuts)):], s.bootAll)
}

// share shares disks that are started between so many workers as was asked for.
func (s *sweep) share(ctx context.Context, cuts []replay.Cut, work func(context.Context, <-chan replay.Cut) error) error {
	queue := make(chan replay.Cut, len(cuts))
	for _, c := range cuts {
		queue <- c
	}
	close(queue)
	say(fmt.Sprintf("%s: %d disks to start", s.r.Name, len(queue)))
	g, within := errgroup.WithContext(ctx)
	for range max(1, s.o.machines) {
		g.Go(func() error { return work(within, queue) })
	}
	return g.Wait()
}

// A disk is what a cut has left, in the room of who looks at it.
type disk struct {
	cut     replay.Cut
	image   *replay.Image
	verdict judge.Verdict
	room    *judge.Room
}

// disks makes the disks of cuts, one after the other, and looks at each before it
// is used.
func (s *sweep) disks(ctx context.Context, cuts <-chan replay.Cut, use func(disk) error) error {
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
	for c := range cuts {
		if err := d.Advance(c.From); err != nil {
			return err
		}
		i, err := c.Apply(d)
		if err != nil {
			return err
		}
		v, err := room.Look(ctx, i, c.At)
		if err != nil {
			return err
		}
		if err := use(disk{c, i, v, room}); err != nil {
			return err
		}
	}
	return nil
}

// bootAll starts one machine after the other, each from the next of the cuts.
func (s *sweep) bootAll(ctx context.Context, cuts <-chan replay.Cut) error {
	file, err := os.CreateTemp(s.o.work, "powercut-boot-*.img")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if err := file.Close(); err != nil {
		return err
	}
	return s.disks(ctx, cuts, func(d disk) error {
		return s.boot(ctx, d.cut, d.verdict, file.Name(), func() error { return d.image.WriteFile(file.Name(), 0, d.image.Disk.Size) })
	})
}

// mostAttempts is how often a disk is started whose emulator breaks.
const mostAttempts = 3

// boot starts one disk, which fill writes to the file; that it does not come up is
// a fault, not an error. When the emulator is at fault, it is started once more.
func (s *sweep) boot(ctx context.Context, c replay.Cut, v judge.Verdict, file string, fill func() error) error {
	start := time.Now()
	var broken *qemu.StoppedError
	var err error
	for attempt := 1; ; attempt++ {
		if err = fill(); err != nil {
			return err
		}
		err = s.come(ctx, v, file)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.As(err, &broken) || !broken.Flake || attempt == mostAttempts {
			break
		}
		say(fmt.Sprintf("%s: %s: %s; it is started once more", s.r.Name, c, broken.Reason))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.booted++
	if err != nil {
		s.bricked++
		say(fmt.Sprintf("%s: FAULT at %s, in %q: it does not start: %v", s.r.Name, c, s.phase(c.At), err))
		return nil
	}
	say(fmt.Sprintf("%s: %s, in %q: Ready after %.0f s", s.r.Name, c, s.phase(c.At), time.Since(start).Seconds()))
	return nil
}

// come brings a disk to a Ready node, if need be by the stick that installs.
func (s *sweep) come(ctx context.Context, v judge.Verdict, file string) error {
	disk := qemu.Drive{File: file, Bus: qemu.Disk, Boot: true}
	network := qemu.Network{User: true, Isolated: true}
	if !v.Complete {
		err := watch(ctx, qemu.Spec{Image: s.r.Path(s.r.Stick), CPUs: s.o.cpus, Drives: []qemu.Drive{disk}, Network: network}, func(ctx context.Context, vm *qemu.VM) error {
			text, _, err := vm.Console.WaitText(ctx, 0, regexp.MustCompile(`install: (installed;|this machine is installed already|disk holds data)`))
			if err != nil {
				return err
			}
			if !strings.Contains(text, "install: installed;") {
				return errors.New(text)
			}
			return vm.WaitOff(ctx)
		})
		if err != nil {
			return fmt.Errorf("install again: %w", err)
		}
	}
	return watch(ctx, qemu.Spec{Arch: "amd64", CPUs: s.o.cpus, Drives: []qemu.Drive{disk}, Network: network}, func(ctx context.Context, vm *qemu.VM) error {
		return ready(ctx, vm.Console)
	})
}

// ready waits until the node is Ready, in whatever start of the machine.
func ready(ctx context.Context, c *qemu.Console) error {
	for start := 1; ; start++ {
		_, err := c.WaitStage(ctx, start, "ready")
		var stopped *qemu.StoppedError
		if err == nil || !errors.As(err, &stopped) || c.Boots() <= start || start == mostStarts {
			return err
		}
	}
}

// watch starts a machine and has a look at it.
func watch(ctx context.Context, s qemu.Spec, look func(context.Context, *qemu.VM) error) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	vm, err := qemu.Launch(ctx, s)
	if err != nil {
		return err
	}
	defer vm.Kill()
	if err := look(ctx, vm); err != nil {
		lines := slices.DeleteFunc(vm.Console.Tail(12), func(l string) bool { return strings.TrimSpace(l) == "" })
		return fmt.Errorf("%w; last lines of the console:\n  %s", err, strings.Join(lines, "\n  "))
	}
	return nil
}
