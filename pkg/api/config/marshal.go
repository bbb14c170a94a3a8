package config

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Marshal writes a configuration as a file that Validate finds no fault with,
// if its values are sound, and that Parse reads back equal. Keys without a
// value are left out.
func Marshal(c Config) ([]byte, error) {
	root := nodeOf(schema, reflect.ValueOf(c))
	if len(root.Content) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// nodeOf returns the mapping that the struct v is written as.
func nodeOf(k *key, v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	put := func(name string, value *yaml.Node) {
		n.Content = append(n.Content, textNode(name), value)
	}
	for _, c := range k.keys {
		f := v.Field(c.field)
		if c.kind == blockKind {
			if block := nodeOf(c, f); len(block.Content) > 0 {
				put(c.name, block)
			}
			continue
		}
		if f.IsZero() {
			continue
		}
		switch c.kind {
		case boolKind:
			put(c.name, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
		case textKind:
			put(c.name, textNode(f.String()))
		case textMapKind:
			put(c.name, textsNode(f.Interface().(map[string]string)))
		default:
			put(c.name, listNode(c, f))
		}
	}
	return n
}

func textsNode(texts map[string]string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		n.Content = append(n.Content, textNode(name), textNode(texts[name]))
	}
	return n
}

func listNode(k *key, v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range v.Len() {
		if k.kind == blockListKind {
			n.Content = append(n.Content, nodeOf(k, v.Index(i)))
			continue
		}
		n.Content = append(n.Content, textNode(v.Index(i).String()))
	}
	if v.Len() == 0 {
		n.Style = yaml.FlowStyle
	}
	return n
}

// textNode is a scalar with quotes where some reader would not take it for the
// same text.
func textNode(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	_, isBool := booleans[s]
	switch {
	case n.Tag == "!!binary":
	case strings.ContainsAny(s, "\r\u0085\u2028\u2029\ufeff"), n.Style == yaml.LiteralStyle && strings.TrimSpace(s[:1]) == "":
		n.Style = yaml.DoubleQuotedStyle
	case n.Style == 0 && (isBool || base60.MatchString(s)):
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
