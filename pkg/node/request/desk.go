package request

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

// Progress tells how a piece of work goes on: the step it is at, for people, and
// how many bytes of it are done; total is 0 when it is not known.
type Progress func(step string, done, total int64)

// A Machine is what the requests are about.
type Machine interface {
	// Status says how the machine stands, without Work.
	Status(context.Context) (ask.Status, error)
	// Stage brings the image of one part and puts it aside.
	Stage(ctx context.Context, p ask.Part, i ask.Image, s ask.Stage, report Progress) error
	// Snapshot saves the datastore, and remembers which request that answers.
	Snapshot(ctx context.Context, s ask.Snapshot) error
	// Arm puts what is staged on trial, so that the next start is that.
	Arm(ctx context.Context, a ask.Activate) error
	// Confirm ends that a trial is held.
	Confirm(ctx context.Context, c ask.Confirm) error
	// Back ends a trial or arms what ran before; restart tells that it wants one.
	Back(ctx context.Context, b ask.Rollback) (restart bool, err error)
	// Forget takes away what is staged.
	Forget(ctx context.Context) error
	// Restart starts the machine anew, a little later, so that the asker can still
	// note it.
	Restart(ctx context.Context)
	// Explain says why something failed, and the way out.
	Explain(error) *ask.Error
}

// A Desk takes requests for a machine.
type Desk struct {
	Machine Machine
	Now     func() time.Time // nil is the clock

	verbs sync.Mutex // one verb at a time decides

	mu   sync.Mutex
	work *ask.Work // the last; nil for none since the agent started
	stop context.CancelCauseFunc
	over chan struct{} // closed when work is over
}

func (d *Desk) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// Status says how the machine stands, and what goes on in the background.
func (d *Desk) Status(ctx context.Context) (ask.Status, error) {
	// First the work: what it has left behind is then in the status.
	work := d.current()
	s, err := d.Machine.Status(ctx)
	s.Work = work
	return s, err
}

// current returns a copy of the last work, nil for none.
func (d *Desk) current() *ask.Work {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.work == nil {
		return nil
	}
	w := *d.work
	return &w
}

// Wait returns when nothing goes on in the background.
func (d *Desk) Wait() {
	d.mu.Lock()
	over := d.over
	d.mu.Unlock()
	if over != nil {
		<-over
	}
}

var errCalledOff = errors.New("it was called off")

func busy(w *ask.Work) error {
	return &ask.Error{Reason: ask.Busy, Message: "another request is under way: " + w.Verb}
}

// begin lets work go on in the background.
func (d *Desk) begin(ctx context.Context, w ask.Work, do func(context.Context, Progress) error) {
	ctx, stop := context.WithCancelCause(ctx)
	over := make(chan struct{})
	w.Begun = d.now().UTC()
	d.mu.Lock()
	d.work, d.stop, d.over = &w, stop, over
	d.mu.Unlock()
	go func() {
		defer close(over)
		defer stop(nil)
		err := do(ctx, func(step string, done, total int64) {
			d.mu.Lock()
			defer d.mu.Unlock()
			w.Step, w.Done, w.Total = step, done, total
		})
		d.mu.Lock()
		defer d.mu.Unlock()
		w.Over = true
		if err != nil {
			w.Error = d.errorOf(err)
			if ctx.Err() != nil {
				w.Error.Reason = ask.Interrupted
			}
		}
	}()
}

// stage brings what is asked for. It is no error when that is there, runs, or is
// being brought.
func (d *Desk) stage(ctx context.Context, s ask.Stage) error {
	if err := s.Check(); err != nil {
		return &ask.Error{Reason: ask.Invalid, Message: err.Error()}
	}
	d.verbs.Lock()
	defer d.verbs.Unlock()
	if w := d.current(); w != nil && !w.Over {
		if w.Stage != nil && w.Stage.Same(s) {
			return nil
		}
		return busy(w)
	}
	now, err := d.Machine.Status(ctx)
	if err != nil {
		return err
	}
	missing := Missing(now, s)
	if len(missing) == 0 {
		return nil
	}
	d.begin(ctx, ask.Work{Verb: ask.StageVerb, Stage: &s}, func(ctx context.Context, report Progress) error {
		for _, m := range missing {
			if err := d.Machine.Stage(ctx, m.Part, m.Image, s, report); err != nil {
				return fmt.Errorf("stage %s: %w", m.Part, err)
			}
		}
		return nil
	})
	return nil
}

// A Wanted image is to be brought for a part.
type Wanted struct {
	Part  ask.Part
	Image ask.Image
}

// Missing returns what of a request is neither staged nor running, nor about
// to.
func Missing(now ask.Status, s ask.Stage) (missing []Wanted) {
	for _, w := range []struct {
		part  ask.Part
		image *ask.Image
	}{{ask.OS, s.OS}, {ask.Kubernetes, s.Kubernetes}} {
		if w.image == nil {
			continue
		}
		is := now.Part(w.part)
		switch {
		case is.Running.Is(w.image.Digest):
		case is.To.Is(w.image.Digest) && (is.Phase == ask.Staged || is.Phase == ask.Armed || is.Phase == ask.Trial):
		default:
			missing = append(missing, Wanted{w.part, *w.image})
		}
	}
	return missing
}

