package boot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// ResetMark asks the next boot for a factory reset. Below /var, as is what the
// reset keeps: the configuration that was written at installation.
const (
	ResetMark = "lib/kedge/reset"
	resetKeep = "lib/kedge/config.d"
)

// resetPatience is how long the question of the boot menu's factory reset waits.
const resetPatience = time.Minute

// reset empties the state, mounted at dir, when the boot menu or an earlier boot
// asked for it.
func (s *System) reset(ctx context.Context, dir string) error {
	if word, _ := cmdline.Get(s.Params, "kedge.reset"); word == "ask" && s.askReset(ctx) {
		if err := markReset(dir); err != nil {
			return err
		}
	}
	if !exists(filepath.Join(dir, ResetMark)) {
		return nil
	}
	s.say("factory reset: removing all state")
	return resetState(dir)
}

func markReset(dir string) error {
	path := filepath.Join(dir, ResetMark)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, nil, 0o600)
}

// resetState removes all below dir but what a reset keeps, its mark last: a
// power cut only means that the next boot goes on with it.
func resetState(dir string) error {
	if err := emptyBut(dir, resetKeep, ResetMark); err != nil {
		return fmt.Errorf("factory reset: %w", err)
	}
	power.Sync()
	if err := os.Remove(filepath.Join(dir, ResetMark)); err != nil {
		return fmt.Errorf("factory reset: %w", err)
	}
	power.Sync()
	return nil
}

// emptyBut removes what is in dir, except some paths and the folders on the way
// to them.
func emptyBut(dir string, keep ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		var below []string
		kept := false
		for _, k := range keep {
			first, rest, deeper := strings.Cut(k, "/")
			switch {
			case first != e.Name():
			case !deeper:
				kept = true
			default:
				below = append(below, rest)
			}
		}
		switch {
		case kept:
		case len(below) > 0 && e.IsDir():
			err = emptyBut(path, below...)
		default:
			err = os.RemoveAll(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// askReset asks on every console; the first to confirm is believed. Nobody's
// answer means no.
func (s *System) askReset(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, resetPatience)
	defer cancel()
	names := console.Names()
	answers := make(chan bool, len(names))
	for _, name := range names {
		go func() { answers <- askResetOn(ctx, name) }()
	}
	for range names {
		if <-answers {
			return true
		}
	}
	s.say("factory reset: not confirmed; nothing was removed")
	return false
}

func askResetOn(ctx context.Context, name string) bool {
	t, err := console.Open(name)
	if err != nil {
		return false
	}
	defer t.Close()
	fmt.Fprintf(t, "\nFactory reset: all state of this machine will be lost: containers, volumes, the cluster, logs.\n"+
		"The configuration written at its installation stays. Type reset and Enter within %v to go on: ", resetPatience)
	line, err := t.ReadLine(ctx, resetPatience)
	return err == nil && strings.TrimSpace(line) == "reset"
}
