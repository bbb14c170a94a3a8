// Package mount attaches, moves and detaches file systems of the running
// kernel, and reads which are attached.
//
// Source: mount(2), umount(2), proc_pid_mountinfo(5).
package mount

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Spec is one mount, as data: it can be printed, compared and replayed.
// Options are separated by commas and named as mount(8) takes them: flags
// (ro, nosuid, bind, rshared, remount …) and what the file system itself reads.
type Spec struct {
	Source, Target, Type, Options string
}

func (s Spec) String() string {
	words := []string{"mount"}
	if s.Type != "" {
		words = append(words, "-t", s.Type)
	}
	if s.Options != "" {
		words = append(words, "-o", s.Options)
	}
	if s.Source != "" {
		words = append(words, s.Source)
	}
	return strings.Join(append(words, s.Target), " ")
}

// A Mounted is one line of mountinfo.
type Mounted struct {
	ID, Parent     int
	Root           string // which part of the file system shows
	Target         string
	Type, Source   string
	Options, Super string // of the mount, of the file system
}

// ParseTable reads mountinfo, in the order of the kernel: later entries lie
// upon earlier ones.
func ParseTable(r io.Reader) ([]Mounted, error) {
	var table []Mounted
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		m, err := parseLine(lines.Text())
		if err != nil {
			return nil, err
		}
		table = append(table, m)
	}
	return table, lines.Err()
}

func parseLine(line string) (Mounted, error) {
	front, back, found := strings.Cut(line, " - ")
	f, b := strings.Fields(front), strings.Fields(back)
	if !found || len(f) < 6 || len(b) < 2 {
		return Mounted{}, fmt.Errorf("read mountinfo: bad line %q", line)
	}
	id, err := strconv.Atoi(f[0])
	if err != nil {
		return Mounted{}, fmt.Errorf("read mountinfo: %w", err)
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return Mounted{}, fmt.Errorf("read mountinfo: %w", err)
	}
	m := Mounted{ID: id, Parent: parent, Root: unescape(f[3]), Target: unescape(f[4]), Options: f[5], Type: b[0], Source: unescape(b[1])}
	if len(b) > 2 {
		m.Super = b[2]
	}
	return m, nil
}

// unescape undoes the octal escapes of blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
