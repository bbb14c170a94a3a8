package process

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name, script, out, err string
	}{
		{"good", "echo hello; echo more >&2", "hello\n", ""},
		{"bad", "echo one >&2; echo two >&2; exit 3", "", "sh: exit status 3: one; two"},
		{"silent", "exit 4", "", "sh: exit status 4"},
		{"killed", "kill -9 $$", "", "sh: signal: killed"},
	} {
		var out bytes.Buffer
		err := Command{Args: []string{"/bin/sh", "-c", c.script}, Stdout: &out}.Run(t.Context())
		if out.String() != c.out || text(err) != c.err {
			t.Errorf("%s: out %q, error %q; want %q, %q", c.name, out.String(), text(err), c.out, c.err)
		}
		var exit *exec.ExitError
		if (c.err != "") != errors.As(err, &exit) {
			t.Errorf("%s: error %v carries the exit status: %v", c.name, err, exit != nil)
		}
	}
}

// TestRunQuiet checks that without writers both streams tell of the failure,
// in their order.
func TestRunQuiet(t *testing.T) {
	err := Command{Args: []string{"/bin/sh", "-c", "echo one; echo two >&2; exit 1"}}.Run(t.Context())
	if want := "sh: exit status 1: one; two"; text(err) != want {
		t.Errorf("Run = %v, want %q", err, want)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRunMissing(t *testing.T) {
	if err := (Command{Args: []string{"no-such-program"}}).Run(t.Context()); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("Run = %v, want ErrNotInstalled", err)
	}
}

func TestRunCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := (Command{Args: []string{"sleep", "600"}}).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want context.Canceled", err)
	}
}

// TestToolLeavesBehind: one that ends well is not asked for what still holds its
// output.
func TestToolLeavesBehind(t *testing.T) {
	if err := (Tool{Path: "sh", Args: []string{"-c", "sleep 60 >&2 & exit 0"}}).Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSignalGroup(t *testing.T) {
	p, err := Command{Args: []string{"/bin/sh", "-c", "sleep 600 & wait"}, Group: true}.Start()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SignalGroup(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("Wait = %v, want terminated", err)
	}
}
