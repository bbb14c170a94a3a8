package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/power"
)

func TestPetEvery(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		0: watchdogPet, 60 * time.Second: watchdogPet, 15 * time.Second: 5 * time.Second, 3 * time.Second: time.Second,
	} {
		if got := petEvery(timeout); got != want {
			t.Errorf("petEvery(%v) = %v, want %v", timeout, got, want)
		}
	}
}

// TestGuardLimit: a watchdog is not petted for ever, and never longer than was said
// first.
func TestGuardLimit(t *testing.T) {
	g := &guard{until: time.Now().Add(time.Hour)}
	if g.over() {
		t.Error("it ends at once")
	}
	first := g.until
	if g.limit(2 * time.Hour); !g.until.Equal(first) {
		t.Error("a later limit counts")
	}
	if g.limit(-time.Second); !g.over() {
		t.Error("it goes on")
	}
	var none *guard
	none.limit(0)
}

// TestGuardTrial: the watchdog is closed, by a V, for a release that stays and for
// no other; one that goes down is petted for a while, and not for ever.
func TestGuardTrial(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		said   string // by the agent; "-" for nothing
		damage string
		limit  time.Duration
		err    string
		closed bool
	}{
		{"committed", t.Context(), "", "", time.Hour, "", true},
		{"committed too late", t.Context(), "", "", 0, "", true},
		{"given up", t.Context(), GivenUp, "", time.Hour, "", false},
		{"not decided", t.Context(), "-", "", 0, "the trial of slot b was not decided within 0s", false},
		{"damaged, not decided", t.Context(), "-", "a block", 0, "the trial of slot b was not ended: a block", false},
		{"goes down", ended, "-", "", time.Hour, "", false},
	} {
		dir := t.TempDir()
		over, told := filepath.Join(dir, "over"), filepath.Join(dir, "watchdog")
		if c.said != "-" {
			if err := os.WriteFile(over, []byte(c.said), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		fd, err := syscall.Open(told, syscall.O_CREAT|syscall.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		s := &System{Journal: &Journal{record: Record{Trial: true, Slot: "b", Damage: c.damage}}}
		s.guard = newGuard(func() (*power.Watchdog, error) { return power.TakeWatchdog(strconv.Itoa(fd)) }, func(err error) { t.Error(err) })
		first := s.guard.until
		err = s.guardTrial(c.ctx, over, c.limit)
		if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
		b, err := os.ReadFile(told)
		if err != nil || strings.Contains(string(b), "V") != c.closed {
			t.Errorf("%s: the watchdog was told %q, %v", c.name, b, err)
		}
		if c.closed {
			continue
		}
		if !s.guard.until.Before(first) {
			t.Errorf("%s: it is petted as long as before", c.name)
		}
		s.guard.end().Close()
	}
}

// TestPickWatchdog: one of the kernel's own takes the place of hardware that is not
// there or of no use.
func TestPickWatchdog(t *testing.T) {
	for _, c := range []struct {
		name   string
		there  bool
		broken string // devices and "softdog" that fail
		none   bool   // no modules
		did    string
		ok     bool
	}{
		{"hardware", true, "", false, "/dev/watchdog", true},
		{"none", false, "", false, "softdog /dev/watchdog", true},
		{"of no use", true, "/dev/watchdog", false, "/dev/watchdog softdog /dev/watchdog1", true},
		{"both of no use", true, "/dev/watchdog /dev/watchdog1", false, "/dev/watchdog softdog /dev/watchdog1", false},
		{"softdog does not load", true, "/dev/watchdog softdog", false, "/dev/watchdog softdog", false},
		{"no modules", false, "/dev/watchdog", true, "/dev/watchdog", false},
		{"hardware, no modules", true, "", true, "/dev/watchdog", true},
	} {
		var did []string
		note := func(what string) error {
			did = append(did, what)
			for _, b := range strings.Fields(c.broken) {
				if b == what {
					return errors.New(what + " is broken")
				}
			}
			return nil
		}
		software := func() error { return note("softdog") }
		if c.none {
			software = nil
		}
		open := func(device string) (*power.Watchdog, error) {
			if err := note(device); err != nil {
				return nil, err
			}
			return &power.Watchdog{}, nil
		}
		dog, err := pickWatchdog(func(string) bool { return c.there }, software, open)
		if got := strings.Join(did, " "); got != c.did || (err == nil) != c.ok || (dog != nil) != c.ok {
			t.Errorf("%s: did %q, %v, %v; want %q", c.name, got, dog, err, c.did)
		}
		for _, b := range strings.Fields(c.broken) {
			if !c.ok && !strings.Contains(err.Error(), b) {
				t.Errorf("%s: %v does not name %s", c.name, err, b)
			}
		}
	}
}
