package modalias

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Modules knows the modules of one kernel and what each needs first.
type Modules struct {
	files map[string]string   // name → path below /usr/lib/modules/VERSION
	needs map[string][]string // name → names to load before it, in order
}

// Name returns the name under which the kernel knows a module, given its name
// or file: no folder, no ".ko" or ".ko.xz", underscores for hyphens.
func Name(module string) string {
	name, _, _ := strings.Cut(path.Base(module), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// ReadModules reads modules.dep and modules.softdep. A nil softdep means that
// there are no soft dependencies.
func ReadModules(dep, softdep io.Reader) (Modules, error) {
	m := Modules{files: map[string]string{}, needs: map[string][]string{}}
	s := bufio.NewScanner(dep)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		file, deps, ok := strings.Cut(s.Text(), ":")
		if !ok {
			return m, fmt.Errorf("modules.dep line %d: no colon", n)
		}
		name := Name(file)
		m.files[name] = file
		for _, d := range strings.Fields(deps) {
			m.needs[name] = append(m.needs[name], Name(d))
		}
		slices.Reverse(m.needs[name]) // depmod lists the last to load first
	}
	if err := s.Err(); err != nil || softdep == nil {
		return m, err
	}
	return m, m.readSoftdep(softdep)
}

// readSoftdep adds "softdep NAME pre: A B post: C" lines. What is to come after
// a module is loaded before it too: order only matters for real dependencies.
func (m Modules) readSoftdep(r io.Reader) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 3 || f[0] != "softdep" {
			continue
		}
		name := Name(f[1])
		for _, d := range f[2:] {
			if d != "pre:" && d != "post:" && !slices.Contains(m.needs[name], Name(d)) {
				m.needs[name] = append(m.needs[name], Name(d))
			}
		}
	}
	return s.Err()
}

// Has tells whether there is a file for the module.
func (m Modules) Has(module string) bool { return m.files[Name(module)] != "" }

// Names returns all modules that have a file, sorted.
func (m Modules) Names() []string {
	var names []string
	for n := range m.files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// File returns the path of a module below /usr/lib/modules/VERSION, or "".
func (m Modules) File(module string) string { return m.files[Name(module)] }

// Order returns the files to load for the named modules, each once, what is
// needed first in front. A name without a file (built into the kernel, or left
// out of this image) is passed over.
func (m Modules) Order(names ...string) []string {
	var order []string
	seen := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if name = Name(name); seen[name] {
			return
		}
		seen[name] = true
		for _, d := range m.needs[name] {
			add(d)
		}
		if file := m.files[name]; file != "" {
			order = append(order, file)
		}
	}
	for _, n := range names {
		add(n)
	}
	return order
}
