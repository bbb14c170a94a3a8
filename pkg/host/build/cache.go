package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
)

// A Cache keeps files between builds: packages by their digest, and what was
// made from them by a digest of all that went into it. Anything in it may be
// deleted at any time between builds.
type Cache struct{ Dir string }

// DefaultCache returns the folder of the user's cache.
func DefaultCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder: %w", err)
	}
	return filepath.Join(dir, "kedge"), nil
}

// A Key names an artefact by everything that it is made from.
type Key struct{ h hash.Hash }

// NewKey begins the key of one kind of artefact.
func NewKey(kind string) Key { return Key{sha256.New()}.Add(kind) }

// Add puts parts into the key; where one ends and the next begins counts.
func (k Key) Add(parts ...string) Key {
	for _, p := range parts {
		fmt.Fprintf(k.h, "%d:%s\n", len(p), p)
	}
	return k
}

func (k Key) String() string { return hex.EncodeToString(k.h.Sum(nil)[:16]) }

// made returns where an artefact is kept.
func (c Cache) made(kind string, k Key) string {
	return filepath.Join(c.Dir, "made", kind+"-"+k.String())
}

// deb returns where a package file is kept.
func (c Cache) deb(sha string) string { return filepath.Join(c.Dir, "debs", sha+".deb") }

// folder returns a folder of the cache, made if need be.
func (c Cache) folder(parts ...string) (string, error) {
	dir := filepath.Join(append([]string{c.Dir}, parts...)...)
	return dir, os.MkdirAll(dir, 0o755)
}

// make returns the path of an artefact. If it is not there yet, write makes it
// under a temporary name in the same folder.
func (c Cache) make(kind string, k Key, write func(path string) error) (string, error) {
	path := c.made(kind, k)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if _, err := c.folder("made"); err != nil {
		return "", err
	}
	return path, finish(path, write)
}

// finish lets write make a file under a temporary name beside path, brings it
// to the disk and gives it its name. Whatever goes wrong, no part of it stays.
func finish(path string, write func(temporary string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".kedge-*")
	if err != nil {
		return err
	}
	f.Close()
	defer os.RemoveAll(f.Name())
	if err := write(f.Name()); err != nil {
		return err
	}
	if f, err = os.OpenFile(f.Name(), os.O_RDWR, 0); err != nil {
		return err
	}
	err = errors.Join(f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// finishFrom is finish for what a function writes to a stream.
func finishFrom(path string, write func(io.Writer) error) error {
	return finish(path, func(temporary string) error {
		f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	})
}

// digest returns size and SHA-256 of a file.
func digest(path string) (size int64, sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return size, hex.EncodeToString(h.Sum(nil)), err
}
