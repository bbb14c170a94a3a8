package config

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// MaxNodes bounds the YAML nodes that one source may make us visit, so that
// aliases and merge keys cannot multiply without end.
const MaxNodes = 1 << 18

// decoder reads one document into a Layer.
type decoder struct {
	file     string
	strict   bool
	layer    Layer
	problems []Problem
	seen     map[string]sighting // by full name
	told     map[string]bool     // full names that are known to be given twice
	nodes    int                 // visited so far
	unpacked int                 // bytes of all files so far
	bad      bool                // a known key of that block is not sound
}

// sighting is where a key was set before in the same document.
type sighting struct {
	node *yaml.Node
	k3os bool // in the k3os: block
}

// where is what the user wrote to get to a value, and its full name.
type where struct {
	shown, path string
	k3os        bool // within the k3os: block
	secret      bool // the value is not to be shown
}

func (w where) key(shown, name string) where {
	if w.path != "" {
		shown, name = w.shown+"."+shown, w.path+"."+name
	}
	w.shown, w.path = shown, name
	return w
}

func (w where) index(i int) where {
	w.shown, w.path = fmt.Sprintf("%s[%d]", w.shown, i), fmt.Sprintf("%s[%d]", w.path, i)
	return w
}

// skip reports a value that is left out.
func (d *decoder) skip(n *yaml.Node, w where, k *key, format string, args ...any) {
	d.bad = d.bad || k != nil
	d.report(n, w, "", k != nil && k.role, format, args...)
}

// lossy reports a value that is taken, though not everybody would read it alike.
func (d *decoder) lossy(n *yaml.Node, w where, nearest, format string, args ...any) {
	if d.strict {
		d.report(n, w, nearest, false, format, args...)
	}
}

func (d *decoder) report(n *yaml.Node, w where, nearest string, fatal bool, format string, args ...any) {
	d.problems = append(d.problems, Problem{
		File: d.file, Line: n.Line, Column: n.Column, Key: w.shown,
		Message: fmt.Sprintf(format, args...), Nearest: nearest, Fatal: fatal,
	})
}

// follow returns the node an alias stands for, and nil once too many nodes
// were visited; it says so the first time.
func (d *decoder) follow(n *yaml.Node) *yaml.Node {
	for {
		d.nodes++
		if d.nodes > MaxNodes {
			if d.nodes == MaxNodes+1 {
				d.report(n, where{}, "", true, "more than %d values; the rest is left out", MaxNodes)
			}
			return nil
		}
		if n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
}

// A pair is one entry of a mapping.
type pair struct {
	name, value *yaml.Node
	merged      bool // it came through a merge key <<
}

// pairs returns the entries of a mapping, merge keys resolved: what the
// mapping itself says comes before what it merges.
func (d *decoder) pairs(n *yaml.Node, w where, depth int) []pair {
	var own, merged []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := d.follow(n.Content[i]), d.follow(n.Content[i+1])
		switch {
		case name == nil || value == nil:
			return own
		case name.Kind != yaml.ScalarNode:
			d.skip(name, w, nil, "a name is wanted here, not %s", called(name))
		case name.ShortTag() == "!!merge":
			merged = append(merged, d.merge(value, w, depth+1)...)
		default:
			own = append(own, pair{name, value, false})
		}
	}
	if merged == nil {
		return own
	}
	has := map[string]bool{}
	for _, p := range own {
		has[p.name.Value] = true
	}
	for _, p := range merged {
		if !has[p.name.Value] {
			has[p.name.Value] = true
			own = append(own, p)
		}
	}
	return own
}

func (d *decoder) merge(n *yaml.Node, w where, depth int) []pair {
	var all []pair
	switch {
	case depth > 8:
		d.skip(n, w, nil, "merge keys lie too deep")
	case n.Kind == yaml.MappingNode:
		all = d.pairs(n, w, depth)
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			if item = d.follow(item); item == nil {
				break
			}
			all = append(all, d.merge(item, w, depth+1)...)
		}
	default:
		d.skip(n, w, nil, "a merge key wants a mapping")
	}
	for i := range all {
		all[i].merged = true
	}
	return all
}

// block reads a mapping into the struct v. What k3os: says is read before
// what kedge: says, wherever they stand.
func (d *decoder) block(k *key, n *yaml.Node, v reflect.Value, w where) {
	pairs := d.pairs(n, w, 0)
	first := map[*key]*yaml.Node{}
	for _, early := range []bool{true, false} {
		for _, p := range pairs {
			c := k.find(p.name.Value)
			if early != (c != nil && normal(p.name.Value) == normal("k3os")) {
				continue
			}
			if c == nil {
				d.unknown(k, p.name, w)
				continue
			}
			d.spelled(c, p, first, w)
			at := w.key(p.name.Value, c.name)
			if early {
				d.layer.Config.HasK3OS = true
				at.k3os = true
			}
			d.value(c, p.value, v.Field(c.field), at)
		}
	}
}

