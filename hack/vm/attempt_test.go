package vm

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kedgeos/kedge/pkg/host/qemu"
)

// An attempt is one playing of a story. What one says about failure stays with
// it, so that there can be another.
type attempt struct {
	*testing.T
	lab    *lab
	failed bool
}

// playOnce plays a story; once more when software emulation broke a guest's
// kernel, which it tells.
func (p platform) playOnce(t *testing.T, file string) {
	first := p.try(t, file)
	if !first.failed {
		return
	}
	broken := first.lab.broken()
	if broken == nil {
		t.FailNow()
	}
	t.Logf("%v: the story is played once more", broken)
	if p.try(t, file).failed {
		t.FailNow()
	}
}

func (p platform) try(t *testing.T, file string) *attempt {
	a := &attempt{T: t}
	done := make(chan struct{})
	go func() { // which FailNow ends, not the test's own
		defer close(done)
		testscript.RunT(a, testscript.Params{Files: []string{file}, Setup: p.setup, Cmds: commands, RequireExplicitExec: true})
	}()
	<-done
	return a
}

// Run plays the one story there is.
func (a *attempt) Run(_ string, f func(testscript.T)) { f(a) }

// Parallel does nothing: stories are played in turn.
func (a *attempt) Parallel() {}

func (a *attempt) Verbose() bool { return testing.Verbose() }

func (a *attempt) Fatal(args ...any) {
	a.Log(args...)
	a.FailNow()
}

func (a *attempt) FailNow() {
	a.failed = true
	runtime.Goexit()
}

// broken tells how the emulation broke a guest of the story, or nil.
func (l *lab) broken() error {
	if l == nil {
		return nil
	}
	for _, m := range l.machines {
		for _, c := range m.consoles {
			if err := c.Broken(); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestCoreOnceMore plays a story whose guest breaks the first time.
func TestCoreOnceMore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trips.txtar")
	if err := os.WriteFile(file, []byte("trip\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	times := 0
	commands["trip"] = func(ts *script, _ bool, _ []string) {
		c := qemu.NewConsole()
		labOf(ts).machines["one"] = &machine{consoles: []*qemu.Console{c}}
		if times++; times == 1 {
			c.Write([]byte("Oops: Oops: 0002 [#1] PREEMPT SMP\n"))
			ts.Fatalf("the guest does not answer")
		}
	}
	defer delete(commands, "trip")
	platform{"amd64", "bios"}.playOnce(t, file)
	if times != 2 {
		t.Errorf("played %d times", times)
	}
}
