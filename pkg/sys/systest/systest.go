// Package systest holds stand-ins for the packages under sys: they write down
// as text what they are asked to do, and fail where the test says so.
package systest

import (
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// A Machine writes down what it is asked to do instead of doing it, one line
// each.
type Machine struct {
	Fail map[string]error // by line, or its beginning up to a blank: the error to give

	mu  sync.Mutex
	log strings.Builder
}

// Log returns what was asked so far.
func (m *Machine) Log() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.log.String()
}

func (m *Machine) note(format string, args ...any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	m.log.WriteString(line + "\n")
	for prefix, err := range m.Fail {
		if line == prefix || strings.HasPrefix(line, prefix+" ") {
			return err
		}
	}
	return nil
}

// Mount writes the mount command.
func (m *Machine) Mount(s mount.Spec) error { return m.note("%v", s) }

// Mkdir writes mkdir.
func (m *Machine) Mkdir(path string, mode fs.FileMode) error {
	return m.note("mkdir -m %v %s", mode, path)
}

// Symlink writes ln.
func (m *Machine) Symlink(target, path string) error { return m.note("ln -s %s %s", target, path) }

// Write writes the content as a quoted word.
func (m *Machine) Write(path, content string) error { return m.note("write %s %q", path, content) }

// Fill writes both folders.
func (m *Machine) Fill(from, to string) error { return m.note("fill %s from %s", to, from) }

// Load writes the modules' names.
func (m *Machine) Load(modules ...string) error {
	return m.note("load %s", strings.Join(modules, " "))
}

// Hostname writes the name.
func (m *Machine) Hostname(name string) error { return m.note("hostname %s", name) }

// LinkUp writes the link's name.
func (m *Machine) LinkUp(name string) error { return m.note("link up %s", name) }

// Sysctl writes key and value.
func (m *Machine) Sysctl(key, value string) error { return m.note("sysctl %s=%s", key, value) }
