// Package cmdline reads and writes the command line of a Linux kernel.
//
// Words are separated by white space; double quotes, around a value or around
// a whole word, protect white space. There is no escape character, so a value
// that holds a double quote survives only where the quote does not come first.
//
// Source: next_arg in lib/cmdline.c and parse_args in kernel/params.c of
// Linux 6.12.
package cmdline

import "strings"

// A Param is one word of the command line.
type Param struct {
	Key      string
	Value    string // without the quotes around it
	HasValue bool   // "key=" has an empty value, "key" has none
}

// String prints p the way Parse reads it.
func (p Param) String() string {
	if p.HasValue {
		return Quote(p.Key) + "=" + Quote(p.Value)
	}
	return Quote(p.Key)
}

// Parse splits a command line into its parameters, in order. It takes any
// input: an open quote reaches to the end.
func Parse(line string) []Param {
	var params []Param
	for {
		line = strings.TrimLeft(line, space)
		if line == "" {
			return params
		}
		var p Param
		p, line = next(line)
		params = append(params, p)
	}
}

const space = " \t\n\v\f\r\x00"

// next cuts the first word off line, which starts with none of space.
func next(line string) (p Param, rest string) {
	whole := line[0] == '"'
	if whole {
		line = line[1:]
	}
	inQuote, equals, end := whole, -1, len(line)
	for i := range len(line) {
		if line[i] == '"' {
			inQuote = !inQuote
		}
		if !inQuote && strings.IndexByte(space, line[i]) >= 0 {
			end = i
			break
		}
		if line[i] == '=' && equals < 0 {
			equals = i
		}
	}
	word, rest := line[:end], line[end:]
	if whole {
		word = strings.TrimSuffix(word, `"`)
	}
	if equals < 0 {
		return Param{Key: word}, rest
	}
	p = Param{Key: word[:equals], Value: word[equals+1:], HasValue: true}
	if v, quoted := strings.CutPrefix(p.Value, `"`); quoted {
		p.Value = v
		if !whole {
			p.Value = strings.TrimSuffix(v, `"`)
		}
	}
	return p, rest
}

// Quote puts double quotes around a key or value that has white space in it.
func Quote(s string) string {
	if strings.ContainsAny(s, space) {
		return `"` + s + `"`
	}
	return s
}

// String joins the parameters to one command line.
func String(params []Param) string {
	words := make([]string, len(params))
	for i, p := range params {
		words[i] = p.String()
	}
	return strings.Join(words, " ")
}

// Get returns the value of the last parameter named key, and whether there is
// one. A parameter without a value counts, and gives "".
func Get(params []Param, key string) (value string, found bool) {
	for _, p := range params {
		if p.Key == key {
			value, found = p.Value, true
		}
	}
	return value, found
}

// All returns the values of every parameter named key, in order.
func All(params []Param, key string) []string {
	var values []string
	for _, p := range params {
		if p.Key == key && p.HasValue {
			values = append(values, p.Value)
		}
	}
	return values
}
