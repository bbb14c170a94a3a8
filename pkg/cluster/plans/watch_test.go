package plans

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestWatch(t *testing.T) {
	rolling, halted := read(t, "fleet.yaml").picture(), edited(t, halt).picture()
	gone := fmt.Errorf("%w: refused", ErrUnreachable)
	watch := func(s Screen, looks ...any) (Picture, error) {
		return Watch(t.Context(), func(context.Context) (Picture, error) {
			next := looks[0]
			looks = looks[1:]
			if err, failed := next.(error); failed {
				return Picture{}, err
			}
			return next.(Picture), nil
		}, time.Microsecond, s)
	}
	var b strings.Builder
	p, err := watch(&Lines{W: &b, Local: time.UTC}, rolling, rolling, gone, gone, rolling, halted)
	if err != nil || p.Phase != "Halted" {
		t.Errorf("Watch = %v, %v", p.Phase, err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []string{
		"12:00:00 fleet: Rolling 1/7: edge-2 drains",
		"12:00:00 fleet: 1 done, 1 staged",
		"still trying: the cluster does not answer: refused",
		"12:00:00 the cluster answers again, after ",
		"12:00:00 fleet: Halted 1/7, 1 failed: halted: 1 of 1",
		"12:00:00 edge-1: failed: not healthy",
	} {
		if i >= len(lines) || !strings.Contains(lines[i], want) {
			t.Errorf("line %d is not %q in\n%s", i, want, b.String())
		}
	}
	if len(lines) != 6 {
		t.Errorf("%d lines:\n%s", len(lines), b.String())
	}

	b.Reset()
	if _, err := watch(&Terminal{W: &b, Local: time.UTC, Nodes: 2, Rows: func() int { return 0 }}, rolling, gone, halted); err != nil {
		t.Error(err)
	}
	frames := strings.Split(b.String(), wrapOff+home)
	if len(frames) != 4 || !strings.Contains(frames[2], "edge-2 drains") || !strings.Contains(frames[2], "still trying") || strings.Contains(frames[3], "still trying") || !strings.HasSuffix(frames[3], eraseAll+wrapOn) {
		t.Errorf("frames %q", frames)
	}

	if _, err := watch(&Lines{W: io.Discard, Local: time.UTC}, gone); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Watch of nothing = %v", err)
	}
	if _, err := watch(&Lines{W: io.Discard, Local: time.UTC}, rolling, ErrNoPlan); !errors.Is(err, ErrNoPlan) {
		t.Errorf("Watch of what was deleted = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Watch(ctx, func(context.Context) (Picture, error) { return rolling, nil }, time.Hour, &Lines{W: io.Discard}); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch = %v", err)
	}
}

// TestRows holds that a picture never scrolls the terminal.
func TestRows(t *testing.T) {
	rolling := read(t, "fleet.yaml").picture()
	for _, c := range []struct {
		rows, want int
		have       string
	}{
		{0, 24, "edge-6"}, {40, 24, "edge-6"}, {25, 24, "edge-6"}, {24, 23, "… and 2 more (--all)"}, {12, 11, "Rolling"}, {3, 2, "fleet: Rolling"},
	} {
		s := Terminal{Local: time.UTC, Nodes: 20, Rows: func() int { return c.rows }, last: rolling}
		lines := s.lines()
		if len(lines) > c.want || !strings.Contains(strings.Join(lines, "\n"), c.have) {
			t.Errorf("%d rows: %d lines, want %d with %q:\n%s", c.rows, len(lines), c.want, c.have, strings.Join(lines, "\n"))
		}
	}
}
