package boot

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// person is a terminal at which somebody types these lines, then leaves.
type person struct {
	types []string
	shown strings.Builder
}

func (p *person) WriteString(s string) (int, error) { return p.shown.WriteString(s) }

func (p *person) ReadLine(ctx context.Context, _ time.Duration) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if len(p.types) == 0 {
		return "", os.ErrDeadlineExceeded
	}
	line := p.types[0]
	p.types = p.types[1:]
	return line, nil
}

func (p *person) ReadPassword(ctx context.Context, prompt string, wait time.Duration) (string, error) {
	p.WriteString(prompt)
	return p.ReadLine(ctx, wait)
}

func hash(t *testing.T, password string) string {
	t.Helper()
	h, err := shacrypt.New(shacrypt.WithSHA512(), shacrypt.WithIterations(1000))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := h.Hash(password)
	if err != nil {
		t.Fatal(err)
	}
	return digest.Encode()
}

func TestEmergency(t *testing.T) {
	secret := hash(t, "secret")
	for _, c := range []struct {
		name, password string
		types          []string
		did, shown     string
	}{
		{"nobody", secret, nil, "", "nobody here"},
		{"restart", secret, []string{"b"}, "", "why it stopped"},
		{"retry", secret, []string{"r", "R", "b"}, "retry retry ", "trying again"},
		{"log", secret, []string{"l", "b"}, "", "the log"},
		{"shell", secret, []string{"s", "secret", "b"}, "shell ", "password: "},
		{"wrong password", secret, []string{"s", "guess", "b"}, "", "wrong"},
		{"empty password", secret, []string{"s", "", "b"}, "", "wrong"},
		{"no password set", "", []string{"s", "", "b"}, "", "there is no shell without kedge.emergency="},
		{"not a hash", "secret", []string{"s", "secret", "b"}, "", "kedge.emergency: "},
		{"something else", secret, []string{"help", "b"}, "", "why it stopped\n\n[r] retry"},
	} {
		did := ""
		p := &person{types: c.types}
		e := Emergency{
			Password: c.password,
			Reason:   func() string { return "why it stopped\n" },
			Retry:    func() { did += "retry " },
			Log:      func() (string, error) { return "the log\n", nil },
			Shell:    func(Terminal) error { did += "shell "; return nil },
		}
		if err := e.Talk(t.Context(), p); !errors.Is(err, ErrReboot) {
			t.Errorf("%s: Talk = %v, want ErrReboot", c.name, err)
		}
		if did != c.did || !strings.Contains(p.shown.String(), c.shown) {
			t.Errorf("%s: did %q, want %q; shown:\n%s\nwant %q", c.name, did, c.did, p.shown.String(), c.shown)
		}
	}
}

func TestEmergencyEnds(t *testing.T) {
	found := errors.New("found")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(found)
	e := Emergency{Reason: func() string { return "" }}
	if err := e.Talk(ctx, &person{types: []string{"r"}}); !errors.Is(err, found) {
		t.Errorf("Talk = %v, want the cause", err)
	}
}

// TestPresence: who is at one console keeps the others from giving up.
func TestPresence(t *testing.T) {
	p := &presence{}
	if p.left(time.Hour) > 0 {
		t.Error("nobody was there, yet time is left")
	}
	p.touch(1)
	if got := p.left(time.Nanosecond); got != time.Nanosecond {
		t.Errorf("while a shell runs, %v is left", got)
	}
	p.touch(-1)
	if got := p.left(time.Hour); got <= 0 || got > time.Hour {
		t.Errorf("after a key, %v is left of an hour", got)
	}
}
