// Package modalias answers which kernel modules serve a device, and which
// modules those need first.
//
// The kernel names each device by an alias such as
// "pci:v00008086d000010D3sv…"; modules.alias of depmod holds some 25,000
// shell patterns for such names. Trying all of them for each device takes
// seconds on a slow machine, so Build sorts them by the text in front of the
// first wildcard, and Match only looks at patterns that can fit.
//
// Source: modules.alias, modules.dep and modules.softdep as written by
// depmod(8); file2alias.c of Linux for the form of of: and acpi: aliases.
package modalias

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrFormat means that the bytes given to Decode are no index.
var ErrFormat = errors.New("not a module alias index")

const header = "kedge-alias 1\n"

// An Index finds modules by alias. The zero value knows none.
type Index struct {
	// lines is sorted text, one "KEY PATTERN MODULE\n" each. Match searches it
	// in place, so that decoding costs nothing.
	lines []byte
}

// Build reads modules.alias. Only modules that keep accepts are taken; a nil
// keep takes all.
func Build(aliases io.Reader, keep func(module string) bool) (Index, error) {
	var lines []string
	s := bufio.NewScanner(aliases)
	for n := 1; s.Scan(); n++ {
		text := s.Text()
		if text == "" || text[0] == '#' {
			continue
		}
		f := strings.Fields(text)
		if len(f) != 3 || f[0] != "alias" {
			return Index{}, fmt.Errorf("modules.alias line %d: %q is not an alias", n, text)
		}
		if keep == nil || keep(f[2]) {
			lines = append(lines, key(f[1])+" "+f[1]+" "+f[2]+"\n")
		}
	}
	if err := s.Err(); err != nil {
		return Index{}, err
	}
	slices.Sort(lines)
	return Index{[]byte(strings.Join(slices.Compact(lines), ""))}, nil
}

// Encode returns the index as bytes for Decode.
func (x Index) Encode() []byte { return append([]byte(header), x.lines...) }

// Decode takes what Encode returned; it keeps b. The error wraps ErrFormat.
func Decode(b []byte) (Index, error) {
	lines, ok := bytes.CutPrefix(b, []byte(header))
	if !ok {
		return Index{}, fmt.Errorf("%w: no header %q", ErrFormat, strings.TrimSpace(header))
	}
	if len(lines) > 0 && lines[len(lines)-1] != '\n' {
		return Index{}, fmt.Errorf("%w: the last line is cut short", ErrFormat)
	}
	return Index{lines}, nil
}

// Len returns the number of patterns.
func (x Index) Len() int { return bytes.Count(x.lines, []byte("\n")) }

// Match returns the modules that serve the device alias, sorted, each once.
func (x Index) Match(alias string) []string {
	var found []string
	for _, k := range candidates(alias) {
		found = x.collect(found, k, alias)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// collect adds the modules of key k whose pattern fits alias.
func (x Index) collect(found []string, k, alias string) []string {
	for at := x.search(k); at < len(x.lines); {
		end := at + bytes.IndexByte(x.lines[at:], '\n')
		f := strings.SplitN(string(x.lines[at:end]), " ", 3)
		if f[0] != k {
			break
		}
		if len(f) == 3 && Fits(f[1], alias) {
			found = append(found, f[2])
		}
		at = end + 1
	}
	return found
}

// search returns the offset of the first line whose key is not below k.
func (x Index) search(k string) int {
	low, high := 0, len(x.lines) // offsets of line starts
	for low < high {
		mid := low + (high-low)/2
		start := low + bytes.LastIndexByte(x.lines[low:mid], '\n') + 1
		line := x.lines[start:]
		end := bytes.IndexByte(line, '\n')
		if bytes.Compare(firstField(line[:end]), []byte(k)) < 0 {
			low = start + end + 1
		} else {
			high = start
		}
	}
	return low
}

func firstField(line []byte) []byte {
	f, _, _ := bytes.Cut(line, []byte(" "))
	return f
}

const (
	ofPrefix   = "of:N*T*C" // device tree: any node name and type, then the compatible string
	acpiPrefix = "acpi*:"
)

// key returns the text under which a pattern is filed: what stands in front of
// its first wildcard, or the one telling part of a pattern that begins with
// wildcards.
func key(pattern string) string {
	if rest, ok := strings.CutPrefix(pattern, ofPrefix); ok {
		if rest = strings.TrimSuffix(rest, "C*"); !strings.ContainsAny(rest, "*?[\\") {
			return ofPrefix + rest
		}
	}
	if rest, ok := strings.CutPrefix(pattern, acpiPrefix); ok {
		if rest = strings.TrimSuffix(rest, ":*"); !strings.ContainsAny(rest, "*?[\\:") {
			return acpiPrefix + rest
		}
	}
	if i := strings.IndexAny(pattern, "*?[\\"); i >= 0 {
		return pattern[:i]
	}
	return pattern
}

// candidates returns every key that a pattern which fits alias can have.
func candidates(alias string) []string {
	var keys []string
	for i := 0; i <= len(alias); i++ {
		keys = append(keys, alias[:i])
	}
	switch {
	case strings.HasPrefix(alias, "of:"):
		parts := strings.Split(alias, "C")
		for i := 1; i < len(parts); i++ {
			for j := i + 1; j <= len(parts); j++ {
				keys = append(keys, ofPrefix+strings.Join(parts[i:j], "C"))
			}
		}
	case strings.HasPrefix(alias, "acpi"):
		parts := strings.Split(alias, ":")
		for _, id := range parts[1:] {
			keys = append(keys, acpiPrefix+id)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Fits tells whether a shell pattern of *, ?, [set] and backslash matches all
// of name. Unlike path.Match, "*" also spans slashes; a damaged pattern fits
// nothing.
func Fits(pattern, name string) bool {
	star, retry := -1, 0 // where to go on after the last "*"
	p, n := 0, 0
	for n < len(name) || p < len(pattern) {
		if p < len(pattern) && pattern[p] == '*' {
			star, retry = p, n
			p++
			continue
		}
		if used, ok := one(pattern[p:], name[n:]); ok {
			p, n = p+used, n+1
			continue
		}
		if star < 0 || retry >= len(name) {
			return false
		}
		retry++
		p, n = star+1, retry
	}
	return true
}

// one matches a single byte of name and returns how much of pattern it used.
func one(pattern, name string) (used int, ok bool) {
	if pattern == "" || name == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		return 2, len(pattern) > 1 && pattern[1] == name[0]
	case '[':
		return set(pattern, name[0])
	}
	return 1, pattern[0] == name[0]
}

func set(pattern string, c byte) (used int, ok bool) {
	end := strings.IndexByte(pattern[1:], ']')
	if end < 1 {
		return 0, false
	}
	body := pattern[1 : 1+end]
	not := body[0] == '!' || body[0] == '^'
	if not {
		body = body[1:]
	}
	in := false
	for i := 0; i < len(body); i++ {
		if i+2 < len(body) && body[i+1] == '-' {
			in = in || body[i] <= c && c <= body[i+2]
			i += 2
			continue
		}
		in = in || body[i] == c
	}
	return end + 2, in != not
}
