package pki

import (
	"bytes"
	"os"
	"path/filepath"
)

// writeFile replaces file in one step that survives a power cut, and does
// nothing when it already holds data. Missing folders are made for root only.
func writeFile(file string, data []byte, mode os.FileMode) (err error) {
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, data) {
		return os.Chmod(file, mode)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