// unknown reports a name that is no key of the block.
func (d *decoder) unknown(block *key, name *yaml.Node, w where) {
	near, k := nearest(block, name.Value)
	shown := where{shown: name.Value}
	if w.path != "" {
		shown = w.key(name.Value, "")
	}
	message := "unknown key"
	if k != nil && near != k.name || k != nil && !slices.Contains(block.keys, k) {
		message = "unknown key in this place"
	}
	d.report(name, shown, near, k != nil && k.role, "%s", message)
}

// spelled reports a second spelling, and a block that is given twice.
func (d *decoder) spelled(k *key, p pair, first map[*key]*yaml.Node, w where) {
	at := w.key(p.name.Value, k.name)
	if !k.exact(p.name.Value) {
		d.lossy(p.name, at, k.name, "not how this key is spelled")
	}
	before := first[k]
	first[k] = p.name
	if before == nil || p.merged || normal(before.Value) != normal(p.name.Value) || !d.strict {
		return
	}
	d.told[at.path] = true
	d.lossy(p.name, at, "", "given before, in line %d", before.Line)
}

// value reads one value of the kind that k says into v.
func (d *decoder) value(k *key, n *yaml.Node, v reflect.Value, w where) {
	if isNull(n) {
		return
	}
	w.secret = k.secret
	switch k.kind {
	case blockKind:
		if n.Kind != yaml.MappingNode {
			d.skip(n, w, k, "a block of keys is wanted, not %s", called(n))
			return
		}
		d.block(k, n, v, w)
	case textKind:
		if s, ok := d.sound(k, n, w); ok {
			d.once(n, w)
			v.SetString(s)
		}
	case boolKind:
		if b, ok := d.boolean(k, n, w); ok {
			d.once(n, w)
			v.SetBool(b)
		}
	case textListKind:
		d.textList(k, n, v, w)
	case textMapKind:
		d.textMap(k, n, v, w)
	case blockListKind:
		d.blockList(k, n, v, w)
	}
}

// once notes that a key is set here, and reports it when it was set before.
func (d *decoder) once(n *yaml.Node, w where) {
	before, twice := d.seen[w.path]
	d.seen[w.path] = sighting{n, w.k3os}
	d.layer.Lines[w.path] = n.Line
	switch {
	case !twice || before.node == n || d.told[w.path] && before.k3os == w.k3os:
	case before.k3os != w.k3os:
		if !same(before.node, n) {
			d.lossy(n, w, "", "differs from the k3os: block, line %d", before.node.Line)
		}
	case same(before.node, n):
		d.lossy(n, w, "", "given before, in line %d", before.node.Line)
	case n.Line == 0:
		d.report(n, w, "", false, "given twice: the last value counts")
	default:
		d.report(n, w, "", false, "given twice: this value counts, not that of line %d", before.node.Line)
	}
}

// same tells that two nodes say the same, without following aliases.
func same(a, b *yaml.Node) bool {
	return a == b || a.Kind == b.Kind && a.Value == b.Value && slices.EqualFunc(a.Content, b.Content, same)
}

func (d *decoder) textList(k *key, n *yaml.Node, v reflect.Value, w where) {
	items := d.items(n, w)
	if items == nil {
		return
	}
	if k.domain == "ssh key" {
		items = d.keyLines(items, w)
	}
	texts, lines := []string{}, []int{}
	for i, item := range items {
		if s, ok := d.sound(k, item, w.index(i)); ok {
			texts, lines = append(texts, s), append(lines, item.Line)
		}
	}
	if len(texts) == 0 && len(items) > 0 {
		return
	}
	if k.domain == "argument" {
		texts, lines = d.arguments(texts, lines, n, w)
	}
	d.once(n, w)
	v.Set(reflect.ValueOf(texts))
	d.lines(w, lines)
}

// keyLines takes apart items that hold several keys, one a line.
func (d *decoder) keyLines(items []*yaml.Node, w where) []*yaml.Node {
	var out []*yaml.Node
	for i, item := range items {
		text := strings.TrimSpace(item.Value)
		if item.Kind != yaml.ScalarNode || !strings.ContainsAny(text, "\n") {
			out = append(out, item)
			continue
		}
		d.lossy(item, w.index(i), "", "one key an item is wanted")
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				one := *item
				one.Value = line
				out = append(out, &one)
			}
		}
	}
	return out
}

