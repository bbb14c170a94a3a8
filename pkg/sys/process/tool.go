package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A Tool is one run of a program to its end: a build tool, a helper. Env adds
// to the environment of this process. Without Stdout its output is dropped;
// the last lines of its standard error become part of the error.
type Tool struct {
	Path   string   // name looked up in PATH, or a path
	Args   []string // without the name
	Dir    string
	Env    []string
	Stdin  io.Reader
	Stdout io.Writer
}

// ErrNotInstalled means that a program is not on this machine.
var ErrNotInstalled = errors.New("program is not installed")

// Find returns the path of a program. It also looks in the sbin folders, which
// are not in the PATH of an ordinary user. The error wraps ErrNotInstalled.
func Find(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, ErrNotInstalled)
}

// pipeDelay is how long what a tool has started may hold its output when the tool
// itself has ended.
const pipeDelay = 2 * time.Second

// Run runs the tool and waits for its end. When ctx ends, so does the tool, with
// all that it has started. The error names the program and wraps *exec.ExitError
// or ErrNotInstalled.
func (t Tool) Run(ctx context.Context) error {
	path, err := Find(t.Path)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, t.Args...)
	var tail lastLines
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = t.Dir, t.Stdin, t.Stdout, &tail
	asGroup(cmd)
	cmd.WaitDelay = pipeDelay
	if len(t.Env) > 0 {
		cmd.Env = append(os.Environ(), t.Env...)
	}
	err = cmd.Run()
	if ctx.Err() != nil && err != nil {
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) { // it ended well, and left something behind
		if text := tail.String(); text != "" {
			return fmt.Errorf("%s: %w: %s", filepath.Base(t.Path), err, text)
		}
		return fmt.Errorf("%s: %w", filepath.Base(t.Path), err)
	}
	return nil
}

// Output runs the tool and returns what it wrote to standard output.
func (t Tool) Output(ctx context.Context) (string, error) {
	var out bytes.Buffer
	t.Stdout = &out
	err := t.Run(ctx)
	return out.String(), err
}

// lastLines keeps the end of what is written to it.
type lastLines struct {
	mu sync.Mutex
	b  []byte
}

const keepBytes = 4 << 10

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > keepBytes {
		l.b = append(l.b[:0], l.b[len(l.b)-keepBytes:]...)
	}
	return len(p), nil
}

// String returns the last lines as one, at most twelve of them.
func (l *lastLines) String() string {
	lines := strings.Split(strings.TrimSpace(string(l.b)), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "; ")
}

// ExitCode returns the status that a program ended with, from an error of Run;
// known is false when it did not end by itself.
func ExitCode(err error) (code int, known bool) {
	var exit *exec.ExitError
	if err == nil {
		return 0, true
	}
	if !errors.As(err, &exit) || exit.ExitCode() < 0 {
		return 0, false
	}
	return exit.ExitCode(), true
}
