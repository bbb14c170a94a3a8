// Package job upgrades a machine from a container that runs on it: that of a Job
// of rancher/system-upgrade-controller, or of anybody who runs one.
//
// The machine's agent does the work, and all that it asks for before it does. The
// job only decides by how the machine stands, so that the pod which comes after
// the restart finishes what this one began. It ends well when the release is
// kept, and never before.
package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

// Times of a job.
const (
	look       = 3 * time.Second
	patience   = 5 * time.Minute  // for an agent that does not answer
	tryAgain   = time.Minute      // from a transfer that failed to the next
	fetchLimit = 30 * time.Minute // for which transfers may fail
)

// Agent is the agent of the machine; the Client of its socket is one.
type Agent interface {
	Status(context.Context) (ask.Status, error)
	Stage(context.Context, ask.Stage) (ask.Status, error)
	Activate(context.Context, ask.Activate) (ask.Status, error)
}

// A Job is what a container was started for.
type Job struct {
	Agent   Agent
	Part    ask.Part
	Image   ask.Image
	Version string // of the release in the image
	Prepare bool   // only have it on the disk
	// Downgrade lets it be an older release. One that failed on this machine before
	// is refused in any case: every restart has another job, and each would try.
	Downgrade bool
	Say       func(format string, args ...any)
	Sleep     func(ctx context.Context, d time.Duration) error // nil is the clock's
}

// Run returns nil when the machine runs the release and keeps it, or has it on
// the disk when only that was asked for. The error says why it does not come to
// that.
func (j *Job) Run(ctx context.Context) error {
	r := runner{Job: j}
	for {
		done, pause, err := r.step(ctx)
		if done || err != nil {
			return err
		}
		if err := j.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (j *Job) sleep(ctx context.Context, d time.Duration) error {
	if j.Sleep != nil {
		return j.Sleep(ctx, d)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// A runner is one Run.
type runner struct {
	*Job
	said   string
	silent time.Duration // for which the agent has not answered
	failed time.Duration // for which transfers have failed
	asked  bool          // for the transfer
}

func (r *runner) say(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); text != r.said {
		r.said = text
		r.Say("%s", text)
	}
}

// is tells whether a release is the one that is wanted.
func (r *runner) is(x ask.Release) bool {
	return x.Is(r.Image.Digest) || x.Digest == "" && x.Version != "" && x.Version == r.Version
}

// step looks once, and does what is to be done.
func (r *runner) step(ctx context.Context) (done bool, pause time.Duration, err error) {
	s, err := r.Agent.Status(ctx)
	if err != nil {
		if r.silent += look; r.silent > patience || ctx.Err() != nil {
			return false, 0, err
		}
		r.say("%v; it is asked again", err)
		return false, look, nil
	}
	r.silent = 0
	is := s.Part(r.Part)
	mine := r.is(is.To)
	switch {
	case is.Phase == ask.Trial, is.Phase == ask.Armed: // it comes to its end, whoever began it
		r.say("%s", is.Text)
		return false, look, nil
	case r.is(is.Running):
		r.say("it runs %s, and keeps it", name(is.Running))
		return true, 0, nil
	case mine && is.Phase == ask.RolledBack:
		return false, 0, fmt.Errorf("%s was taken back: %s", name(is.To), is.Reason)
	}
	for _, b := range is.Bad {
		if r.is(b.Release) {
			return false, 0, fmt.Errorf("%s failed on this machine before: %s", name(b.Release), b.Reason)
		}
	}
	if mine && is.Phase == ask.Staged {
		return r.staged(ctx)
	}
	return r.fetch(ctx, s)
}

func name(r ask.Release) string {
	if r.Version == "" {
		return r.Digest
	}
	return r.Version
}

// staged goes on with what lies on the disk.
func (r *runner) staged(ctx context.Context) (done bool, pause time.Duration, err error) {
	if r.Prepare {
		r.say("it is on the disk")
		return true, 0, nil
	}
	r.say("it is put on trial")
	_, err = r.Agent.Activate(ctx, ask.Activate{Part: r.Part, Digest: r.Image.Digest})
	return false, look, r.lasting(err)
}

// lasting passes over what may go by itself.
func (r *runner) lasting(err error) error {
	var no *ask.Error
	if err == nil || errors.As(err, &no) && !ask.Lasting(no.Reason) || errors.Is(err, ask.ErrNoAgent) {
		if err != nil {
			r.say("%v; it is asked again", err)
		}
		return nil
	}
	return err
}

// fetch has the release brought.
func (r *runner) fetch(ctx context.Context, s ask.Status) (done bool, pause time.Duration, err error) {
	want := ask.Stage{AllowDowngrade: r.Downgrade}
	if r.Part == ask.Kubernetes {
		want.Kubernetes = &r.Image
	} else {
		want.OS = &r.Image
	}
	w := s.Work
	switch mine := w != nil && w.Stage != nil && w.Stage.Same(want); {
	case w != nil && !w.Over:
		if mine && w.Total > 0 {
			r.say("%s: %d %%", w.Step, w.Done*100/w.Total/10*10)
		}
		r.asked = r.asked || mine
		return false, look, nil
	case mine && r.asked && w.Error != nil:
		r.asked = false
		if ask.Lasting(w.Error.Reason) {
			return false, 0, w.Error
		}
		if r.failed += tryAgain; r.failed > fetchLimit {
			return false, 0, w.Error
		}
		r.say("%v; it is tried again", w.Error)
		return false, tryAgain, nil
	}
	r.say("%s is asked for", r.Image.Reference())
	r.asked = true
	_, err = r.Agent.Stage(ctx, want)
	return false, look, r.lasting(err)
}
