// Package atomicfile replaces files so that a power cut leaves the old or the
// new content, never a mixture: write beside the target, sync, rename, sync
// the folder.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces the file at path with data. When it returns nil, the new
// content is on the disk; when it returns an error, the old file is untouched.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	f, err := Create(path, mode)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// A File collects the new content of a file. It becomes visible at Commit.
type File struct {
	*os.File
	path string
}

// Create starts a replacement of the file at path, whose folder must exist.
// The caller ends it with Commit or Abort; Abort after Commit does nothing.
func Create(path string, mode fs.FileMode) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return &File{File: f, path: path}, nil
}

// Commit makes the new content durable and puts it in place of the old.
func (f *File) Commit() error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return err
	}
	f.path = ""
	return SyncDir(filepath.Dir(f.Name()))
}

// Abort throws the new content away.
func (f *File) Abort() {
	if f.path == "" {
		return
	}
	f.path = ""
	f.Close()
	os.Remove(f.Name())
}

// Adopt puts a file that another program wrote in place of the one at path, as
// Commit does.
func Adopt(written, path string) error {
	f, err := os.Open(written)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(written, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a folder durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}
