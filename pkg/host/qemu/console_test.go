package qemu

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"testing"
	"time"
)

func TestParseStage(t *testing.T) {
	for _, c := range []struct {
		text    string
		name    string
		seconds float64
		ok      bool
	}{
		{"kedge: stage initrd at 0.52s", "initrd", 0.52, true},
		{"[    1.2] x kedge: stage ready at 130s", "ready", 130, true},
		{"kedge: stage ready", "", 0, false},
		{"kedge: stopped at medium: none", "", 0, false},
	} {
		name, seconds, ok := parseStage(c.text)
		if name != c.name || seconds != c.seconds || ok != c.ok {
			t.Errorf("parseStage(%q) = %q, %v, %v", c.text, name, seconds, ok)
		}
	}
}

func TestParseStop(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"kedge: stopped at medium: no medium has the id 0123", "stopped at medium: no medium has the id 0123"},
		{"[    2.5] Kernel panic - not syncing: Attempted to kill init!", "kernel panic: Attempted to kill init!"},
		{"[   40.1] Oops: int3: 0000 [#1] PREEMPT SMP", "software emulation broke the guest's kernel ([   40.1] Oops: int3: 0000 [#1] PREEMPT SMP)"},
		{"Internal error: Oops: 0000000096000007 [#1] SMP", "software emulation broke the guest's kernel (Internal error: Oops: 0000000096000007 [#1] SMP)"},
		{"sysrq: Trigger a crash", ""},
		{"kedge: stage ready at 3.00s", ""},
		{"Kernel panic - not syncing: sysrq triggered crash", "kernel panic: sysrq triggered crash"},
	} {
		got := ""
		if stop := parseStop(c.text); stop != nil {
			got = stop.Error()
		}
		if got != c.want {
			t.Errorf("parseStop(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}

func TestConsoleLines(t *testing.T) {
	c := NewConsole()
	for _, part := range []string{"\x1b[2J\x1b[1;1HGRUB\r\n", "kedge: sta", "ge initrd at 0.50s\r\n", "10%\r20%\r\n\npass", "word: "} {
		c.Write([]byte(part))
	}
	if got, want := c.Tail(9), []string{"GRUB", "kedge: stage initrd at 0.50s", "10% 20%"}; !slices.Equal(got, want) {
		t.Errorf("Tail = %q, want %q", got, want)
	}
	text, _, err := c.WaitText(t.Context(), 0, regexp.MustCompile(`password: ?$`))
	if text != "password:" || err != nil {
		t.Errorf("a line that is not complete: %q, %v", text, err)
	}
	c.Close()
	if _, _, err := c.WaitText(t.Context(), 0, regexp.MustCompile("never")); !errors.Is(err, ErrEnded) {
		t.Errorf("WaitText after the end = %v", err)
	}
}

func TestConsoleMenu(t *testing.T) {
	c := NewConsole()
	c.Write([]byte("\x1b[H\x1b[J\x1b[1;1H\x1b[01;30m+----+\x1b[3;2H|    |\x1b[7m*Kedge\x1b[4;2H Rescue \x1b[9;1Hin 3s\n"))
	if got, want := c.Tail(9), []string{"|    |*Kedge", " Rescue", "in 3s"}; !slices.Equal(got, want) {
		t.Errorf("Tail = %q, want %q", got, want)
	}
}

func TestWaitTextGoesOn(t *testing.T) {
	c := NewConsole()
	c.Write([]byte("one\ntwo\none\n"))
	_, next, err := c.WaitText(t.Context(), 0, regexp.MustCompile("one"))
	if err != nil || next != 1 {
		t.Fatalf("first = %d, %v", next, err)
	}
	if _, next, err = c.WaitText(t.Context(), next, regexp.MustCompile("one")); err != nil || next != 3 {
		t.Errorf("second = %d, %v", next, err)
	}
}

func TestWaitStage(t *testing.T) {
	const boot = "kedge: stage initrd at 0.50s\n"
	for _, c := range []struct {
		name, text string
		boot       int
		want       string // "" is success
	}{
		{"reached", boot + "kedge: stage ready at 9.00s\n", 1, ""},
		{"second boot", boot + "kedge: stage ready at 9.00s\n" + boot + "kedge: stage ready at 8.00s\n", 2, ""},
		{"stopped", boot + "kedge: stopped at medium: none\n", 1, "stopped at medium: none"},
		{"reached, then stopped", boot + "kedge: stage ready at 9.00s\nkedge: stopped at x: y\n", 1, ""},
		{"restarted", boot + boot, 1, "the machine started again after initrd"},
		{"ended", boot, 1, "the machine went off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			con := NewConsole()
			go func() {
				con.Write([]byte(c.text))
				con.Close()
			}()
			_, err := con.WaitStage(t.Context(), c.boot, "ready")
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("WaitStage = %q, want %q", got, c.want)
			}
		})
	}
}

func TestWaitStageDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := NewConsole().WaitStage(ctx, 1, "ready"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitStage = %v", err)
	}
}

func TestStagesOfTheLastBoot(t *testing.T) {
	c := NewConsole()
	c.Write([]byte("kedge: stage initrd at 0.50s\nkedge: stage ready at 9.00s\nkedge: stage initrd at 0.60s\n"))
	if got := c.Stages(); len(got) != 1 || got[0].Seconds != 0.6 || c.Boots() != 2 {
		t.Errorf("Stages = %v, Boots = %d", got, c.Boots())
	}
}

func TestBroken(t *testing.T) {
	c := NewConsole()
	c.Write([]byte("kedge: stage initrd at 0.50s\nKernel panic - not syncing: sysrq triggered crash\n"))
	if err := c.Broken(); err != nil {
		t.Errorf("a panic that was asked for: %v", err)
	}
	heard := make(chan error)
	go func() { heard <- c.WaitBroken(t.Context()) }()
	c.Write([]byte("Oops: Oops: 0002 [#1] PREEMPT SMP\nkedge: stage initrd at 0.50s\n"))
	var stop *StoppedError
	if err := <-heard; !errors.As(err, &stop) || !stop.Flake {
		t.Errorf("WaitBroken = %v", err)
	}
	if c.Broken() == nil {
		t.Error("the next start made it good")
	}
	whole := NewConsole()
	whole.Close()
	if err := whole.WaitBroken(t.Context()); err != nil {
		t.Errorf("a machine that went off: %v", err)
	}
}