// arguments takes apart a command line that was given as one argument.
func (d *decoder) arguments(texts []string, lines []int, n *yaml.Node, w where) ([]string, []int) {
	if len(texts) != 1 || !strings.HasPrefix(texts[0], "server ") && !strings.HasPrefix(texts[0], "agent ") {
		return texts, lines
	}
	d.lossy(n, w, "", "one argument an item is wanted")
	words := strings.Fields(texts[0])
	return words, slices.Repeat(lines, len(words))
}

// lines notes where the items of a list stand.
func (d *decoder) lines(w where, lines []int) {
	for path := range d.layer.Lines {
		if strings.HasPrefix(path, w.path+"[") {
			delete(d.layer.Lines, path)
		}
	}
	for i, line := range lines {
		d.layer.Lines[w.index(i).path] = line
	}
}

// items returns the items of a list, or the one value that stands for a list;
// an empty item is none. Nil means that nothing can be said about the list.
func (d *decoder) items(n *yaml.Node, w where) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		d.lossy(n, w, "", "a list is wanted, not %s", called(n))
		return []*yaml.Node{n}
	}
	items := []*yaml.Node{}
	for i, item := range n.Content {
		switch item = d.follow(item); {
		case item == nil:
			return items
		case isNull(item):
			d.lossy(item, w.index(i), "", "empty item")
		default:
			items = append(items, item)
		}
	}
	if len(items) == 0 && len(n.Content) > 0 {
		return nil
	}
	return items
}

func (d *decoder) textMap(k *key, n *yaml.Node, v reflect.Value, w where) {
	if n.Kind != yaml.MappingNode {
		d.skip(n, w, k, "a mapping of names to texts is wanted, not %s", called(n))
		return
	}
	for _, p := range d.pairs(n, w, 0) {
		name, at := p.name.Value, w.key(p.name.Value, p.name.Value)
		s, ok := "", true
		if !isNull(p.value) {
			s, ok = d.mapText(p.value, at)
		}
		if !ok {
			continue
		}
		if err := check(k.domain, name, s); err != nil {
			d.skip(p.value, at, k, "%v", err)
			continue
		}
		d.once(p.value, at)
		if v.IsNil() {
			v.Set(reflect.ValueOf(map[string]string{}))
		}
		v.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(s))
	}
}

// mapText reads a value of a mapping of texts. A boolean of YAML 1.1 is
// "true" or "false", as it was for k3OS.
func (d *decoder) mapText(n *yaml.Node, w where) (string, bool) {
	s, ok := d.text(n, w, nil)
	s = strings.TrimRight(s, "\r\n")
	if b, is := booleans[s]; ok && is && plain(n) {
		return fmt.Sprint(b), true
	}
	return s, ok
}

func (d *decoder) blockList(k *key, n *yaml.Node, v reflect.Value, w where) {
	items := d.items(n, w)
	if items == nil {
		return
	}
	blocks, lines := reflect.MakeSlice(v.Type(), 0, len(items)), []int{}
	for i, item := range items {
		block := reflect.New(v.Type().Elem()).Elem()
		if d.listBlock(k, item, block, w.index(i)) {
			blocks, lines = reflect.Append(blocks, block), append(lines, item.Line)
		}
	}
	if len(lines) == 0 && len(items) > 0 {
		return
	}
	d.once(n, w)
	v.Set(blocks)
	d.lines(w, lines)
}

// listBlock reads one block of a list into v and tells whether it is sound: a
// block with a value that is not, or without a required key, is left out whole.
func (d *decoder) listBlock(k *key, n *yaml.Node, v reflect.Value, w where) bool {
	if n.Kind != yaml.MappingNode {
		d.skip(n, w, k, "a block of keys is wanted, not %s", called(n))
		return false
	}
	sub := newDecoder(d.file, d.strict)
	sub.nodes = d.nodes
	sub.block(k, n, v, w)
	if !sub.bad {
		for _, c := range k.keys {
			if c.required && v.Field(c.field).IsZero() {
				sub.skip(n, w, c, "no %s", c.name)
			}
		}
	}
	if file, ok := v.Interface().(File); ok && !sub.bad {
		d.unpack(sub, n, file, w)
	}
	d.nodes = sub.nodes
	d.problems = append(d.problems, sub.problems...)
	return !sub.bad
}

