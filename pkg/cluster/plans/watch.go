package plans

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Screen shows what a watch sees.
type Screen interface {
	Show(Picture)               // one that is not the same as the one before
	Lost(at time.Time, e error) // the cluster does not answer any more
	Back(at time.Time, after time.Duration)
}

// Watch looks at a plan again and again until it comes to an end, and returns
// the last picture. A look that fails does not end it, except for the first one
// and for a plan that is gone: the cluster may well be upgrading itself. Then
// the error wraps ErrNoPlan, or is what look or ctx says.
//
// It asks anew each time, instead of holding watches open: that is the same
// before and after the API server was away. It rests ten times as long as
// the asking took, so many nodes are looked at less often.
func Watch(ctx context.Context, look func(context.Context) (Picture, error), every time.Duration, s Screen) (Picture, error) {
	var last Picture
	var lost time.Time
	for first := true; ; first = false {
		began := time.Now()
		p, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return last, ctx.Err()
		case err != nil && (first || errors.Is(err, ErrNoPlan)):
			return last, err
		case err != nil:
			if lost.IsZero() {
				lost = began
				s.Lost(began, err)
			}
		default:
			if !lost.IsZero() {
				s.Back(p.At, time.Since(lost))
				lost = time.Time{}
			}
			s.Show(p)
			if last = p; p.Outcome() != Going {
				return p, nil
			}
		}
		timer := time.NewTimer(max(every, 10*time.Since(began)))
		if err != nil {
			timer.Reset(every)
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return last, ctx.Err()
		case <-timer.C:
		}
	}
}

// Lines is a screen that prints a line for each change.
type Lines struct {
	W     io.Writer
	Local *time.Location

	last  Picture
	begun bool
}

func (l *Lines) Show(p Picture) {
	lines := []string{Line(p)}
	if l.begun {
		lines = News(l.last, p)
	} else if p.Available != nil {
		lines = append(lines, p.Name+": "+statesText(p.States))
	}
	for _, line := range lines {
		l.print(p.At, line)
	}
	l.last, l.begun = p, true
}

func (l *Lines) Lost(at time.Time, err error) {
	l.print(at, lostText(err))
}

func (l *Lines) Back(at time.Time, after time.Duration) {
	l.print(at, "the cluster answers again, after "+span(after))
}

func (l *Lines) print(at time.Time, line string) {
	fmt.Fprintf(l.W, "%s %s\n", at.In(l.Local).Format("15:04:05"), line)
}

func lostText(err error) string { return "still trying: " + err.Error() }

// A Terminal is a screen that draws a plan in place of the picture before.
type Terminal struct {
	W     io.Writer
	Local *time.Location
	Nodes int        // that are listed at most
	Rows  func() int // of the terminal; 0 where that is not known

	last  Picture
	note  string
	begun bool
}

func (t *Terminal) Show(p Picture) {
	t.last = p
	t.draw()
}

func (t *Terminal) Lost(at time.Time, err error) {
	t.note = fmt.Sprintf("%s %s", at.In(t.Local).Format("15:04:05"), lostText(err))
	t.draw()
}

func (t *Terminal) Back(time.Time, time.Duration) { t.note = "" }

// Escape sequences of ECMA-48.
const (
	home     = "\x1b[H"
	eraseEnd = "\x1b[K" // of the line
	eraseAll = "\x1b[J" // below
	wrapOff  = "\x1b[?7l"
	wrapOn   = "\x1b[?7h"
	wipe     = home + "\x1b[2J"
)

func (t *Terminal) draw() {
	if !t.begun {
		io.WriteString(t.W, wipe)
		t.begun = true
	}
	// What does not change is not erased first, so nothing flickers.
	io.WriteString(t.W, wrapOff+home+strings.Join(t.lines(), eraseEnd+"\n")+eraseEnd+"\n"+eraseAll+wrapOn)
}

// lines are as many as the terminal shows: with fewer nodes if there is no room,
// and cut off if that is not enough. The last row is for the cursor.
func (t *Terminal) lines() []string {
	room := t.Rows() - 1
	draw := func(nodes int) []string {
		lines := strings.Split(strings.TrimSuffix(Draw(t.last, t.Local, nodes), "\n"), "\n")
		if t.note != "" {
			lines = append(lines, "", t.note)
		}
		return lines
	}
	lines := draw(t.Nodes)
	if excess := len(lines) - room; room > 0 && excess > 0 {
		lines = draw(max(1, min(t.Nodes, len(t.last.Nodes))-excess-1)) // one says how many are left out
		if len(lines) > room {
			lines = append(lines[:room-1:room-1], lines[len(lines)-1])
		}
	}
	return lines
}
