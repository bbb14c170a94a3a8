package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/node/source"
	"github.com/kedgeos/kedge/pkg/node/update"
)

// TestNoteFailure goes through what a machine may meet one after the other.
func TestNoteFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "failure.json")
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	const room = "a.iso was not taken, 2026-11-21 12:00:00: there is no room for it"
	for _, c := range []struct {
		name  string
		image string
		err   error
		want  string
	}{
		{"nothing yet", "a.iso", nil, ""},
		{"no room", "a.iso", cli.Hint(source.ErrRoom, "make room"), room},
		{"a wrong command line", "b.iso", cli.Usagef("--limit"), room},
		{"somebody breaks it off", "b.iso", fmt.Errorf("fetch: %w", context.Canceled), room},
		{"another is at work", "b.iso", update.ErrBusy, room},
		{"it runs already", "b.iso", update.ErrSame, room},
		{"another failure", "b.iso", errors.New("connection refused"), "b.iso was not taken, 2026-11-21 12:00:00: connection refused"},
		{"one is taken", "b.iso", nil, ""},
	} {
		noteFailure(path, []string{"kedge", c.image}, c.err, now)
		if got := failureText(path); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
