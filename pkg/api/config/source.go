package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Parse reads a source the forgiving way: every sound key is in the Layer,
// each other one is a Problem. Name is what messages and origins call it.
func Parse(name string, data []byte) (Layer, []Problem) {
	return read(name, data, false)
}

// Validate reads a source the strict way and returns all that is wrong or
// doubtful, in the order of the text. A source without problems is read by
// Parse without problems.
func Validate(name string, data []byte) []Problem {
	_, problems := read(name, data, true)
	return problems
}

func read(name string, data []byte, strict bool) (Layer, []Problem) {
	d := newDecoder(name, strict)
	d.source(data)
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	d.problems = slices.Compact(d.problems)
	return d.layer, d.problems
}

func newDecoder(name string, strict bool) *decoder {
	return &decoder{file: name, strict: strict, seen: map[string]sighting{}, told: map[string]bool{}, layer: Layer{Source: name, Lines: map[string]int{}}}
}

// at is a place in the text without a node, for messages.
func at(line, column int) *yaml.Node { return &yaml.Node{Line: line, Column: column} }

func (d *decoder) source(data []byte) {
	switch {
	case len(data) > MaxSize:
		d.report(at(1, 1), where{}, "", true, "%d bytes long; at most %d are read", len(data), MaxSize)
		return
	case bytes.HasPrefix(data, []byte("#!")):
		d.layer.Script = data
		d.report(at(1, 1), where{}, "", true, "a script, not YAML")
		return
	}
	text := d.decodeText(data)
	root, err := document(text)
	if err != nil {
		root = d.firstOrParts(text, err)
	}
	if root == nil || isNull(root) {
		return
	}
	if root = d.follow(root); root.Kind != yaml.MappingNode {
		d.report(root, where{}, "", true, "a block of keys is wanted, not %s", called(root))
		return
	}
	d.block(schema, root, reflect.ValueOf(&d.layer.Config).Elem(), where{})
	if err == nil && d.strict {
		d.second(text)
	}
}

// firstOrParts reads a text that as a whole is no YAML: its first document,
// or the parts of that.
func (d *decoder) firstOrParts(text string, err error) *yaml.Node {
	first := firstDocument(text)
	root, alone := document(first)
	if alone != nil {
		return d.salvage(first, alone)
	}
	line, message := explain(err)
	d.lossy(at(max(line, 1), 1), where{}, "", "after the first document: %s", message)
	return root
}

// decodeText makes UTF-8 of the source and reports what is not text.
func (d *decoder) decodeText(data []byte) string {
	text := string(data)
	for mark, order := range map[string][2]int{"\xff\xfe": {0, 1}, "\xfe\xff": {1, 0}} {
		rest, ok := strings.CutPrefix(text, mark)
		if !ok {
			continue
		}
		d.lossy(at(1, 1), where{}, "", "UTF-16; UTF-8 is wanted")
		var units []uint16
		for i := 0; i+1 < len(rest); i += 2 {
			units = append(units, uint16(rest[i+order[0]])|uint16(rest[i+order[1]])<<8)
		}
		text = string(utf16.Decode(units))
	}
	text = strings.TrimPrefix(text, "\ufeff")
	number := 0
	for line := range strings.Lines(text) {
		number++
		if i := notText(line); i >= 0 {
			d.report(at(number, i+1), where{}, "", false, "byte 0x%02x is no text", line[i])
		}
	}
	return text
}

// notText returns the index of the first byte that YAML does not take, or -1.
func notText(line string) int {
	for i, r := range line {
		_, size := utf8.DecodeRuneInString(line[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
			return i
		}
	}
	return -1
}

// document parses the first YAML document of text; nil means there is none.
func document(text string) (*yaml.Node, error) { return documentAt(text, 0) }

// documentAt parses the document after skip others.
func documentAt(text string, skip int) (root *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, fmt.Errorf("yaml: %v", r)
		}
	}()
	dec := yaml.NewDecoder(strings.NewReader(text))
	var n yaml.Node
	for range skip + 1 {
		n = yaml.Node{}
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
	if n.Kind != yaml.DocumentNode || len(n.Content) != 1 {
		return nil, nil
	}
	return n.Content[0], nil
}

// second reports a document after the first one: it is never read.
func (d *decoder) second(text string) {
	n, err := documentAt(text, 1)
	switch {
	case err != nil:
		line, message := explain(err)
		d.report(at(max(line, 1), 1), where{}, "", false, "after the first document: %s", message)
	case n != nil:
		d.report(at(max(n.Line, 1), max(n.Column, 1)), where{}, "", false, "a second document; only the first is read")
	}
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// explain takes line and message, in our words where we have some, from an
// error of the YAML reader.
func explain(err error) (line int, message string) {
	m := yamlError.FindStringSubmatch(strings.SplitN(err.Error(), "\n", 2)[0])
	if m == nil {
		return 0, err.Error()
	}
	line, _ = strconv.Atoi(m[1])
	return line, m[2]
}
