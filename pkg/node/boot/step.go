package boot

import (
	"fmt"
	"io/fs"

	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// A Machine is the part of the kernel and its files that steps need.
type Machine interface {
	Mount(mount.Spec) error
	Mkdir(path string, mode fs.FileMode) error // with parents; no error when it is there
	Symlink(target, path string) error         // replaces what stands at path
	Write(path, content string) error          // creates the file
	Fill(from, to string) error                // copies what to does not have yet
	Load(modules ...string) error
	Hostname(name string) error
	LinkUp(name string) error
	Sysctl(key, value string) error
}

// A Step is one thing to do at boot. Its String is what tests compare and
// what is told when it fails.
type Step interface {
	fmt.Stringer
	Do(Machine) error
}

// Optional is a step whose failure is told, and the boot goes on.
type Optional struct{ Step }

// Mount attaches a file system; its mount point is made.
type Mount struct{ mount.Spec }

// Do makes the folder and mounts.
func (s Mount) Do(m Machine) error {
	if err := m.Mkdir(s.Target, 0o755); err != nil {
		return err
	}
	return m.Mount(s.Spec)
}

// A Folder is made when it is not there.
type Folder struct {
	Path string
	Mode fs.FileMode
}

func (s Folder) String() string { return fmt.Sprintf("mkdir -m %v %s", s.Mode, s.Path) }

// Do makes the folder.
func (s Folder) Do(m Machine) error { return m.Mkdir(s.Path, s.Mode) }

// A Link is a symbolic link at Path.
type Link struct{ Target, Path string }

func (s Link) String() string { return fmt.Sprintf("ln -s %s %s", s.Target, s.Path) }

// Do makes the link.
func (s Link) Do(m Machine) error { return m.Symlink(s.Target, s.Path) }

// A File gets a content.
type File struct{ Path, Content string }

func (s File) String() string { return "write " + s.Path }

// Do writes the file.
func (s File) Do(m Machine) error { return m.Write(s.Path, s.Content) }

// Fill copies from one folder what another does not have yet.
type Fill struct{ From, To string }

func (s Fill) String() string { return fmt.Sprintf("fill %s from %s", s.To, s.From) }

// Do copies.
func (s Fill) Do(m Machine) error { return m.Fill(s.From, s.To) }

// Modules are loaded together; one that is missing does not matter.
type Modules []string

func (s Modules) String() string { return fmt.Sprintf("load modules %v", []string(s)) }

// Do loads them.
func (s Modules) Do(m Machine) error { return m.Load(s...) }

// Hostname names the machine.
type Hostname string

func (s Hostname) String() string { return "hostname " + string(s) }

// Do sets the name.
func (s Hostname) Do(m Machine) error { return m.Hostname(string(s)) }

// LinkUp switches a network link on.
type LinkUp string

func (s LinkUp) String() string { return "link up " + string(s) }

// Do switches it on.
func (s LinkUp) Do(m Machine) error { return m.LinkUp(string(s)) }

// Sysctl sets a kernel parameter.
type Sysctl struct{ Key, Value string }

func (s Sysctl) String() string { return fmt.Sprintf("sysctl %s=%s", s.Key, s.Value) }

// Do sets it.
func (s Sysctl) Do(m Machine) error { return m.Sysctl(s.Key, s.Value) }

// Run does the steps in order and stops at the first that fails and is not
// Optional. Failures that the boot survives are given to note.
func Run(m Machine, steps []Step, note func(error)) error {
	for _, s := range steps {
		err := s.Do(m)
		if err == nil {
			continue
		}
		err = fmt.Errorf("%v: %w", s, err)
		if _, optional := s.(Optional); !optional {
			return err
		}
		note(err)
	}
	return nil
}
