package qemu

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Line is one line of the console, without terminal control, and the host
// time since QEMU's start at which it was complete.
type Line struct {
	Text string
	At   time.Duration
}

// A Stage is one marker that the guest printed: the kernel's clock when it was
// reached, and the host's when it was read.
type Stage struct {
	Name    string
	Seconds float64
	At      time.Duration
}

// A StoppedError says where and why a guest cannot go on.
type StoppedError struct {
	Stage  string // the stage it could not reach; "" when only the reason is known
	Reason string
	Flake  bool // the kernel tripped over itself, see flake
}

func (e *StoppedError) Error() string {
	if e.Stage == "" {
		return e.Reason
	}
	return "stopped at " + e.Stage + ": " + e.Reason
}

var (
	stageLine = regexp.MustCompile(`kedge: stage ([a-z]+) at ([0-9]+\.?[0-9]*)s`)
	stopLine  = regexp.MustCompile(`kedge: stopped at ([a-z]+): (.*)`)
	panicLine = regexp.MustCompile(`Kernel panic - not syncing: ?(.*)`)
	// QEMU's software emulation with one thread for each processor sometimes
	// runs a stale breakpoint while the kernel patches its own code, or loses a
	// write. A kernel of a distribution that trips over itself on such a machine
	// is taken for that; what a program asks for is a panic without an Oops.
	flake = regexp.MustCompile(`Oops: (int3|[0-9a-f]{4,16} \[#|general protection fault)|int3: 0000 \[#`)
	// What moves the cursor to a place or clears the screen.
	placed = regexp.MustCompile("\x1b\\[[0-9;]*[HfJ]")
	// What else moves a terminal's cursor or changes its colours.
	control = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78cDEHM]|\x1b\\][^\a]*\a|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
)

// parseStage reads the marker of a stage.
func parseStage(text string) (name string, seconds float64, ok bool) {
	m := stageLine.FindStringSubmatch(text)
	if m == nil {
		return "", 0, false
	}
	seconds, err := strconv.ParseFloat(m[2], 64)
	return m[1], seconds, err == nil
}

// parseStop reads a line that tells of an end: the init's own, or a panic.
func parseStop(text string) *StoppedError {
	if flake.MatchString(text) {
		return &StoppedError{Reason: "software emulation broke the guest's kernel (" + text + ")", Flake: true}
	}
	if m := stopLine.FindStringSubmatch(text); m != nil {
		return &StoppedError{Stage: m[1], Reason: m[2]}
	}
	if m := panicLine.FindStringSubmatch(text); m != nil {
		return &StoppedError{Reason: "kernel panic: " + m[1]}
	}
	return nil
}

// Console reads what the guest writes and lets others wait for it. It is an
// io.Writer that never fails.
type Console struct {
	Follow func(Line) // called for each complete line, if set

	mu      sync.Mutex
	started time.Time
	lines   []Line
	partial string
	stages  []Stage
	stop    *StoppedError
	ended   bool
	changed chan struct{} // closed and replaced when anything is new
}

// NewConsole returns a console whose clock starts now.
func NewConsole() *Console {
	return &Console{started: time.Now(), changed: make(chan struct{})}
}

func (c *Console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partial += string(b)
	for {
		text, rest, ok := strings.Cut(c.partial, "\n")
		if !ok {
			break
		}
		c.partial = rest
		for _, l := range clean(text) {
			c.line(l)
		}
	}
	c.wake()
	return len(b), nil
}

// clean drops terminal control. Text that a program places elsewhere on the
// screen, such as a menu, becomes a line of its own; a carriage return inside
// a line only parts words.
func clean(s string) []string {
	if !strings.ContainsAny(s, "\x1b\r") {
		return []string{strings.TrimRight(control.ReplaceAllString(s, ""), " ")}
	}
	var lines []string
	for _, l := range placed.Split(s, -1) {
		l = control.ReplaceAllString(l, "")
		l = strings.TrimRight(strings.ReplaceAll(strings.Trim(l, "\r"), "\r", " "), " ")
		if l != "" && strings.Trim(l, "+-| ") != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

func (c *Console) line(text string) {
	l := Line{text, time.Since(c.started)}
	c.lines = append(c.lines, l)
	if name, seconds, ok := parseStage(text); ok {
		c.stages = append(c.stages, Stage{name, seconds, l.At})
		if name == "initrd" && c.stop != nil && !c.stop.Flake {
			c.stop = nil // that was the boot before
		}
	}
	if stop := parseStop(text); stop != nil && (c.stop == nil || stop.Flake) {
		c.stop = stop
	}
	if c.Follow != nil {
		c.Follow(l)
	}
}

func (c *Console) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Close says that nothing more will come.
func (c *Console) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range clean(c.partial) {
		if l != "" {
			c.line(l)
		}
	}
	c.partial = ""
	c.ended = true
	c.wake()
	return nil
}

// Mark returns a place in the console: waiting from it looks only at what
// comes later.
func (c *Console) Mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lines)
}

