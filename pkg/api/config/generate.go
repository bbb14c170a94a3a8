package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:generate go run ../../../hack/generate

// Schema returns the JSON schema (draft 2020-12) of a configuration file. It
// describes what Validate accepts, as far as a schema can say it.
func Schema() []byte {
	root := schemaOf(schema)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Kedge configuration"
	properties := root["properties"].(object)
	block := properties["kedge"].(object)
	root["$defs"] = object{"kedge": block}
	properties["kedge"] = object{"$ref": "#/$defs/kedge"}
	properties["k3os"] = object{"$ref": "#/$defs/kedge"}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		panic(err) // maps of strings
	}
	return b.Bytes()
}

type object = map[string]any

func schemaOf(k *key) object {
	s := object{"type": []string{"object", "null"}}
	if k.name != "" {
		s["description"] = texts[k.path].text
	}
	if k.secret {
		s["writeOnly"] = true
	}
	switch k.kind {
	case blockKind:
		blockSchema(s, k)
	case boolKind:
		s["type"] = []string{"boolean", "null"}
	case textKind:
		textSchema(s, k, "string", "number", "boolean", "null")
	case textMapKind:
		values := object{}
		textSchema(values, k, "string", "number", "boolean", "null")
		s["additionalProperties"] = values
	case textListKind:
		items := object{}
		textSchema(items, k, "string", "number", "boolean")
		s["type"], s["items"] = []string{"array", "null"}, items
	case blockListKind:
		items := object{"type": "object"}
		blockSchema(items, k)
		s["type"], s["items"] = []string{"array", "null"}, items
	}
	return s
}

func blockSchema(s object, k *key) {
	properties, required := object{}, []string{}
	for _, c := range k.keys {
		properties[c.name] = schemaOf(c)
		if c.required {
			required = append(required, c.name)
		}
	}
	s["properties"], s["additionalProperties"] = properties, false
	if len(required) > 0 {
		s["required"] = required
	}
}

// textSchema says which values stand for a text: numbers and booleans do, as
// they are written.
func textSchema(s object, k *key, types ...string) {
	s["type"] = types
	switch p := domains[k.domain].pattern; {
	case k.domain == "encoding":
		var names []any
		for _, name := range Encodings() {
			names = append(names, name)
		}
		s["enum"], s["type"] = append(names, nil), []string{"string", "null"}
	case p != nil && k.kind == textKind && !k.required:
		s["pattern"] = "^$|" + p.String()
	case p != nil:
		s["pattern"] = p.String()
	}
}

// Reference returns the table of all keys, in Markdown.
func Reference() []byte {
	var b bytes.Buffer
	b.WriteString(`# The keys of config.yaml

Generated from the types in this folder; "make generate" writes it again.

Where several sources set a key, the later source wins; mappings merge by name;
lists are replaced, except where the table says that they add up (there an
empty list, [], takes away what earlier sources said). On the kernel command
line the keys are written with dots (kedge.labels.site=north), a key is
repeated for a list, and a key without a value is true. Everything under
kedge: is also read under k3os:.

| key | value | merge | meaning |
|---|---|---|---|
`)
	schema.each(func(k *key) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.path, cell(k.valueWords()), cell(k.mergeWords()), cell(k.meaning()))
	})
	return b.Bytes()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func (k *key) meaning() string {
	s := texts[k.path].text
	if k.required {
		s += " Required."
	}
	if k.secret {
		s += " Secret: never shown."
	}
	if k.domain == "encoding" {
		s += " One of " + strings.Join(Encodings()[1:], ", ") + "."
	}
	return s
}

func (k *key) valueWords() string {
	words := domains[k.domain].words
	if words == "" {
		words = "text"
	}
	switch k.kind {
	case blockKind:
		return "block"
	case blockListKind:
		return "list of blocks"
	case boolKind:
		return "true or false"
	case textListKind:
		return "list: " + words
	case textMapKind:
		return "mapping: " + words
	}
	return words
}

func (k *key) mergeWords() string {
	switch {
	case strings.Contains(k.path, "[]"):
		return ""
	case k.identity != "":
		return "adds up by " + k.identity
	case k.once:
		return "adds up, each once"
	case k.adds:
		return "adds up"
	case k.kind == textMapKind:
		return "by name"
	case k.kind == blockKind:
		return "by key"
	}
	return "replaced"
}

// Example returns config.yaml.example: every key, explained.
func Example() []byte {
	var b bytes.Buffer
	b.WriteString(`#cloud-config
# Every key of Kedge, with a value that is only an example: take what you need.
# Generated; "make generate" writes it again. "kedge config validate FILE"
# checks a file, and pkg/api/config/REFERENCE.md lists the keys in a table.
`)
	for _, k := range schema.keys {
		b.WriteString("\n")
		exampleOf(&b, k, "", false)
	}
	return b.Bytes()
}

// exampleOf writes one key; first says that it begins an item of a list.
func exampleOf(b *bytes.Buffer, k *key, margin string, first bool) {
	name, outer := margin+k.name+":", margin
	if first {
		outer = strings.TrimSuffix(margin, "  ")
		name = outer + "- " + k.name + ":"
	}
	for _, line := range wrap(k.meaning(), 96-len(outer)) {
		fmt.Fprintf(b, "%s# %s\n", outer, line)
	}
	switch k.kind {
	case blockKind, blockListKind:
		b.WriteString(name + "\n")
		deeper := margin + "  "
		if k.kind == blockListKind {
			deeper += "  "
		}
		for i, c := range k.keys {
			exampleOf(b, c, deeper, i == 0 && k.kind == blockListKind)
		}
	case textListKind, textMapKind:
		b.WriteString(name + "\n")
		for line := range strings.SplitSeq(texts[k.path].example, "\n") {
			fmt.Fprintf(b, "%s  %s\n", margin, line)
		}
	default:
		fmt.Fprintf(b, "%s %s\n", name, texts[k.path].example)
	}
}

// wrap breaks a text into lines of at most width letters.
func wrap(text string, width int) []string {
	var lines []string
	for word := range strings.FieldsSeq(text) {
		if n := len(lines); n > 0 && len(lines[n-1])+1+len(word) <= width {
			lines[n-1] += " " + word
			continue
		}
		lines = append(lines, word)
	}
	return slices.Clip(lines)
}
