package build

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strings"
)

// A Selection decides by path what to keep. Each line is a sign and a pattern:
//
//   - drivers/net
//   - drivers/net/hamradio
//
// A pattern stands for a file or a folder with all that is below it; "*" and
// the like match within one part of a path, and a pattern without a slash
// matches a file's name anywhere. The last line that matches decides; what no
// line matches is left out. "#" begins a comment.
type Selection []rule

type rule struct {
	keep    bool
	pattern string
}

// ReadSelection reads a selection from a file.
func ReadSelection(file string) (Selection, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read selection: %w", err)
	}
	defer f.Close()
	var sel Selection
	s := bufio.NewScanner(f)
	for n := 1; s.Scan(); n++ {
		text, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 2 || fields[0] != "+" && fields[0] != "-" {
			return nil, fmt.Errorf("read selection %s: line %d: want + or - and patterns", file, n)
		}
		for _, p := range fields[1:] {
			if _, err := path.Match(p, ""); err != nil {
				return nil, fmt.Errorf("read selection %s: line %d: %q: %w", file, n, p, err)
			}
			sel = append(sel, rule{fields[0] == "+", strings.Trim(p, "/")})
		}
	}
	return sel, s.Err()
}

// Keep tells whether the file at name, a path without leading slash, is kept.
func (s Selection) Keep(name string) bool {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i].matches(name) {
			return s[i].keep
		}
	}
	return false
}

func (r rule) matches(name string) bool {
	if !strings.Contains(r.pattern, "/") {
		if ok, _ := path.Match(r.pattern, path.Base(name)); ok {
			return true
		}
	}
	return below(r.pattern, name)
}

// below tells whether name, or a folder above it, fits pattern part by part.
func below(pattern, name string) bool {
	depth := strings.Count(pattern, "/") + 1
	parts := strings.SplitN(name, "/", depth+1)
	if len(parts) < depth {
		return false
	}
	ok, _ := path.Match(pattern, strings.Join(parts[:depth], "/"))
	return ok
}

// String gives the selection back, for keys.
func (s Selection) String() string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintln(&b, r.keep, r.pattern)
	}
	return b.String()
}
