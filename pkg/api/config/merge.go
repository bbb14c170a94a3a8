package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Merge makes one configuration of several layers. A later layer wins, key by
// key; mappings merge by name. A list takes the place of the earlier one,
// unless the schema says that it adds up; an empty list then empties it.
func Merge(layers ...Layer) Effective {
	e := Effective{Origins: map[string]Origin{}}
	for _, l := range layers {
		m := merger{layer: l, into: e.Origins}
		m.block(schema, "", reflect.ValueOf(&e.Config).Elem(), reflect.ValueOf(l.Config))
		e.HasK3OS = e.HasK3OS || l.Config.HasK3OS
	}
	return e
}

type merger struct {
	layer Layer
	into  map[string]Origin
}

func (m merger) origin(path string) Origin {
	return Origin{m.layer.Source, m.layer.Lines[path]}
}

func (m merger) block(k *key, prefix string, to, from reflect.Value) {
	for _, c := range k.keys {
		path := prefix + c.name
		t, f := to.Field(c.field), from.Field(c.field)
		switch {
		case c.kind == blockKind:
			m.block(c, path+".", t, f)
		case c.kind == textMapKind:
			m.texts(path, t, f)
		case !m.layer.Has(path):
		case c.kind == textListKind || c.kind == blockListKind:
			m.list(c, path, t, f)
		default:
			t.Set(f)
			m.into[path] = m.origin(path)
		}
	}
}

func (m merger) texts(path string, to, from reflect.Value) {
	for _, name := range from.MapKeys() {
		if to.IsNil() {
			to.Set(reflect.MakeMap(to.Type()))
		}
		to.SetMapIndex(name, from.MapIndex(name))
		full := path + "." + name.String()
		m.into[full] = m.origin(full)
	}
}

// list replaces or adds. The origins of items keep step with the items.
func (m merger) list(k *key, path string, to, from reflect.Value) {
	origins := make([]Origin, 0, to.Len()+from.Len())
	out := reflect.MakeSlice(to.Type(), 0, to.Len()+from.Len())
	put := func(item reflect.Value, o Origin) {
		for i := range out.Len() {
			if k.replaces(out.Index(i), item) {
				out.Index(i).Set(item)
				origins[i] = o
				return
			}
		}
		out, origins = reflect.Append(out, item), append(origins, o)
	}
	if k.adds && from.Len() > 0 {
		for i := range to.Len() {
			put(to.Index(i), m.into[where{path: path}.index(i).path])
		}
	}
	for i := range from.Len() {
		put(from.Index(i), m.origin(where{path: path}.index(i).path))
	}
	for i := range to.Len() {
		delete(m.into, where{path: path}.index(i).path)
	}
	to.Set(out)
	m.into[path] = m.origin(path)
	for i, o := range origins {
		m.into[where{path: path}.index(i).path] = o
	}
}

// replaces tells that item takes the place of old in a list of k.
func (k *key) replaces(old, item reflect.Value) bool {
	if k.once {
		return old.String() == item.String()
	}
	if k.identity == "" {
		return false
	}
	if f, ok := item.Interface().(File); ok {
		return old.Interface().(File).Target() == f.Target()
	}
	at := k.find(k.identity).field
	return old.Field(at).String() == item.Field(at).String()
}

// A Leaf is one value of a configuration, as "kedge config explain" lists it.
type Leaf struct {
	Key    string // full name
	Value  string // items of a list each have a leaf
	Secret bool   // not to be shown
	Origin Origin
}

// Leaves returns every value that is set, in the schema's order.
func (e Effective) Leaves() []Leaf {
	var leaves []Leaf
	e.block(schema, "", reflect.ValueOf(e.Config), func(k *key, path, value, origin string) {
		leaves = append(leaves, Leaf{path, value, k.secret, e.Origins[origin]})
	})
	return leaves
}

// block calls leaf for every value in the struct v; origin is the key under
// which Origins has it.
func (e Effective) block(k *key, prefix string, v reflect.Value, leaf func(k *key, path, value, origin string)) {
	for _, c := range k.keys {
		path, f := prefix+c.name, v.Field(c.field)
		_, set := e.Origins[path]
		switch {
		case c.kind == blockKind:
			e.block(c, path+".", f, leaf)
		case c.kind == textMapKind:
			texts := f.Interface().(map[string]string)
			for _, name := range slices.Sorted(maps.Keys(texts)) {
				leaf(c, path+"."+name, texts[name], path+"."+name)
			}
		case c.kind == textListKind, c.kind == blockListKind:
			e.items(c, path, f, leaf)
		case set:
			leaf(c, path, fmt.Sprint(f.Interface()), path)
		}
	}
}

func (e Effective) items(k *key, path string, v reflect.Value, leaf func(k *key, path, value, origin string)) {
	for i := range v.Len() {
		at, item := where{path: path}.index(i).path, v.Index(i)
		if k.kind == textListKind {
			leaf(k, at, item.String(), at)
			continue
		}
		itemLeaves(k, item, at, at, leaf)
	}
}

// itemLeaves calls leaf for what is set in one block of a list.
func itemLeaves(k *key, item reflect.Value, path, origin string, leaf func(k *key, path, value, origin string)) {
	for _, c := range k.keys {
		switch f := item.Field(c.field); {
		case c.kind == blockKind:
			itemLeaves(c, f, path+"."+c.name, origin, leaf)
		case !f.IsZero():
			leaf(c, path+"."+c.name, fmt.Sprint(f.Interface()), origin)
		}
	}
}

// Mask is shown in the place of a secret.
const Mask = "********"

// Masked returns a copy with every secret that is set replaced by Mask.
func (c Config) Masked() Config {
	mask := func(s *string) {
		if *s != "" {
			*s = Mask
		}
	}
	c.Kedge.Wifi = slices.Clone(c.Kedge.Wifi)
	for i := range c.Kedge.Wifi {
		mask(&c.Kedge.Wifi[i].Passphrase)
	}
	mask(&c.Kedge.Password)
	mask(&c.Kedge.Token)
	return c
}
