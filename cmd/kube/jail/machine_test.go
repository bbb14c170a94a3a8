package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

// A machine has an agent that does what it is asked, at once, and nothing behind
// it. Its restarts are the matter of whoever it belongs to.
type machine struct {
	restart func() // the machine goes down, and comes up again

	mu     sync.Mutex
	s      ask.Status
	boots  int
	unwell bool     // trials of systems fail
	did    []string // verbs that changed something
}

func newMachine(running ask.Release) *machine {
	m := &machine{s: ask.Status{Arch: "amd64", Slot: "a", Healthy: true, Free: 1 << 40}}
	m.s.OS.Running = running
	m.s.Kubernetes.Running = ask.Release{Version: kubeVersion}
	m.boot()
	return m
}

// boot begins another boot.
func (m *machine) boot() string {
	m.boots++
	m.s.BootID, m.s.Work = fmt.Sprintf("boot-%d", m.boots), nil
	return m.s.BootID
}

func (m *machine) list() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.did...)
}

func (m *machine) running() ask.Release {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s.OS.Running
}

func (m *machine) setUnwell(is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unwell = is
}

func (m *machine) say(phase ask.Phase, to ask.Release, reason string) {
	m.s.OS.Phase, m.s.OS.To, m.s.OS.Reason, m.s.OS.Changed = phase, to, reason, time.Now().UTC()
}

// cameUp is what the first start after an arming finds, and returns the boot's ID.
func (m *machine) cameUp() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if is := &m.s.OS; is.Phase == ask.Armed {
		before := is.Running
		is.Running, is.Previous = is.To, &before
		m.say(ask.Trial, is.To, "")
	}
	return m.boot()
}

// judge ends a trial. It tells whether the machine has to start once more, into
// what ran before.
func (m *machine) judge() (again bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	is := &m.s.OS
	switch {
	case is.Phase != ask.Trial, is.Held:
		return false
	case !m.unwell:
		m.say(ask.Committed, is.To, "")
		return false
	}
	is.Running, is.Previous = *is.Previous, nil
	m.say(ask.RolledBack, is.To, "not healthy within 15m0s: the node is not Ready")
	is.Bad = append(is.Bad, ask.Bad{Release: is.To, Reason: is.Reason, Time: is.Changed})
	return true
}

// verb answers one request.
func (m *machine) verb(do func()) (ask.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if do != nil {
		do()
	}
	s := m.s
	if s.Work != nil {
		w := *s.Work
		s.Work = &w
	}
	return s, nil
}

func (m *machine) Status(context.Context) (ask.Status, error) { return m.verb(nil) }

func (m *machine) Stage(_ context.Context, s ask.Stage) (ask.Status, error) {
	return m.verb(func() {
		m.did = append(m.did, "stage")
		m.s.Work = &ask.Work{Verb: ask.StageVerb, Stage: &s, Begun: time.Now().UTC(), Over: true}
		m.s.OS.Previous = nil
		m.say(ask.Staged, releases[s.OS.Digest], "")
	})
}

func (m *machine) Activate(_ context.Context, a ask.Activate) (ask.Status, error) {
	return m.verb(func() {
		if m.s.OS.Phase == ask.Staged && m.s.OS.To.Is(a.Digest) {
			m.did = append(m.did, "arm")
			m.say(ask.Armed, m.s.OS.To, "")
			m.s.OS.Held = a.Hold
			m.restart()
		}
	})
}

func (m *machine) Confirm(_ context.Context, c ask.Confirm) (ask.Status, error) {
	return m.verb(func() {
		if is := &m.s.OS; is.Held && is.To.Is(c.Digest) {
			m.did = append(m.did, "confirm")
			is.Held = false
			m.say(ask.Committed, is.To, "")
		}
	})
}

func (m *machine) Rollback(_ context.Context, r ask.Rollback) (ask.Status, error) {
	return m.verb(func() {
		if is := &m.s.OS; is.Phase == ask.Committed && is.Running.Is(r.Digest) && is.Previous != nil {
			m.did = append(m.did, "back")
			m.say(ask.Armed, *is.Previous, "")
			m.restart()
		}
	})
}

func (m *machine) Snapshot(_ context.Context, s ask.Snapshot) (ask.Status, error) {
	return m.verb(func() { m.s.Saved = &ask.Saved{At: s.At, Name: "saved"} })
}

func (m *machine) Cancel(context.Context) (ask.Status, error) {
	return m.verb(func() { m.say(ask.Idle, ask.Release{}, "") })
}
