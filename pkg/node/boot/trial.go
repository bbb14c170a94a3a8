package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/kernel"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// TrialOver is the file by which the agent says that a trial has ended: its
// release was committed, or, with the text GivenUp, it asks for a restart.
const (
	TrialOver = "/run/kedge/trial-over"
	GivenUp   = "given up"
)

// Times of a trial, as process 1 sees it. The agent decides long before the
// limit; process 1 only sees to it that somebody does.
const (
	trialLimit      = 25 * time.Minute
	damagedLimit    = 2 * time.Minute // the same, of a slot whose root is damaged
	watchdogTimeout = 60 * time.Second
	watchdogPet     = 10 * time.Second
	watchdogWait    = time.Second // for the hardware's driver

	// What hangs on its way to a verdict, or afterwards on its way down, is reset;
	// the services have more than three minutes to stop.
	guardLimit = trialLimit + 5*time.Minute
	downLimit  = 5 * time.Minute
)

// watchdogVar names the file of the watchdog that the initrd has started, in
// the environment of the root's init.
const watchdogVar = "KEDGE_WATCHDOG"

// A guard pets the watchdog of a trial, which resets the machine when process 1
// or the kernel hang. The nil guard is that of no trial.
type guard struct {
	stop, stopped chan struct{}
	dog           *power.Watchdog // nil without one

	mu    sync.Mutex
	until time.Time // from when on nobody pets it
}

// limit lets the watchdog reset the machine some time from now.
func (g *guard) limit(d time.Duration) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = sooner(g.until, time.Now().Add(d))
}

func (g *guard) over() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().After(g.until)
}

// newGuard starts what start returns, in the background.
func newGuard(start func() (*power.Watchdog, error), note func(error)) *guard {
	g := &guard{stop: make(chan struct{}), stopped: make(chan struct{}), until: time.Now().Add(guardLimit)}
	go func() {
		defer close(g.stopped)
		var err error
		if g.dog, err = start(); err != nil {
			note(err)
			return
		}
		every := petEvery(g.dog.Timeout())
		for !g.over() {
			if err := g.dog.Pet(); err != nil {
				note(err)
			}
			select {
			case <-g.stop:
				return
			case <-time.After(every):
			}
		}
	}()
	return g
}

// petEvery is how often a watchdog with a timeout is petted; some hardware knows
// but short ones.
func petEvery(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return watchdogPet
	}
	return min(watchdogPet, timeout/3)
}

// end leaves the watchdog, which runs, to the caller: nil when there is none.
func (g *guard) end() *power.Watchdog {
	if g == nil {
		return nil
	}
	close(g.stop)
	<-g.stopped
	return g.dog
}

// Devices of watchdogs: the second is the kernel's own where the hardware has one.
const firstWatchdog, secondWatchdog = "/dev/watchdog", "/dev/watchdog1"

// startWatchdog starts the hardware's watchdog, or the kernel's own where there
// is none that works.
func startWatchdog(modules *kernel.Modules) (*power.Watchdog, error) {
	there := func(device string) bool {
		for end := time.Now().Add(watchdogWait); !exists(device); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				return false
			}
		}
		return true
	}
	var software func() error
	if modules != nil {
		software = func() error { return modules.Load("softdog") }
	}
	return pickWatchdog(there, software, func(device string) (*power.Watchdog, error) {
		return power.OpenWatchdog(device, watchdogTimeout)
	})
}

// pickWatchdog opens the hardware's watchdog, else the one that software loads;
// nil software is one that cannot be loaded. There waits for a device.
func pickWatchdog(there func(string) bool, software func() error, open func(string) (*power.Watchdog, error)) (*power.Watchdog, error) {
	var fault error
	device := firstWatchdog
	if there(device) || software == nil {
		dog, err := open(device)
		if err == nil || software == nil {
			return dog, err
		}
		fault, device = err, secondWatchdog
	}
	if err := software(); err != nil {
		return nil, errors.Join(fault, err)
	}
	there(device)
	dog, err := open(device)
	if err != nil {
		return nil, errors.Join(fault, err)
	}
	return dog, nil
}

// bequeath hands the watchdog of a trial on to the root's init.
func (i *initrd) bequeath() {
	dog := i.guard.end()
	if dog == nil {
		return
	}
	file, err := dog.Bequeath()
	if err == nil {
		err = os.Setenv(watchdogVar, file)
	}
	if err != nil {
		i.journal.Note(err.Error())
	}
}

// takeWatchdog pets the watchdog that the initrd has started, while the root
// is set up and beyond.
func (s *System) takeWatchdog() {
	file := os.Getenv(watchdogVar)
	if file == "" {
		return
	}
	os.Unsetenv(watchdogVar)
	s.guard = newGuard(func() (*power.Watchdog, error) { return power.TakeWatchdog(file) }, s.note)
}

// GuardTrial keeps a slot on trial from staying when its agent cannot decide.
// It returns when the trial is over, or with an error when the machine has to
// restart. A release that is given up is watched until it is down.
func (s *System) GuardTrial(ctx context.Context) error {
	return s.guardTrial(ctx, TrialOver, trialLimit)
}

// guardTrial looks for the file by which the agent says that the trial is over,
// until the limit. Only a release that stays has its watchdog closed.
func (s *System) guardTrial(ctx context.Context, file string, limit time.Duration) error {
	if !s.Journal.Record().Trial {
		return nil
	}
	for end, damaged := time.Now().Add(limit), false; ctx.Err() == nil; pause(ctx, watchdogPet) {
		if text, err := os.ReadFile(file); err == nil && string(text) == GivenUp {
			break
		} else if err == nil {
			if dog := s.guard.end(); dog != nil {
				return dog.Close()
			}
			return nil
		}
		r := s.Journal.Record()
		if r.Damage != "" && !damaged {
			// The agent gives it up with this reason, unless the damage is its own.
			damaged, end = true, sooner(end, time.Now().Add(damagedLimit))
		}
		if time.Now().Before(end) {
			continue
		}
		s.guard.limit(downLimit)
		if damaged {
			return fmt.Errorf("the trial of slot %s was not ended: %s", r.Slot, r.Damage)
		}
		return fmt.Errorf("the trial of slot %s was not decided within %v", r.Slot, limit)
	}
	s.guard.limit(downLimit)
	return nil
}

func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
