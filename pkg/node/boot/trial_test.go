package boot

import (
	"testing"
	"time"
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
