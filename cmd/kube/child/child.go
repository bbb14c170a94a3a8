// Package child runs parts of kube as processes of the same program and starts
// them again when they end.
package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/say"
)

// A Command is a part to run. Args[0] selects the part.
type Command struct {
	Name string
	Args []string
	Env  []string // added to the environment of this process
}

// Limits of the pause before a part is started again.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
	stable     = time.Minute // a run of this length starts from firstPause again
)

// Keep runs c until ctx ends, and starts it again whenever it ends before. It
// then asks the process to end with SIGTERM and kills it after grace.
func Keep(ctx context.Context, c Command, grace time.Duration) {
	pause := firstPause
	for ctx.Err() == nil {
		begin := time.Now()
		err := run(ctx, c, grace)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > stable {
			pause = firstPause
		}
		say.Printf("%s ended (%v); starting it again in %v", c.Name, err, pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

func run(ctx context.Context, c Command, grace time.Duration) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = c.Args
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	// A part must not outlive us: its sockets and ports would block the next start.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", c.Name, err)
	}
	return cmd.Wait()
}
