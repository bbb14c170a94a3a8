package update

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/slot"
)

// Reasons to refuse a release, before anything is written.
var (
	ErrNotInstalled = errors.New("this system was not started from a slot: only an installed one can be upgraded")
	ErrSame         = errors.New("it runs already")
	ErrArch         = errors.New("it is for another architecture")
	ErrDowngrade    = errors.New("it is older than what runs")
	ErrBad          = errors.New("it failed on this machine before")
	ErrTooLarge     = errors.New("it is larger than a slot")
	ErrFrom         = errors.New("it may not follow what runs")
	ErrBusy         = errors.New("an upgrade is under way")
	ErrState        = errors.New("the state of this machine cannot be used")
)

// Policy is what a user may allow.
type Policy struct {
	Downgrade bool // an older version
	Bad       bool // a release that failed here before
	From      bool // a release that is not meant to follow the one that runs
	Same      bool // the one that runs: it mends a damaged slot from the other
	Early     bool // it is only put aside: before it runs, the servers of the cluster may
}

// Admit says why an image may not be put on this machine, or nil. SlotSize is
// the size of the idle slot in bytes, arch that of this machine.
func Admit(i *release.Image, r Running, s State, p Policy, arch string, slotSize int64) error {
	m := i.Manifest
	refuse := func(err error, format string, args ...any) error {
		return fmt.Errorf("refuse %s %s (%s): %w%w", m.Name, m.Version, m.ID, err, fmt.Errorf(format, args...))
	}
	if err := m.Of(release.System); err != nil {
		return err
	}
	switch {
	case r.Slot == "":
		return ErrNotInstalled
	case r.Trial:
		return refuse(ErrBusy, ": %s is on trial", r.Release)
	case m.Arch != arch:
		return refuse(ErrArch, ": %s, this machine is %s", m.Arch, arch)
	case m.ID == r.ID && !p.Same:
		return refuse(ErrSame, "")
	case i.Size > slotSize:
		return refuse(ErrTooLarge, ": %d bytes of %d", i.Size, slotSize)
	case s.IsBad(m.ID) != "" && !p.Bad:
		return refuse(ErrBad, ": %s", s.IsBad(m.ID))
	case older(m.Version, r.Version) && !p.Downgrade:
		return refuse(ErrDowngrade, ": %s", r.Version)
	}
	from, err := release.ParseConstraint(m.UpgradeFrom)
	switch {
	case p.From || m.ID == r.ID || err == nil && from.Allows(r.Version):
		return nil
	case err != nil:
		return refuse(ErrFrom, ": %w", err)
	}
	return refuse(ErrFrom, ": %s; it follows releases %s", r.Version, from)
}

// older compares versions as semver.org says; versions of another form are
// never older.
func older(a, b string) bool {
	a, b = "v"+strings.TrimPrefix(a, "v"), "v"+strings.TrimPrefix(b, "v")
	return semver.IsValid(a) && semver.IsValid(b) && semver.Compare(a, b) < 0
}

// A Slots is the machine's two slots and their record.
type Slots interface {
	// Disarm ends a trial on record, whose slot is about to be overwritten.
	Disarm() error
	// Write puts an image into the partition of a slot, so that one that was cut
	// off is no image, and reads it back.
	Write(ctx context.Context, i *release.Image, partition string, progress func(int64)) error
	Arm(slot string, tries int) error
	Commit(slot string) error
}

// Stage writes an image to the slot that does not run. The caller has admitted
// and verified it. When that slot is the committed one, the running one becomes it
// first: what is half written, or never had a trial, is nothing to start from.
// Save is called with the state before and after the slot is written.
func Stage(ctx context.Context, m Slots, i *release.Image, r Running, s State, progress func(int64), save func(State) error) error {
	to := slot.Other(r.Slot)
	s.Phase, s.Slot, s.Reason, s.Terms = Idle, "", "", Terms{}
	if r.Strays() {
		if err := m.Commit(r.Slot); err != nil {
			return err
		}
	}
	if err := m.Disarm(); err != nil {
		return err
	}
	if err := save(s); err != nil {
		return err
	}
	if err := m.Write(ctx, i, layout.SlotPartition(to), progress); err != nil {
		return fmt.Errorf("write slot %s: %w", to, err)
	}
	s.Phase, s.Slot = Staged, to
	s.To, s.From = Release{i.Manifest.Version, i.Manifest.ID}, r.Release
	return save(s)
}

// Arm puts what is staged on trial for a number of starts. The state says so
// before the record does: when a power cut comes in between, the next boot finds
// no trial on record and takes the release for staged again.
func Arm(m Slots, s State, tries int, save func(State) error) error {
	if s.Phase != Staged {
		return errors.New("nothing is staged")
	}
	s.Phase = Armed
	if err := save(s); err != nil {
		return err
	}
	return m.Arm(s.Slot, tries)
}

// Commit makes the running trial what this machine starts.
func Commit(m Slots, s State, save func(State) error) error {
	if s.Phase != Trial {
		return errors.New("nothing is on trial")
	}
	if !s.Undecided() {
		return fmt.Errorf("the trial is given up already: %s", s.Reason)
	}
	if err := m.Commit(s.Slot); err != nil {
		return err
	}
	s.Phase, s.Reason = Committed, ""
	return save(s)
}

// Forget takes away what is staged. The slot that it was written over stays
// without a release that this machine would start.
func Forget(m Slots, s State, save func(State) error) error {
	if s.Phase != Staged {
		return nil
	}
	if err := m.Disarm(); err != nil {
		return err
	}
	s.Phase, s.Slot, s.Reason, s.To = Idle, "", "", Release{}
	return save(s)
}

// Keep commits what is on trial although it is not healthy: the other slot does
// not start, and a machine that somebody can reach is better than one that
// restarts for ever.
func Keep(m Slots, s State, reason string, save func(State) error) error {
	if s.Phase != Trial || !s.Last {
		return errors.New("nothing is on trial for want of another slot")
	}
	if err := m.Commit(s.Slot); err != nil {
		return err
	}
	s.Phase, s.Reason = Committed, reason
	return save(s)
}

// Unarm takes back that the next start is a trial: the release stays staged.
func Unarm(m Slots, s State, save func(State) error) error {
	if s.Phase != Armed {
		return errors.New("nothing is armed")
	}
	if err := m.Disarm(); err != nil {
		return err
	}
	s.Phase = Staged
	return save(s)
}

// Return makes the running slot the committed one, when it is the one from before
// the last upgrade: the machine has gone back already.
func Return(m Slots, s State, r Running, why string, save func(State) error) error {
	if s.Phase != Committed || s.Slot == r.Slot {
		return errors.New("the release before the last upgrade does not run")
	}
	if err := m.Commit(r.Slot); err != nil {
		return err
	}
	s.Phase, s.Reason = RolledBack, why
	return save(s)
}

// GiveUp ends the running trial: the next start is the committed slot, which
// then tells the reason. That there is no room to note it keeps nobody from
// going back. The caller restarts the machine.
func GiveUp(m Slots, s State, reason string, save func(State) error) error {
	if s.Phase != Trial {
		return errors.New("nothing is on trial")
	}
	s.Reason = reason
	unsaved := save(s)
	if err := m.Disarm(); err != nil {
		return errors.Join(unsaved, err)
	}
	return nil
}