// unpack makes sure that a file's content can be had, within the limits.
func (d *decoder) unpack(sub *decoder, n *yaml.Node, f File, w where) {
	if d.unpacked > MaxFiles {
		sub.skip(n, w, schema, "the files unpack to more than %d MiB together", MaxFiles>>20)
		return
	}
	data, err := f.Bytes()
	d.unpacked += len(data)
	if err != nil {
		d.unpacked += MaxFile / 16
		sub.skip(n, w.key("content", "content"), schema, "%v", err)
	}
}

// sound reads a text and checks its domain.
func (d *decoder) sound(k *key, n *yaml.Node, w where) (string, bool) {
	s, ok := d.text(n, w, k)
	if !ok {
		return "", false
	}
	if k.domain != "" && k.domain != "command" {
		s = strings.TrimRight(s, "\r\n") // a block scalar ends with one
	}
	if s == "" && k.kind == textKind && !k.required {
		return "", true
	}
	if k.domain == "permissions" && plain(n) && safeNumber.MatchString(s) {
		d.lossy(n, w, "", "quote it: other readers take %s for a decimal number", s)
	}
	if err := check(k.domain, "", s); err != nil {
		d.skip(n, w, k, "%v", err)
		return "", false
	}
	return s, true
}

var (
	// booleans are the plain texts that YAML 1.1, and so k3OS, reads as such.
	booleans = map[string]bool{
		"y": true, "Y": true, "yes": true, "Yes": true, "YES": true, "on": true, "On": true, "ON": true, "true": true, "True": true, "TRUE": true,
		"n": false, "N": false, "no": false, "No": false, "NO": false, "off": false, "Off": false, "OFF": false, "false": false, "False": false, "FALSE": false,
	}
	// safeNumber is a number that every reader of YAML gives back as it is written.
	safeNumber = regexp.MustCompile(`^(-?(0|[1-9][0-9]*)|-?(0|[1-9][0-9]*)\.[0-9]*[1-9])$`)
	base60     = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)
)

// text returns a scalar as its source has it.
func (d *decoder) text(n *yaml.Node, w where, k *key) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		hint := ""
		if n.Kind == yaml.MappingNode {
			hint = "; quote a text that holds a colon and a blank"
		}
		d.skip(n, w, orSchema(k), "a text is wanted, not %s%s", called(n), hint)
		return "", false
	}
	tag := n.ShortTag()
	switch tag {
	case "!!binary":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), ""))
		if err != nil {
			d.skip(n, w, orSchema(k), "no base64 after !!binary: %v", err)
		}
		return string(data), err == nil
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!null", "!!merge":
	default:
		d.skip(n, w, orSchema(k), "unknown tag %s", tag)
		return "", false
	}
	d.ambiguous(n, w, tag)
	return n.Value, true
}

// ambiguous reports a plain text that readers of YAML do not agree about.
func (d *decoder) ambiguous(n *yaml.Node, w where, tag string) {
	if !plain(n) {
		return
	}
	shown := n.Value
	if w.secret {
		shown = "it"
	}
	b, isBool := booleans[n.Value]
	switch {
	case isBool && n.Value != "true" && n.Value != "false":
		d.lossy(n, w, "", "quote it: other readers take %s for %v", shown, b)
	case (tag == "!!int" || tag == "!!float") && !safeNumber.MatchString(n.Value), base60.MatchString(n.Value):
		d.lossy(n, w, "", "quote it: other readers take %s for another number", shown)
	}
}

func (d *decoder) boolean(k *key, n *yaml.Node, w where) (value, ok bool) {
	if n.Kind == yaml.ScalarNode {
		value, ok = booleans[n.Value]
		if n.Value == "1" || n.Value == "0" {
			value, ok = n.Value == "1", true
		}
	}
	switch {
	case !ok:
		d.skip(n, w, k, "true or false is wanted, not %s", called(n))
	case !plain(n) || n.Value != "true" && n.Value != "false":
		d.lossy(n, w, "", "write %v", value)
	}
	return value, ok
}

func orSchema(k *key) *key {
	if k == nil {
		return schema
	}
	return k
}

// plain tells that a scalar has neither quotes nor a tag of its own.
func plain(n *yaml.Node) bool {
	const marked = yaml.TaggedStyle | yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	return n.Kind == yaml.ScalarNode && n.Style&marked == 0
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// called is what a node is to the eye of a user.
func called(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a block of keys"
	case yaml.SequenceNode:
		return "a list"
	}
	if len(n.Value) > 40 {
		return "a text"
	}
	return fmt.Sprintf("%q", n.Value)
}
