package config

import (
	"errors"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// A source that is no YAML is taken apart: each top-level block is read on its
// own; one that cannot be read is taken apart by the lines one step further in,
// down to single list items. What still cannot be read is lost, and said.

// maxSalvage bounds the bytes that are parsed again while a source is taken apart.
const maxSalvage = 64 << 20

type salvager struct {
	d      *decoder
	lines  []string
	root   *yaml.Node
	budget int
}

// salvage returns what can be read of a text that as a whole cannot.
func (d *decoder) salvage(text string, err error) *yaml.Node {
	s := salvager{d: d, lines: strings.SplitAfter(text, "\n"), root: &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: 1}, budget: maxSalvage}
	lost := len(d.problems)
	s.split(nil, 0, len(s.lines), err)
	if lost == len(d.problems) {
		line, message := explain(err)
		d.report(at(max(line, 1), 1), where{}, "", false, "cannot be read: %s", message)
	}
	if len(s.root.Content) == 0 {
		d.report(at(1, 1), where{}, "", true, "nothing in this file can be read")
		return nil
	}
	return s.root
}

// firstDocument cuts off what follows the first document. The line --- that
// begins it is emptied.
func firstDocument(text string) string {
	var b strings.Builder
	begun := false
	for line := range strings.Lines(text) {
		word := strings.TrimRight(line, " \t\r\n")
		switch {
		case word == "---" && !begun:
			line, begun = "\n", true
		case word == "---" || word == "...":
			return b.String()
		case word != "" && word[0] != '#' && word[0] != '%':
			begun = true
		}
		b.WriteString(line)
	}
	return b.String()
}

// split reads lines [from, to) below the lines of head piece by piece, each
// piece beginning with a line of the least indentation.
func (s *salvager) split(head []int, from, to int, cause error) {
	least := -1
	for i := from; i < to; i++ {
		if in := indent(s.lines[i]); in >= 0 && (least < 0 || in < least) {
			least = in
		}
	}
	begin := -1
	for i := from; i <= to; i++ {
		starts := i == to || indent(s.lines[i]) == least && !s.continues(begin, i)
		if !starts {
			continue
		}
		if begin >= 0 {
			s.piece(head, begin, i)
		}
		begin = i
	}
	if least < 0 && len(head) > 0 {
		s.lose(head[:len(head)-1], head[len(head)-1], cause)
	}
}

// continues tells that line i, a list item, belongs to the key in line begin
// that has the same indentation.
func (s *salvager) continues(begin, i int) bool {
	if begin < 0 {
		return false
	}
	key := strings.TrimSpace(s.lines[begin])
	return isItem(s.lines[i]) && !isItem(s.lines[begin]) && strings.HasSuffix(uncommented(key), ":")
}

func uncommented(line string) string {
	line, _, _ = strings.Cut(line, " #")
	return strings.TrimSpace(line)
}

func isItem(line string) bool {
	t := strings.TrimSpace(line)
	return t == "-" || strings.HasPrefix(t, "- ")
}

// indent is the number of columns before the text of a line, a tab being eight
// of them, and -1 if there is no text.
func indent(line string) int {
	before := margin(line)
	if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
		return -1
	}
	return len(before) + 7*strings.Count(before, "\t")
}

// margin is the blanks and tabs that a line begins with.
func margin(line string) string {
	return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
}

// piece reads lines [from, to) below head, whole or, if that fails, in parts.
func (s *salvager) piece(head []int, from, to int) {
	root, err := s.parse(head, from, to)
	if err == nil && root != nil && root.Kind == yaml.MappingNode {
		graft(s.root, root)
		return
	}
	first := strings.TrimSpace(s.lines[from])
	opens := strings.HasSuffix(uncommented(first), ":")
	if tab := from + 1; tab < to && !opens && strings.Contains(margin(s.lines[tab]), "\t") && !isItem(s.lines[from]) && !blockScalar.MatchString(first) {
		s.piece(head, from, tab)
		s.lose(head, tab, err)
		return
	}
	if err == nil || to-from < 2 || len(head) > 8 || s.budget < 0 || !opens || isItem(s.lines[from]) {
		s.lose(head, from, err)
		return
	}
	s.split(append(head[:len(head):len(head)], from), from+1, to, err)
}

// blockScalar is a line with text to follow.
var blockScalar = regexp.MustCompile(`[|>][-+0-9]*( #.*)?$`)

// parse reads the lines of head and [from, to) as if there were no others.
func (s *salvager) parse(head []int, from, to int) (*yaml.Node, error) {
	var b strings.Builder
	for _, h := range head {
		b.WriteString(s.lines[h])
	}
	for _, l := range s.lines[from:to] {
		b.WriteString(l)
	}
	if s.budget -= b.Len() + 1024; s.budget < 0 {
		return nil, errors.New("too much is broken in this file")
	}
	root, err := document(b.String())
	if root != nil {
		place(root, head, from)
	}
	return root, err
}

// place gives the nodes of a piece the line numbers of the whole text.
func place(n *yaml.Node, head []int, from int) {
	if n.Line <= len(head) {
		n.Line = head[max(n.Line, 1)-1] + 1
	} else {
		n.Line += from - len(head)
	}
	for _, c := range n.Content {
		place(c, head, from)
	}
}

// lose reports a piece below head that cannot be read.
func (s *salvager) lose(head []int, line int, err error) {
	var names []string
	role := false
	block := schema
	for _, l := range append(head[:len(head):len(head)], line) {
		name := keyOf(s.lines[l])
		if name == "" {
			break
		}
		names = append(names, name)
		if block = block.find(name); block == nil {
			break
		}
		role = role || block.role
	}
	column := len(margin(s.lines[line])) + 1
	message := "this is no key"
	if err != nil {
		_, message = explain(err)
	}
	for _, l := range s.lines[line:min(line+2, len(s.lines))] {
		if strings.Contains(margin(l), "\t") {
			message = "tab in the indentation; YAML wants blanks"
		}
	}
	s.d.report(at(line+1, column), where{shown: strings.Join(names, ".")}, "", role, "cannot be read: %s", message)
}

// keyOf returns the name before the colon of a line, "" if there is none.
func keyOf(line string) string {
	name, _, found := strings.Cut(strings.TrimSpace(line), ":")
	if !found || len(name) > 40 || strings.ContainsAny(name, " \t\"'-") {
		return ""
	}
	return name
}

// graft adds what a piece says to what the pieces before it said. Pieces with
// a common head follow each other, so only the last entry can be the same.
func graft(to, from *yaml.Node) {
	for i := 0; i+1 < len(from.Content); i += 2 {
		name, value := from.Content[i], from.Content[i+1]
		last := len(to.Content) - 1
		head := i == 0 && last > 0 && to.Content[last-1].Line == name.Line && to.Content[last].Kind == value.Kind
		switch {
		case head && value.Kind == yaml.MappingNode:
			graft(to.Content[last], value)
		case head && value.Kind == yaml.SequenceNode:
			to.Content[last].Content = append(to.Content[last].Content, value.Content...)
		default:
			to.Content = append(to.Content, name, value)
		}
	}
}
