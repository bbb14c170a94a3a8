package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kedgeos/kedge/pkg/host/build"
)

// progress shows steps: with a bar that moves on a terminal, as plain lines
// anywhere else.
type progress struct {
	w    io.Writer
	tty  bool
	lock sync.Mutex
	open bool // a line without an end stands on the terminal
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, tty: terminal(w) && os.Getenv("TERM") != "dumb"}
}

// terminal tells whether a stream is one.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) Step(name string) build.Step {
	p.line(name, false)
	return &step{p: p, name: name, begun: time.Now()}
}

func (p *progress) Warn(text string) {
	p.end()
	fmt.Fprintf(p.w, "\n*** WARNING: %s\n\n", text)
}

// end finishes a line that was left open.
func (p *progress) end() {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.open {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.open = false
	}
}

// line shows text: replacing the open line on a terminal; elsewhere only when
// it is final.
func (p *progress) line(text string, final bool) {
	p.lock.Lock()
	defer p.lock.Unlock()
	switch {
	case p.tty:
		fmt.Fprint(p.w, "\r\x1b[K", text)
		if final {
			fmt.Fprintln(p.w)
		}
		p.open = !final
	case final:
		fmt.Fprintln(p.w, text)
	}
}

type step struct {
	p     *progress
	name  string
	begun time.Time
	shown time.Time
}

const barWidth = 30

func (s *step) Bytes(done, total int64) {
	if !s.p.tty || total <= 0 || time.Since(s.shown) < 100*time.Millisecond {
		return
	}
	s.shown = time.Now()
	full := int(barWidth * done / total)
	s.p.line(fmt.Sprintf("%-32s [%s%s] %3d%%", s.name, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*done/total), false)
}

func (s *step) Done(result string) {
	s.p.line(fmt.Sprintf("%-32s %6.1fs  %s", s.name, time.Since(s.begun).Seconds(), result), true)
}
