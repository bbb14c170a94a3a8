package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// System is the Machine this program runs on. Root is put in front of every
// path; it is "" outside of tests.
type System struct {
	Root string
	Late func(command string, err error) // told when a command that Shell no longer waited for ends; may be nil
}

func (s System) at(path string) string { return filepath.Join("/", s.Root, path) }

// ReadFile implements Machine.
func (s System) ReadFile(path string) ([]byte, error) { return os.ReadFile(s.at(path)) }

// WriteFile implements Machine.
func (s System) WriteFile(path string, data []byte, mode fs.FileMode, owner string) error {
	uid, gid, err := s.owner(owner)
	if err != nil {
		return err
	}
	target := s.at(path)
	// What a symbolic link leads to is written, as "cat >" would.
	if real, err := filepath.EvalSymlinks(target); err == nil {
		target = real
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := atomicfile.Create(target, mode.Perm())
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chown(uid, gid); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil { // after chown, which clears setuid
		return err
	}
	return f.Commit()
}

// MakeDir implements Machine.
func (s System) MakeDir(path string, mode fs.FileMode, owner string) error {
	uid, gid, err := s.owner(owner)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(s.at(path), mode), os.Chmod(s.at(path), mode), os.Chown(s.at(path), uid, gid))
}

// Symlink implements Machine.
func (s System) Symlink(target, path string) error {
	if old, err := os.Readlink(s.at(path)); err == nil && old == target {
		return nil
	}
	if err := os.Remove(s.at(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, s.at(path))
}

// owner looks up "user", "user:group", ":group" or numbers; "" is root. A user
// alone brings the user's own group along.
func (s System) owner(spec string) (uid, gid int, err error) {
	user, group, both := strings.Cut(strings.TrimSpace(spec), ":")
	if user != "" {
		if uid, gid, err = s.find("/etc/passwd", user); err != nil {
			return 0, 0, fmt.Errorf("owner %q: %w", spec, err)
		}
	}
	if both && group != "" {
		if gid, _, err = s.find("/etc/group", group); err != nil {
			return 0, 0, fmt.Errorf("owner %q: %w", spec, err)
		}
	}
	return uid, gid, nil
}

// find returns the third and fourth field of the line that begins with name.
func (s System) find(file, name string) (third, fourth int, err error) {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 {
		return n, n, nil
	}
	text, err := s.ReadFile(file)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if fields[0] != name || len(fields) < 4 {
			continue
		}
		if third, err = strconv.Atoi(fields[2]); err != nil {
			return 0, 0, err
		}
		fourth, _ = strconv.Atoi(fields[3]) // a group's fourth field is its members
		return third, fourth, nil
	}
	return 0, 0, fmt.Errorf("%s has no %q", file, name)
}

// SetHostname implements Machine.
func (s System) SetHostname(name string) error { return kernel.SetHostname(name) }

// SetSysctl implements Machine.
func (s System) SetSysctl(key, value string) error { return kernel.SetSysctl(key, value) }

// LoadModule implements Machine. It runs modprobe, which knows parameters,
// aliases and what is built in.
func (s System) LoadModule(ctx context.Context, name, params string) error {
	return process.Tool{Path: "modprobe", Args: append([]string{"--", name}, strings.Fields(params)...)}.Run(ctx)
}

// Shell implements Machine. The command sees the environment of the
// configuration and may talk to the user's terminal no more than any service.
func (s System) Shell(ctx context.Context, line string, patience time.Duration) error {
	done := make(chan error, 1)
	c := process.Command{Args: []string{"/bin/sh", "-c", line}, Dir: "/", Env: s.environment(), Session: true}
	go func() { done <- c.Run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		if s.Late != nil {
			go func() { s.Late(line, <-done) }()
		}
		return fmt.Errorf("still running after %s, going on without it", patience)
	}
}

func (s System) environment() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "SHELL=/bin/sh",
		"KUBECONFIG=/etc/rancher/k3s/k3s.yaml"}
	text, err := s.ReadFile(Environment)
	if err != nil {
		return env
	}
	return append(env, ReadEnvironment(string(text))...)
}

// ReadEnvironment reads the text of /etc/environment as KEY=value entries.
func ReadEnvironment(text string) []string {
	var env []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		env = append(env, key+"="+value)
	}
	return env
}