// snapshot saves the datastore, once for each request.
func (d *Desk) snapshot(ctx context.Context, s ask.Snapshot) error {
	if s.At.IsZero() {
		return &ask.Error{Reason: ask.Invalid, Message: "snapshot: the request has no time"}
	}
	d.verbs.Lock()
	defer d.verbs.Unlock()
	if w := d.current(); w != nil && !w.Over {
		if w.Verb == ask.SnapshotVerb && w.At.Equal(s.At) {
			return nil
		}
		return busy(w)
	}
	now, err := d.Machine.Status(ctx)
	if err != nil {
		return err
	}
	if now.Saved != nil && now.Saved.At.Equal(s.At) {
		return nil
	}
	d.begin(ctx, ask.Work{Verb: ask.SnapshotVerb, At: s.At}, func(ctx context.Context, _ Progress) error {
		return d.Machine.Snapshot(ctx, s)
	})
	return nil
}

// activate puts what is staged on trial, and starts the machine anew for a
// system. It is no error when that runs or is about to; one that is armed is
// still to be started.
func (d *Desk) activate(ctx context.Context, a ask.Activate) error {
	is, unlock, err := d.open(ctx, a.Part, a.Digest)
	if err != nil {
		return err
	}
	defer unlock()
	mine := is.To.Is(a.Digest)
	switch {
	case mine && is.Phase == ask.Trial, is.Running.Is(a.Digest) && is.Phase != ask.Armed:
		return nil
	case mine && is.Phase == ask.Armed:
		if a.Part == ask.OS {
			d.Machine.Restart(ctx)
		}
		return nil
	case mine && is.Phase == ask.RolledBack:
		return &ask.Error{Reason: ask.KnownBad, Message: fmt.Sprintf("activate %s: it was taken back: %s", a.Part, is.Reason)}
	case !mine || is.Phase != ask.Staged:
		return &ask.Error{Reason: ask.NotStaged, Message: fmt.Sprintf("activate %s: %s is not staged", a.Part, a.Digest)}
	}
	if err := d.free(a.NotAfter); err != nil {
		return err
	}
	for _, b := range is.Bad {
		if b.Is(a.Digest) && !a.Again {
			return &ask.Error{Reason: ask.KnownBad, Message: fmt.Sprintf("activate %s: it failed on this machine before: %s", a.Part, b.Reason)}
		}
	}
	if err := d.Machine.Arm(ctx, a); err != nil {
		return err
	}
	if a.Part == ask.OS {
		d.Machine.Restart(ctx)
	}
	return nil
}

// open begins a request about what a part has: it is the only one that decides
// until unlock.
func (d *Desk) open(ctx context.Context, p ask.Part, digest string) (is ask.State, unlock func(), err error) {
	if err := known(p, digest); err != nil {
		return is, nil, err
	}
	d.verbs.Lock()
	now, err := d.Machine.Status(ctx)
	if err != nil {
		d.verbs.Unlock()
		return is, nil, err
	}
	return now.Part(p), d.verbs.Unlock, nil
}

// known says what is wrong with the part or digest of a request.
func known(p ask.Part, digest string) error {
	switch {
	case p != ask.OS && p != ask.Kubernetes:
		return &ask.Error{Reason: ask.Invalid, Message: fmt.Sprintf("part is %q: it is %q or %q", p, ask.OS, ask.Kubernetes)}
	case digest == "":
		return &ask.Error{Reason: ask.Invalid, Message: fmt.Sprintf("%s: no digest is named", p)}
	}
	return nil
}

// free says that something else goes on, or that the time is over.
func (d *Desk) free(notAfter time.Time) error {
	if w := d.current(); w != nil && !w.Over {
		return busy(w)
	}
	if !notAfter.IsZero() && d.now().After(notAfter) {
		return &ask.Error{Reason: ask.Late, Message: "the time for it was over at " + notAfter.UTC().Format(time.RFC3339)}
	}
	return nil
}

// confirm lets a trial come to its end. It is no error when it has, or was not
// held.
func (d *Desk) confirm(ctx context.Context, c ask.Confirm) error {
	is, unlock, err := d.open(ctx, c.Part, c.Digest)
	if err != nil {
		return err
	}
	defer unlock()
	switch {
	case is.Phase == ask.Trial && is.To.Is(c.Digest):
		if !is.Held {
			return nil
		}
		return d.Machine.Confirm(ctx, c)
	case is.Phase == ask.Committed && is.Running.Is(c.Digest):
		return nil
	}
	return &ask.Error{Reason: ask.NotPossible, Message: fmt.Sprintf("confirm %s: %s is not on trial", c.Part, c.Digest)}
}

// rollback leaves what runs. It is no error when something else runs already.
func (d *Desk) rollback(ctx context.Context, b ask.Rollback) error {
	is, unlock, err := d.open(ctx, b.Part, b.Digest)
	if err != nil {
		return err
	}
	defer unlock()
	switch {
	case is.Phase == ask.Armed && is.Running.Is(b.Digest): // the next start leaves it already
		if b.Part == ask.OS {
			d.Machine.Restart(ctx)
		}
		return nil
	case !is.Running.Is(b.Digest):
		return nil
	}
	if err := d.free(b.NotAfter); err != nil {
		return err
	}
	restart, err := d.Machine.Back(ctx, b)
	if err == nil && restart {
		d.Machine.Restart(ctx)
	}
	return err
}

// cancel ends what goes on in the background, and takes away what is staged.
func (d *Desk) cancel(ctx context.Context) error {
	d.verbs.Lock()
	defer d.verbs.Unlock()
	d.mu.Lock()
	w, stop, over := d.work, d.stop, d.over
	d.mu.Unlock()
	if w != nil && w.Verb == ask.StageVerb {
		stop(errCalledOff)
		<-over
	}
	return d.Machine.Forget(ctx)
}
