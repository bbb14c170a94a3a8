// Package process runs other programs: to their end (Tool, Command.Run), or as
// children that are watched and signalled (Command.Start), in a cgroup, a
// session or with another user's credentials where that is asked for. It also
// collects orphans on behalf of a process that is init (Reap).
//
// It holds no policy: when to restart and how long to wait is decided by
// pkg/node/supervise.
package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Command says how to start one program. Only Args is required.
type Command struct {
	Args   []string // Args[0] is a path or a name in PATH
	Env    []string // "KEY=value"; nil means the environment of this process
	Dir    string
	Stdin  io.Reader // nil is /dev/null
	Stdout io.Writer // nil drops the output; Run keeps its last lines for the error
	Stderr io.Writer // the same

	User     *User  // nil means the user of this process
	Group    bool   // the child leads its own process group, see Process.SignalGroup
	Session  bool   // the child leads its own session
	Tied     bool   // the child is killed when this process ends, however it does (Linux)
	Terminal bool   // with Session: Stdin, an *os.File, becomes its terminal
	Cgroup   string // cgroup folder to start in; it must exist
}

// A User is who a child runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

func (c Command) String() string { return strings.Join(c.Args, " ") }

// A Process is a started child. It is waited for in the background, so it
// never stays behind as a zombie.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// outputDelay is how long output is read on after a child's end when somebody
// else keeps its pipe open.
const outputDelay = 2 * time.Second

// forks holds the reaper off between a fork and the note of its process id,
// see Reap.
var (
	forks sync.RWMutex
	ours  = map[int]bool{}
)

// Start starts the program and returns at once.
func (c Command) Start() (*Process, error) {
	if len(c.Args) == 0 {
		return nil, fmt.Errorf("start a program: no name given")
	}
	path, err := Find(c.Args[0])
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: path, Args: c.Args, Env: c.Env, Dir: c.Dir,
		Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, WaitDelay: outputDelay,
	}
	attributes, release, err := c.attributes()
	if err != nil {
		return nil, err
	}
	defer release()
	cmd.SysProcAttr = attributes

	p := &Process{name: filepath.Base(c.Args[0]), cmd: cmd, done: make(chan struct{})}
	if err := p.start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Args[0], err)
	}
	go p.wait()
	return p, nil
}

func (p *Process) start() error {
	forks.Lock()
	defer forks.Unlock()
	if err := p.cmd.Start(); err != nil {
		return err
	}
	ours[p.cmd.Process.Pid] = true
	return nil
}

func (p *Process) wait() {
	p.err = p.cmd.Wait()
	forks.Lock()
	delete(ours, p.cmd.Process.Pid)
	forks.Unlock()
	close(p.done)
}

// same tells whether two writers are one; those that cannot be compared are not.
func same(a, b io.Writer) (one bool) {
	defer func() {
		if recover() != nil {
			one = false
		}
	}()
	return a == b
}

// Run runs the program to its end, or kills it when ctx ends. The error has
// the last lines of its output and wraps *exec.ExitError or ErrNotInstalled.
func (c Command) Run(ctx context.Context) error {
	var tail lastLines
	one := c.Stdout != nil && same(c.Stdout, c.Stderr)
	c.Stdout, c.Stderr = tee(c.Stdout, &tail), tee(c.Stderr, &tail)
	if one { // os/exec then writes to it from one goroutine
		c.Stderr = c.Stdout
	}
	p, err := c.Start()
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Signal(syscall.SIGKILL)
		<-p.Done()
		return fmt.Errorf("%s: %w", p.name, context.Cause(ctx))
	}
	if p.err != nil && len(tail.b) > 0 {
		return fmt.Errorf("%s: %w: %s", p.name, p.err, tail.String())
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	return nil
}

// tee sends output to w, if there is one, and to tail.
func tee(w io.Writer, tail *lastLines) io.Writer {
	if w == nil {
		return tail
	}
	return io.MultiWriter(w, tail)
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the child. The error wraps *exec.ExitError when it
// ended with another status than 0.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends a signal to the child; os.ErrProcessDone when it has ended.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// SignalGroup sends a signal to the group the child leads, which may outlive
// the child itself. The child was started with Group or Session.
func (p *Process) SignalGroup(s syscall.Signal) error {
	return syscall.Kill(-p.cmd.Process.Pid, s)
}
