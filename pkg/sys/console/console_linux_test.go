package console

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNames(t *testing.T) {
	active := filepath.Join(t.TempDir(), "active")
	if err := os.WriteFile(active, []byte("tty0 ttyS0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := names(active); !slices.Equal(got, []string{"tty1", "ttyS0"}) {
		t.Errorf("names = %v", got)
	}
}

// terminal returns a terminal and the other end of its line.
func terminal(t *testing.T) (*Terminal, *os.File) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if err := unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	near, err := Open(fmt.Sprintf("pts/%d", n))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	return near, far
}

func TestReadPassword(t *testing.T) {
	near, far := terminal(t)
	shown := make(chan string)
	go func() {
		r := bufio.NewReader(far)
		prompt, _ := r.ReadString(':')
		far.WriteString("secret\r")
		rest, _ := r.ReadString('\n')
		far.WriteString("line\r")
		echo, _ := r.ReadString('\n')
		shown <- prompt + rest + echo
	}()
	if got, err := near.ReadPassword(t.Context(), "password:", time.Minute); err != nil || got != "secret" {
		t.Errorf("ReadPassword = %q, %v", got, err)
	}
	if got, err := near.ReadLine(t.Context(), 0); err != nil || got != "line" {
		t.Errorf("ReadLine = %q, %v", got, err)
	}
	if got := <-shown; strings.Contains(got, "secret") || !strings.Contains(got, "line") {
		t.Errorf("the terminal showed %q", got)
	}
}

func TestReadLineEnds(t *testing.T) {
	near, _ := terminal(t)
	if _, err := near.ReadLine(t.Context(), time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ReadLine = %v, want a deadline", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := near.ReadLine(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadLine = %v, want context.Canceled", err)
	}
}

func TestRows(t *testing.T) {
	near, far := terminal(t)
	if got := Rows(near.File); got != 0 {
		t.Errorf("%d rows before the size is set", got)
	}
	if err := unix.IoctlSetWinsize(int(far.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	if got := Rows(near.File); got != 24 {
		t.Errorf("%d rows, want 24", got)
	}
}
