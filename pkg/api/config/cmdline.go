package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"gopkg.in/yaml.v3"
)

// CmdlineSource is what messages and origins call the kernel command line.
const CmdlineSource = "kernel command line"

// bootKeys are read by init; they are no configuration.
var bootKeys = []string{
	"kedge.id", "kedge.mode", "kedge.root", "kedge.root_sha256", "kedge.debug", "kedge.emergency",
	"kedge.slot", "kedge.partition", "kedge.trial", "kedge.reset", "kedge.fallback_mode",
	"k3os.mode", "k3os.fallback_mode", "k3os.debug",
}

// FromCmdline reads the parameters that are configuration: the keys of a file,
// in dotted form, such as hostname=edge-1 or kedge.labels.site=north. A key is
// repeated for a list; without a value it is true. What is no key of ours
// belongs to the kernel and is passed over, but an unknown key that begins
// with kedge. or k3os. is a Problem.
func FromCmdline(params []cmdline.Param) (Layer, []Problem) {
	d := newDecoder(CmdlineSource, false)
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, p := range params {
		if !slices.Contains(bootKeys, p.Key) {
			plant(schema, root, strings.Split(p.Key, "."), p)
		}
	}
	d.block(schema, root, reflect.ValueOf(&d.layer.Config).Elem(), where{})
	return d.layer, d.problems
}

// plant puts a parameter into the tree of nodes that a file with the same
// meaning would have. Path is the rest of its dotted key, below block.
func plant(block *key, n *yaml.Node, path []string, p cmdline.Param) {
	k := block.find(path[0])
	switch {
	case k == nil && block == schema, k == nil && path[0] == "":
	case k == nil:
		child(n, path[0], func() *yaml.Node { return scalar(p) })
	case k.kind == blockKind && len(path) > 1:
		plant(k, child(n, path[0], newMapping), path[1:], p)
	case k.kind == textMapKind && len(path) > 1:
		set(child(n, path[0], newMapping), strings.Join(path[1:], "."), scalar(p))
	case k.kind == blockListKind && (len(path) == 2 || len(path) == 3 && isBlock(k.find(path[1]))):
		list := child(n, path[0], newSequence)
		plant(k, listBlock(k, list, path[1]), path[1:], p)
	case k.kind == textListKind && len(path) == 1:
		list := child(n, path[0], newSequence)
		if !p.HasValue || p.Value != "" {
			list.Content = append(list.Content, scalar(p))
		}
	case len(path) > 1:
		if lookup(nil, n, path[0]) < 0 {
			set(n, path[0], newMapping())
		}
	case k.kind != blockKind || p.HasValue:
		set(n, path[0], scalar(p))
	}
}

func isBlock(k *key) bool { return k != nil && k.kind == blockKind }

func newMapping() *yaml.Node  { return &yaml.Node{Kind: yaml.MappingNode} }
func newSequence() *yaml.Node { return &yaml.Node{Kind: yaml.SequenceNode} }

func scalar(p cmdline.Param) *yaml.Node {
	if !p.HasValue {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: p.Value}
}

// listBlock returns the block that a field of a list of blocks goes to: the
// last one, or a new one once that has the field.
func listBlock(k *key, list *yaml.Node, field string) *yaml.Node {
	if len(list.Content) > 0 {
		last := list.Content[len(list.Content)-1]
		if lookup(k, last, field) < 0 || isBlock(k.find(field)) {
			return last
		}
	}
	list.Content = append(list.Content, newMapping())
	return list.Content[len(list.Content)-1]
}

// lookup returns the index of the value of a name in a mapping, or -1.
func lookup(block *key, n *yaml.Node, name string) int {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name || block != nil && block.find(name) != nil && block.find(name) == block.find(n.Content[i].Value) {
			return i + 1
		}
	}
	return -1
}

// child returns the value of a name, made by create if it is not there or of
// another kind.
func child(n *yaml.Node, name string, create func() *yaml.Node) *yaml.Node {
	value := create()
	if i := lookup(nil, n, name); i >= 0 && n.Content[i].Kind == value.Kind {
		return n.Content[i]
	}
	set(n, name, value)
	return value
}

// set gives a name in a mapping a value; the later one counts.
func set(n *yaml.Node, name string, value *yaml.Node) {
	if i := lookup(nil, n, name); i >= 0 {
		n.Content[i] = value
		return
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, value)
}
