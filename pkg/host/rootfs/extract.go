package rootfs

import (
	"io/fs"
	"os"
	"path/filepath"
)

// Extract writes the files that want accepts (nil: all) below dir on the build
// machine, as its user: modes keep only read, write and execute bits, owners
// are dropped.
func (t *Tree) Extract(dir string, want func(path string) bool) error {
	for _, p := range t.Paths() {
		e := t.entries[p]
		to := filepath.Join(dir, p)
		if want != nil && !want(p) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := extract(to, e); err != nil {
			return err
		}
	}
	return nil
}

func extract(to string, e Entry) error {
	switch {
	case e.Mode.IsDir():
		return os.MkdirAll(to, 0o755)
	case e.Mode&fs.ModeSymlink != 0:
		return os.Symlink(e.Link, to)
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, e.Mode.Perm()|0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := copyContent(f, e.Content); err != nil {
		return err
	}
	return f.Close()
}