// Tail returns the last n lines that are not empty.
func (c *Console) Tail(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var tail []string
	for i := len(c.lines) - 1; i >= 0 && len(tail) < n; i-- {
		if strings.TrimSpace(c.lines[i].Text) != "" {
			tail = append([]string{c.lines[i].Text}, tail...)
		}
	}
	return tail
}

// Stages returns the stages reached since the last start of the kernel.
func (c *Console) Stages() []Stage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Stage(nil), lastBoot(c.stages)...)
}

// lastBoot cuts the stages of earlier boots: each boot begins with initrd.
func lastBoot(stages []Stage) []Stage {
	for i := len(stages) - 1; i > 0; i-- {
		if stages[i].Name == "initrd" {
			return stages[i:]
		}
	}
	return stages
}

// ErrEnded means that the machine went off before the console showed what was
// waited for.
var ErrEnded = errors.New("the machine went off")

// wait calls look with the lock held, at once and after each change, until it
// says true.
func (c *Console) wait(ctx context.Context, look func() (bool, error)) error {
	for {
		c.mu.Lock()
		done, err := look()
		changed, ended := c.changed, c.ended
		c.mu.Unlock()
		switch {
		case done || err != nil:
			return err
		case ended:
			return ErrEnded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// WaitText waits for a line after mark that matches, complete or not, and
// returns it with the mark behind it.
func (c *Console) WaitText(ctx context.Context, mark int, pattern *regexp.Regexp) (found string, next int, err error) {
	next = mark
	err = c.wait(ctx, func() (bool, error) {
		for ; next < len(c.lines); next++ {
			if pattern.MatchString(c.lines[next].Text) {
				found = c.lines[next].Text
				next++
				return true, nil
			}
		}
		for _, text := range clean(c.partial) {
			if text != "" && pattern.MatchString(text) {
				found = text
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return "", next, fmt.Errorf("wait for %q on the console: %w", pattern, err)
	}
	return found, next, nil
}

// WaitStage waits until a boot reaches a stage, counting boots from 1. The
// error wraps a *StoppedError when the guest gave up, or started once more.
func (c *Console) WaitStage(ctx context.Context, boot int, name string) (Stage, error) {
	var found Stage
	err := c.wait(ctx, func() (done bool, err error) {
		found, done, err = lookFor(c.stages, boot, name)
		if !done && err == nil && c.stop != nil {
			err = c.stop
		}
		return done, err
	})
	return found, err
}

// lookFor finds a stage of one boot. Its error says that the next boot has begun.
func lookFor(stages []Stage, boot int, name string) (Stage, bool, error) {
	n, last := 0, ""
	for _, s := range stages {
		if s.Name == "initrd" {
			n++
		}
		switch {
		case n == boot && s.Name == name:
			return s, true, nil
		case n > boot:
			return Stage{}, false, &StoppedError{Reason: "the machine started again after " + last}
		}
		last = s.Name
	}
	return Stage{}, false, nil
}

// Boots returns how many times the kernel has come up.
func (c *Console) Boots() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boots()
}

func (c *Console) boots() (n int) {
	for _, s := range c.stages {
		if s.Name == "initrd" {
			n++
		}
	}
	return n
}

// Broken returns how the emulation broke the guest's kernel, or nil.
func (c *Console) Broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil && c.stop.Flake {
		return c.stop
	}
	return nil
}

// WaitBroken waits until the emulation breaks the guest's kernel, and says how.
// It returns nil when the machine or ctx ends before.
func (c *Console) WaitBroken(ctx context.Context) (broken error) {
	err := c.wait(ctx, func() (bool, error) {
		if c.stop != nil && c.stop.Flake {
			broken = c.stop
		}
		return broken != nil, nil
	})
	if err != nil {
		return nil
	}
	return broken
}

// WaitBoot waits until the kernel has come up for the nth time, whatever became
// of the times before.
func (c *Console) WaitBoot(ctx context.Context, n int) error {
	return c.wait(ctx, func() (bool, error) { return c.boots() >= n, nil })
}
