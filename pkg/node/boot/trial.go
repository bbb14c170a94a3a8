package boot

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/power"
)

// TrialOver is the file by which the agent says that a trial has ended: its
// release was committed, or it gave the release up and asks for a restart.
const TrialOver = "/run/kedge/trial-over"

// Times of a trial, as process 1 sees it. The agent decides long before the
// limit; process 1 only sees to it that somebody does.
const (
	trialLimit      = 25 * time.Minute
	damagedLimit    = 2 * time.Minute // the same, of a slot whose root is damaged
	watchdogTimeout = 60 * time.Second
	watchdogPet     = 10 * time.Second
)

// GuardTrial keeps a slot on trial from staying when its agent cannot decide,
// and resets the machine when process 1 or the kernel hang. It returns when the
// trial is over, or with an error when the machine has to restart.
func (s *System) GuardTrial(ctx context.Context) error {
	if !s.Journal.Record().Trial {
		return nil
	}
	dog := s.watchdog()
	if dog != nil {
		defer dog.Close()
	}
	for end, damaged := time.Now().Add(trialLimit), false; ctx.Err() == nil; {
		if exists(TrialOver) {
			return nil
		}
		if r := s.Journal.Record(); r.Damage != "" && !damaged {
			// The agent gives it up with this reason, unless the damage is its own.
			damaged, end = true, sooner(end, time.Now().Add(damagedLimit))
		}
		if time.Now().After(end) {
			if r := s.Journal.Record(); damaged {
				return fmt.Errorf("the trial of slot %s was not ended: %s", r.Slot, r.Damage)
			}
			return fmt.Errorf("the trial of slot %s was not decided within %v", s.Journal.Record().Slot, trialLimit)
		}
		if dog != nil {
			if err := dog.Pet(); err != nil {
				s.note(err)
			}
		}
		pause(ctx, watchdogPet)
	}
	return nil
}

func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// watchdog starts the hardware's watchdog, or the kernel's own where there is
// none; nil when neither can be had.
func (s *System) watchdog() *power.Watchdog {
	const device = "/dev/watchdog"
	if _, err := os.Stat(device); err != nil && s.Modules != nil {
		if err := s.Modules.Load("softdog"); err != nil {
			s.note(err)
		}
	}
	for end := time.Now().Add(5 * time.Second); !exists(device) && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	dog, err := power.OpenWatchdog(device, watchdogTimeout)
	if err != nil {
		s.note(err)
		return nil
	}
	return dog
}
