package config

import (
	"reflect"
	"strings"
)

// A kind is the shape of a key's value.
type kind int

const (
	textKind      kind = iota // string
	boolKind                  // bool
	textListKind              // []string
	textMapKind               // map[string]string
	blockKind                 // struct
	blockListKind             // []struct
)

// A key is one entry of the schema, read off a field of the types above.
type key struct {
	name     string   // as it is written in a file
	path     string   // full name: kedge.install.device; [] stands for a list's item
	aliases  []string // other names that are read as this one
	kind     kind
	adds     bool   // a list that a later source adds to; others are replaced
	once     bool   // the same item is kept once
	identity string // key of a block in a list: a later item with the same value replaces the earlier
	secret   bool   // not to be shown
	role     bool   // decides whether and where the node joins: a mistake is told loudly
	required bool   // an item without it is not sound
	domain   string // name of its check in domains
	keys     []*key // of a block, or of each block in a list
	field    int    // index of the struct field
}

// schema is the root block of every configuration.
var schema = &key{kind: blockKind, keys: keysOf(reflect.TypeFor[Config](), "")}

// keysOf reads the keys of a struct type off its tags, in their order.
func keysOf(t reflect.Type, prefix string) []*key {
	var keys []*key
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("key"), ",")
		if name == "-" {
			continue
		}
		k := &key{name: name, path: prefix + name, field: i, domain: f.Tag.Get("check"), identity: f.Tag.Get("identity")}
		if a := f.Tag.Get("alias"); a != "" {
			k.aliases = strings.Split(a, ",")
		}
		for option := range strings.SplitSeq(options, ",") {
			k.option(option)
		}
		k.shape(f.Type)
		keys = append(keys, k)
	}
	return keys
}

func (k *key) option(name string) {
	switch name {
	case "":
	case "adds":
		k.adds = true
	case "once":
		k.once = true
	case "secret":
		k.secret = true
	case "role":
		k.role = true
	case "required":
		k.required = true
	default:
		panic("config: key " + k.path + ": unknown option " + name)
	}
}

func (k *key) shape(t reflect.Type) {
	switch {
	case t.Kind() == reflect.String:
		k.kind = textKind
	case t.Kind() == reflect.Bool:
		k.kind = boolKind
	case t.Kind() == reflect.Map:
		k.kind = textMapKind
	case t.Kind() == reflect.Struct:
		k.kind, k.keys = blockKind, keysOf(t, k.path+".")
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		k.kind, k.keys = blockListKind, keysOf(t.Elem(), k.path+"[].")
	case t.Kind() == reflect.Slice:
		k.kind = textListKind
	default:
		panic("config: key " + k.path + ": no kind for " + t.String())
	}
}

// find returns the key that a name in a file stands for, in any spelling, or nil.
func (k *key) find(name string) *key {
	n := normal(name)
	for _, c := range k.keys {
		if n == normal(c.name) {
			return c
		}
		for _, a := range c.aliases {
			if n == normal(a) {
				return c
			}
		}
	}
	return nil
}

// exact tells that name is a proper spelling, not only an understood one.
func (k *key) exact(name string) bool {
	return name == k.name || k == schema.find("k3os") && name == "k3os"
}

// each calls f for k and all keys below it.
func (k *key) each(f func(*key)) {
	if k.name != "" {
		f(k)
	}
	for _, c := range k.keys {
		c.each(f)
	}
}
