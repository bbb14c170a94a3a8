package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/kedgeos/kedge/pkg/api/config"
)

// Hostname names the machine, in the kernel and for its own resolver.
type Hostname struct{ Name string }

func (s Hostname) String() string { return "set hostname " + s.Name }
func (s Hostname) key() string    { return "hostname" }

// Do implements Step.
func (s Hostname) Do(_ context.Context, m Machine) error {
	hosts, err := m.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(
		m.SetHostname(s.Name),
		m.WriteFile("/etc/hostname", []byte(s.Name+"\n"), 0o644, ""),
		m.WriteFile("/etc/hosts", []byte(Hosts(string(hosts), s.Name)), 0o644, ""))
}

// own is the address by which a machine knows its own name.
const own = "127.0.1.1"

// Hosts returns the text of /etc/hosts with this machine's name in it.
func Hosts(text, name string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, own) {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	short, _, qualified := strings.Cut(name, ".")
	if qualified {
		name += " " + short
	}
	return b.String() + own + "\t" + name + "\n"
}

// Module loads a kernel module.
type Module struct{ Name, Params string }

func (s Module) String() string { return strings.TrimSpace("load module " + s.Name + " " + s.Params) }
func (s Module) key() string    { return "kedge.modules" }

// Do implements Step.
func (s Module) Do(ctx context.Context, m Machine) error { return m.LoadModule(ctx, s.Name, s.Params) }

// Sysctl sets a kernel parameter.
type Sysctl struct{ Name, Value string }

func (s Sysctl) String() string { return "set sysctl " + s.Name + "=" + s.Value }
func (s Sysctl) key() string    { return "kedge.sysctls." + s.Name }

// Do implements Step.
func (s Sysctl) Do(_ context.Context, m Machine) error {
	err := m.SetSysctl(s.Name, s.Value)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("this kernel has no such parameter; a module may have to be loaded first")
	}
	return err
}

// Write writes a file of our own making.
type Write struct {
	Path, Data string
	Mode       fs.FileMode
	Owner, Key string
}

func (s Write) String() string { return "write " + s.Path }
func (s Write) key() string    { return s.Key }

// Do implements Step.
func (s Write) Do(_ context.Context, m Machine) error {
	return m.WriteFile(s.Path, []byte(s.Data), s.Mode, s.Owner)
}

// Dir makes a folder.
type Dir struct {
	Path  string
	Mode  fs.FileMode
	Owner string
}

func (s Dir) String() string { return fmt.Sprintf("make folder %s %o %s", s.Path, s.Mode, s.Owner) }

// Do implements Step.
func (s Dir) Do(_ context.Context, m Machine) error { return m.MakeDir(s.Path, s.Mode, s.Owner) }

// Link makes a symbolic link, in the place of whatever file was there.
type Link struct{ Target, Path string }

func (s Link) String() string { return "link " + s.Path + " to " + s.Target }

// Do implements Step.
func (s Link) Do(_ context.Context, m Machine) error { return m.Symlink(s.Target, s.Path) }

// File writes a file of write_files.
type File struct{ config.File }

func (s File) String() string { return "write file " + s.Target() }
func (s File) key() string    { return "write_files" }

// Do implements Step.
func (s File) Do(_ context.Context, m Machine) error {
	data, err := s.Bytes()
	if err != nil {
		return err
	}
	mode, err := s.Mode()
	if err != nil {
		return err
	}
	err = m.WriteFile(s.Target(), data, mode, s.Owner)
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%s is part of the read-only system image; /etc, /var, /home, /opt, /usr/local and /root can be written", path.Dir(s.Target()))
	}
	return err
}

// Password lets a user log in on the console.
type Password struct{ User, Value string }

func (s Password) String() string { return "set password of " + s.User }
func (s Password) key() string    { return "kedge.password" }

// Do implements Step.
func (s Password) Do(_ context.Context, m Machine) error {
	hash := s.Value
	if !strings.HasPrefix(hash, "$") {
		var err error
		if hash, err = Hash(hash); err != nil {
			return err
		}
	}
	if err := readable(hash); err != nil {
		return err
	}
	shadow, err := m.ReadFile("/etc/shadow")
	if err != nil {
		return err
	}
	changed, err := setHash(string(shadow), s.User, hash)
	if err != nil {
		return err
	}
	return m.WriteFile("/etc/shadow", []byte(changed), 0o600, "")
}

// setHash puts a password hash into the text of /etc/shadow.
func setHash(shadow, user, hash string) (string, error) {
	if strings.ContainsAny(hash, ":\n") {
		return "", errors.New("the hash holds a colon or a line break")
	}
	var b strings.Builder
	found := false
	for line := range strings.Lines(shadow) {
		if fields := strings.Split(line, ":"); fields[0] == user && len(fields) > 1 {
			fields[1], found = hash, true
			line = strings.Join(fields, ":")
		}
		b.WriteString(line)
	}
	if !found {
		return "", fmt.Errorf("no user %s", user)
	}
	return b.String(), nil
}

// AliasUser gives a user a second name with the same number, home and rights.
type AliasUser struct{ Of, Name string }

func (s AliasUser) String() string { return "name user " + s.Of + " also " + s.Name }

// Do implements Step.
func (s AliasUser) Do(_ context.Context, m Machine) error {
	for _, file := range []struct {
		path string
		mode fs.FileMode
	}{{"/etc/passwd", 0o644}, {"/etc/shadow", 0o600}, {"/etc/group", 0o644}, {"/etc/gshadow", 0o600}} {
		text, err := m.ReadFile(file.path)
		if err != nil {
			return err
		}
		if err := m.WriteFile(file.path, []byte(alias(string(text), s.Of, s.Name)), file.mode, ""); err != nil {
			return err
		}
	}
	return nil
}

// alias doubles the line of a user under another name, behind the original, so
// that the number still leads to the first name, and puts the name into every
// list of members that has the first.
func alias(text, of, name string) string {
	if strings.Contains("\n"+text, "\n"+name+":") {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		i := strings.LastIndexByte(line, ':')
		if members := strings.Split(line[i+1:], ","); slices.Contains(members, of) {
			line += "," + name
		}
		b.WriteString(line + "\n")
		if rest, ok := strings.CutPrefix(line, of+":"); ok {
			b.WriteString(name + ":" + rest + "\n")
		}
	}
	return b.String()
}

// Command runs one line of init_cmd, boot_cmd or run_cmd by the shell.
type Command struct{ List, Line string }

func (s Command) String() string {
	first, _, more := strings.Cut(strings.TrimSpace(s.Line), "\n")
	if more {
		first += " …"
	}
	return s.List + ": " + first
}
func (s Command) key() string { return s.List }

// Do implements Step.
func (s Command) Do(ctx context.Context, m Machine) error { return m.Shell(ctx, s.Line, Patience) }
