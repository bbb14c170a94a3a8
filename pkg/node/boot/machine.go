package boot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/kedgeos/kedge/pkg/sys/kernel"
	"github.com/kedgeos/kedge/pkg/sys/link"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// Host is the machine this process runs on. Its modules may be absent.
type Host struct{ Modules *kernel.Modules }

// Mount attaches a file system.
func (Host) Mount(s mount.Spec) error { return mount.Mount(s) }

// Mkdir makes a folder with its parents. Only a new folder gets the mode.
func (Host) Mkdir(path string, mode fs.FileMode) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// Symlink makes a symbolic link.
func (Host) Symlink(target, path string) error {
	if old, err := os.Readlink(path); err == nil && old == target {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, path)
}

// Write creates a file.
func (Host) Write(path, content string) error { return os.WriteFile(path, []byte(content), 0o644) }

// Load loads kernel modules.
func (h Host) Load(names ...string) error {
	if h.Modules == nil {
		return nil
	}
	return h.Modules.Load(names...)
}

// Hostname names the machine.
func (Host) Hostname(name string) error { return kernel.SetHostname(name) }

// LinkUp switches a network link on.
func (Host) LinkUp(name string) error { return link.Up(name) }

// Sysctl sets a kernel parameter.
func (Host) Sysctl(key, value string) error { return kernel.SetSysctl(key, value) }

// Fill copies what lies below from, with modes and owners, to where to has
// nothing of that name. What is there stays as it is.
func (Host) Fill(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return fill(path, filepath.Join(to, name), info)
	})
}

func fill(from, to string, info fs.FileInfo) error {
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	switch kind := info.Mode().Type(); kind {
	case fs.ModeDir:
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
	case fs.ModeSymlink:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, to); err != nil {
			return err
		}
	case 0:
		if err := copyFile(from, to); err != nil {
			return err
		}
	default:
		return fmt.Errorf("copy %s: %v is not a file, folder or link", from, kind)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(to, int(owner.Uid), int(owner.Gid)); err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		return nil
	}
	return os.Chmod(to, info.Mode())
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
