package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-crypt/crypt"

	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// ErrReboot means that a person asked for a restart, or, when it is ErrNobody
// too, that nobody was there for too long.
var (
	ErrReboot = errors.New("restart asked for")
	ErrNobody = fmt.Errorf("%w by nobody", ErrReboot)
)

// patience is how long the emergency console waits for a key before it lets
// the machine try once more from the start.
const patience = 5 * time.Minute

// A Terminal is where the emergency console talks with a person.
type Terminal interface {
	WriteString(string) (int, error)
	ReadLine(ctx context.Context, wait time.Duration) (string, error)
	ReadPassword(ctx context.Context, prompt string, wait time.Duration) (string, error)
}

// An Emergency is the console of a machine that cannot go on. It never gives
// more than a look at the log and another try to one who does not know the
// password.
type Emergency struct {
	Password string        // crypt(3) hash for the shell; "" means there is no shell
	Reason   func() string // why the machine does not go on, maybe many lines
	Retry    func()        // try at once
	Log      func() (string, error)
	Shell    func(Terminal) error // "" when there is none
	Wait     time.Duration        // without a key for so long, it restarts; 0 means patience

	seen *presence // shared by the consoles of a machine; nil for one alone
}

// A presence notes when somebody was last there, at whichever console.
type presence struct {
	mu   sync.Mutex
	last time.Time
	busy int // shells that run
}

// touch notes that somebody is there.
func (p *presence) touch(shells int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.busy = time.Now(), p.busy+shells
}

// left returns how much of wait is left, all of it while a shell runs.
func (p *presence) left(wait time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy > 0 {
		return wait
	}
	return wait - time.Since(p.last)
}

const menu = "\n[r] retry  [l] log  [s] shell  [b] restart > "

// Talk offers the menu on one terminal until ctx ends. It returns ErrReboot
// when the machine should restart.
func (e Emergency) Talk(ctx context.Context, t Terminal) error {
	wait := e.Wait
	if wait == 0 {
		wait = patience
	}
	if e.seen == nil {
		e.seen = &presence{}
	}
	wrong := 0
	t.WriteString("\n" + e.Reason())
	for {
		t.WriteString(menu)
		line, err := t.ReadLine(ctx, wait)
		for errors.Is(err, os.ErrDeadlineExceeded) {
			left := e.seen.left(wait)
			if left <= 0 {
				break
			}
			line, err = t.ReadLine(ctx, left) // somebody is at another console
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.WriteString("\nnobody here, restarting\n")
			return ErrNobody
		}
		if err != nil {
			return err
		}
		e.seen.touch(0)
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "r":
			e.Retry()
			t.WriteString("trying again\n")
		case "l":
			text, err := e.Log()
			if err != nil {
				text = err.Error() + "\n"
			}
			t.WriteString(text)
		case "b":
			return ErrReboot
		case "s":
			if !e.allowed(ctx, t, wait) {
				// Each wrong answer costs more time than the one before.
				wrong++
				pause(ctx, time.Duration(min(wrong, 10))*time.Second)
				continue
			}
			wrong = 0
			e.seen.touch(1)
			if err := e.Shell(t); err != nil {
				fmt.Fprintf(asWriter{t}, "shell: %v\n", err)
			}
			e.seen.touch(-1)
		default:
			t.WriteString(e.Reason())
		}
	}
}

type asWriter struct{ Terminal }

func (w asWriter) Write(b []byte) (int, error) { return w.WriteString(string(b)) }

// allowed asks for the password of the shell.
func (e Emergency) allowed(ctx context.Context, t Terminal, wait time.Duration) bool {
	if e.Password == "" {
		t.WriteString("there is no shell without kedge.emergency=<crypt hash> on the kernel command line\n")
		return false
	}
	password, err := t.ReadPassword(ctx, "password: ", wait)
	if err != nil {
		return false
	}
	right, err := crypt.CheckPassword(password, e.Password)
	if err != nil {
		fmt.Fprintf(asWriter{t}, "kedge.emergency: %v\n", err)
		return false
	}
	if !right {
		t.WriteString("wrong\n")
	}
	return right
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// TalkAll offers the menu on all consoles of the machine until ctx ends or
// one of them asks for a restart. Time without a key counts only when no console
// sees one.
func (e Emergency) TalkAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.seen = &presence{}
	names := console.Names()
	ended := make(chan error, len(names))
	for _, name := range names {
		go func() { ended <- e.talkOn(ctx, name) }()
	}
	var failed []error
	for range names {
		err := <-ended
		if errors.Is(err, ErrReboot) || ctx.Err() != nil {
			return err
		}
		failed = append(failed, err)
	}
	// No console works: wait as long as one would.
	pause(ctx, patience)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: no console: %w", ErrNobody, errors.Join(failed...))
}

func (e Emergency) talkOn(ctx context.Context, name string) error {
	t, err := console.Open(name)
	if err != nil {
		return err
	}
	defer t.Close()
	e.Log = kernel.Log
	e.Shell = func(Terminal) error { return shell(name) }
	return e.Talk(ctx, t)
}

// shell runs a shell on a terminal to its end.
func shell(name string) error {
	tty, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	p, err := process.Command{
		Args: []string{"/usr/bin/busybox", "sh", "-i"}, Dir: "/", Stdin: tty, Stdout: tty, Stderr: tty, Session: true, Terminal: true,
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "TERM=linux", "PS1=kedge-emergency# "},
	}.Start()
	if err != nil {
		return err
	}
	return p.Wait()
}
