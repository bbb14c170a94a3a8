// Package bootenv reads and writes GRUB's environment block: 1024 bytes in a
// file of fixed place, in which GRUB keeps variables before any kernel runs.
//
// A block is the line "# GRUB Environment Block", lines name=value, and '#' up
// to its end. A backslash stands before a newline or backslash of a value. A
// line that begins with '#' is a comment. Blocks are read as GRUB reads them,
// because what a damaged block says is what GRUB takes it to say. All that
// this package writes lies in the first 512 bytes: a disk writes one sector
// whole or not at all, and a block that spans two could mix old and new.
//
// Source: GNU GRUB Manual 2.06, "The GRUB environment block" and the commands
// load_env and save_env; what the manual leaves open is held against
// grub-editenv 2.06 by the tests.
package bootenv

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Sizes in bytes.
const (
	Size   = 1024 // of a block
	Sector = 512  // what a disk writes at once; all variables lie in the first
)

const header = "# GRUB Environment Block\n"

// A Var is one variable. Its value may hold any byte but NUL.
type Var struct{ Name, Value string }

// Env is the variables of a block in their order.
type Env []Var

// Get returns the value of a variable, "" when it is missing. Of two with one
// name the last counts, as in load_env.
func (e Env) Get(name string) string {
	for i := len(e) - 1; i >= 0; i-- {
		if e[i].Name == name {
			return e[i].Value
		}
	}
	return ""
}

// Parse returns the variables that GRUB's load_env finds in a block. Only a
// block of another length or without the header is an error; where a line has
// no end or no '=', reading stops, and what stood before it counts.
func Parse(block []byte) (Env, error) {
	if err := check(block); err != nil {
		return nil, err
	}
	var e Env
	for rest := block[len(header):]; len(rest) > 0; rest = next(rest) {
		if rest[0] == '#' {
			continue
		}
		// A name ends at '=', even if that is on another line.
		name, after, found := bytes.Cut(rest, []byte("="))
		end := valueLen(after)
		if !found || end < 0 {
			break
		}
		e = append(e, Var{text(name), text(unescape(after[:end]))})
		rest = after[end:]
	}
	return e, nil
}

// Bytes returns the block of Size bytes that holds the variables in order. It
// is an error when they do not fit into the first Sector bytes, when a name
// occurs twice, is empty, begins with '#' or holds '=', a backslash, a newline
// or NUL, and when a value holds NUL.
func (e Env) Bytes() ([]byte, error) {
	seen := map[string]bool{}
	b := append(make([]byte, 0, Size), header...)
	for _, v := range e {
		switch {
		case v.Name == "" || v.Name[0] == '#' || strings.ContainsAny(v.Name, "=\\\n\x00"):
			return nil, fmt.Errorf("environment block: %q is no name", v.Name)
		case strings.Contains(v.Value, "\x00"):
			return nil, fmt.Errorf("environment block: variable %s: value holds NUL", v.Name)
		case seen[v.Name]:
			return nil, fmt.Errorf("environment block: variable %s stands there twice", v.Name)
		}
		seen[v.Name] = true
		b = append(b, v.Name+"="+escaper.Replace(v.Value)+"\n"...)
	}
	if len(b) > Sector {
		return nil, fmt.Errorf("environment block: variables end at byte %d, limit %d", len(b), Sector)
	}
	return append(b, bytes.Repeat([]byte("#"), Size-len(b))...), nil
}

// Set returns what GRUB's save_env makes of a block when the variable has the
// value: the first line of that name is changed where it stands, a new one is
// appended. The block itself is not touched. It is an error when GRUB would
// refuse: there is no room, or the block does not end in a line and padding.
func Set(block []byte, name, value string) ([]byte, error) {
	if err := check(block); err != nil {
		return nil, err
	}
	used := bytes.TrimRight(block, "#")
	if used[len(used)-1] != '\n' {
		return nil, errors.New("environment block: no whole line before the padding")
	}
	from, to := len(used), len(used) // what the new line replaces
	for rest := used[len(header):]; len(rest) > 0; rest = next(rest) {
		if after, found := bytes.CutPrefix(rest, []byte(name+"=")); found {
			n := valueLen(after)
			if n < 0 {
				return nil, fmt.Errorf("environment block: variable %s has no end", name)
			}
			from, to = len(used)-len(rest), len(used)-len(after)+n+1
			break
		}
	}
	b := append([]byte{}, used[:from]...)
	b = append(b, name+"="+escaper.Replace(value)+"\n"...)
	b = append(b, used[to:]...)
	if len(b) > len(block) {
		return nil, fmt.Errorf("environment block: no room for variable %s", name)
	}
	return append(b, bytes.Repeat([]byte("#"), len(block)-len(b))...), nil
}

var escaper = strings.NewReplacer("\\", "\\\\", "\n", "\\\n")

func check(block []byte) error {
	if len(block) != Size {
		return fmt.Errorf("environment block: %d bytes, want %d", len(block), Size)
	}
	if !bytes.HasPrefix(block, []byte(header)) {
		return errors.New("environment block: no header")
	}
	return nil
}

// next returns what follows the line at the start of b.
func next(b []byte) []byte {
	if n := valueLen(b); n >= 0 {
		return b[n+1:]
	}
	return nil
}

// valueLen returns the bytes before the first newline that no backslash
// escapes, -1 when there is none.
func valueLen(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '\n':
			return i
		}
	}
	return -1
}

func unescape(b []byte) []byte {
	var plain []byte
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' {
			i++
		}
		plain = append(plain, b[i])
	}
	return plain
}

// text cuts b at a NUL, where C strings end.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
