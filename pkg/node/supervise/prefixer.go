package supervise

import (
	"bytes"
	"io"
	"syscall"
)

// noControl keeps a terminal that PID 1 opens from becoming its own.
const noControl = syscall.O_NOCTTY

// A prefixer writes whole lines, each with a prefix. What cannot be written is
// dropped.
type prefixer struct {
	to     io.Writer
	prefix string
	rest   []byte // of a line whose end has not come
}

// longLine is where a line is cut that does not end.
const longLine = 4 << 10

func (p *prefixer) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		end := bytes.IndexByte(p.rest, '\n')
		if end < 0 && len(p.rest) < longLine {
			return len(b), nil
		}
		if end < 0 {
			end = longLine - 1
		}
		p.to.Write(append([]byte(p.prefix), p.rest[:end+1]...))
		p.rest = p.rest[end+1:]
	}
}
