package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

const (
	d1 = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	d2 = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// A machine is one whose agent is asked, as far as the job can tell.
type machine struct {
	s      ask.Status
	did    []string
	broken []*ask.Error // how transfers end, one after the other
	unwell bool
	silent int // looks for which it does not answer
	looks  int
	slept  time.Duration
}

var errRestart = errors.New("the machine restarts")

func release(d string) ask.Release { return ask.Release{Version: d[7:8] + ".0.0", Digest: d} }

func newMachine() *machine {
	return &machine{s: ask.Status{OS: ask.State{Running: release(d1)}, Kubernetes: ask.State{Running: ask.Release{Version: "v1.36.3"}}}}
}

func (m *machine) part(p ask.Part) *ask.State {
	if p == ask.Kubernetes {
		return &m.s.Kubernetes
	}
	return &m.s.OS
}

func (m *machine) Status(context.Context) (ask.Status, error) {
	if m.silent > 0 {
		m.silent--
		return ask.Status{}, ask.ErrNoAgent
	}
	s := m.s
	if s.Work != nil {
		w := *s.Work
		s.Work = &w
	}
	return s, nil
}

func (m *machine) Stage(_ context.Context, s ask.Stage) (ask.Status, error) {
	m.did = append(m.did, "stage")
	m.s.Work = &ask.Work{Verb: ask.StageVerb, Stage: &s, Step: "fetch", Done: 1, Total: 2}
	return m.s, nil
}

func (m *machine) Activate(_ context.Context, a ask.Activate) (ask.Status, error) {
	m.did = append(m.did, "activate")
	m.part(a.Part).Phase = ask.Armed
	return m.s, nil
}

// sleep lets time pass on the machine.
func (m *machine) sleep(_ context.Context, d time.Duration) error {
	m.slept += d
	if m.looks++; m.looks > 1000 {
		return errors.New("it never ends")
	}
	if w := m.s.Work; w != nil && !w.Over {
		w.Over = true
		if len(m.broken) > 0 {
			w.Error, m.broken = m.broken[0], m.broken[1:]
			return nil
		}
		for p, i := range map[ask.Part]*ask.Image{ask.OS: w.Stage.OS, ask.Kubernetes: w.Stage.Kubernetes} {
			if i != nil {
				m.part(p).Phase, m.part(p).To = ask.Staged, release(i.Digest)
			}
		}
		return nil
	}
	for _, p := range []ask.Part{ask.OS, ask.Kubernetes} {
		is := m.part(p)
		switch {
		case is.Phase == ask.Armed:
			is.Phase, is.Running = ask.Trial, is.To
			if p == ask.OS {
				return errRestart
			}
		case is.Phase == ask.Trial && m.unwell:
			is.Phase, is.Running, is.Reason = ask.RolledBack, release(d1), "not healthy"
			if p == ask.OS {
				return errRestart
			}
		case is.Phase == ask.Trial:
			is.Phase = ask.Committed
		}
	}
	return nil
}

// pods runs one job after the other, as a Job does over restarts.
func (m *machine) pods(t *testing.T, j Job) (said string, err error) {
	j.Agent, j.Sleep = m, m.sleep
	j.Image, j.Version = ask.Image{Name: "registry.example/kedge:2", Digest: d2}, "2.0.0"
	var words []string
	j.Say = func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	for range 5 {
		if err = j.Run(t.Context()); !errors.Is(err, errRestart) {
			return strings.Join(words, "; "), err
		}
	}
	t.Fatal("it restarts again and again")
	return "", nil
}

func TestJob(t *testing.T) {
	no := func(reason string) *ask.Error { return &ask.Error{Reason: reason, Message: "no: " + reason} }
	for _, c := range []struct {
		name string
		job  Job
		with func(*machine)
		did  string
		err  string
	}{
		{"a system", Job{Part: ask.OS}, nil, "stage activate", ""},
		{"Kubernetes alone", Job{Part: ask.Kubernetes}, nil, "stage activate", ""},
		{"prepared", Job{Part: ask.OS, Prepare: true}, nil, "stage", ""},
		{"prepared before", Job{Part: ask.OS}, func(m *machine) { m.s.OS.Phase, m.s.OS.To = ask.Staged, release(d2) }, "activate", ""},
		{"it runs already", Job{Part: ask.OS}, func(m *machine) { m.s.OS.Running = release(d2) }, "", ""},
		{"it came another way", Job{Part: ask.OS}, func(m *machine) { m.s.OS.Running = ask.Release{Version: "2.0.0"} }, "", ""},
		{"not healthy", Job{Part: ask.OS}, func(m *machine) { m.unwell = true }, "stage activate", "2.0.0 was taken back: not healthy"},
		{"Kubernetes is not healthy", Job{Part: ask.Kubernetes}, func(m *machine) { m.unwell = true }, "stage activate", "2.0.0 was taken back: not healthy"},
		{"bad here before", Job{Part: ask.OS}, func(m *machine) { m.s.OS.Bad = []ask.Bad{{Release: release(d2), Reason: "not healthy"}} }, "", "2.0.0 failed on this machine before: not healthy"},
		{"taken back in an earlier pod", Job{Part: ask.OS}, func(m *machine) { m.s.OS.Phase, m.s.OS.To, m.s.OS.Reason = ask.RolledBack, release(d2), "x" }, "", "2.0.0 was taken back: x"},
		{"a trial of another release comes first", Job{Part: ask.OS}, func(m *machine) { m.s.OS.Phase, m.s.OS.To = ask.Trial, release(d1) }, "stage activate", ""},
		{"refused", Job{Part: ask.OS}, func(m *machine) { m.broken = []*ask.Error{no(ask.Downgrade)} }, "stage", "no: Downgrade"},
		{"the network comes and goes", Job{Part: ask.OS}, func(m *machine) { m.broken = []*ask.Error{no(ask.Failed), no(ask.NotFound)} }, "stage stage stage activate", ""},
		{"the agent starts anew", Job{Part: ask.OS}, func(m *machine) { m.silent = 20 }, "stage activate", ""},
		{"there is no agent", Job{Part: ask.OS}, func(m *machine) { m.silent = 500 }, "", "the agent does not answer"},
	} {
		m := newMachine()
		if c.with != nil {
			c.with(m)
		}
		said, err := m.pods(t, c.job)
		if got := strings.Join(m.did, " "); got != c.did || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: did %q, %v; want %q, %q; said %s", c.name, got, err, c.did, c.err, said)
		}
	}
	m := newMachine()
	for range 100 {
		m.broken = append(m.broken, no(ask.NotFound))
	}
	if _, err := m.pods(t, Job{Part: ask.OS}); err == nil || m.slept < fetchLimit || m.slept > 2*fetchLimit {
		t.Errorf("a registry without it: %v after %v", err, m.slept)
	}
}
