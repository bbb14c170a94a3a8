// Package rootfs puts a root file system together from layers: unpacked
// packages, overlay folders, single files. The result is an ordered tree with
// fixed times in which every file has an owner, whoever runs the builder.
//
// Nothing is copied while layers are added: a file's content stays where it is,
// most often inside a cached tar file, until the tree is written. Paths have no
// leading slash and no "." or ".." in them. Sizes are bytes.
package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Content is where the bytes of a file are: in Data, or Size bytes of the file
// at Path from Offset on.
type Content struct {
	Data   []byte
	Path   string
	Offset int64
	Size   int64
}

// Bytes makes Content of b.
func Bytes(b []byte) Content { return Content{Data: b, Size: int64(len(b))} }

// Open returns a reader of the content.
func (c Content) Open() (io.ReadCloser, error) {
	if c.Path == "" {
		return io.NopCloser(bytes.NewReader(c.Data)), nil
	}
	f, err := os.Open(c.Path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, c.Offset, c.Size), f}, nil
}

// Read returns all bytes of the content.
func (c Content) Read() ([]byte, error) {
	r, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// An Entry is one file. Mode holds the type and the permission bits, setuid and
// the like included. Layer names what brought it.
type Entry struct {
	Mode     fs.FileMode
	UID, GID int
	Link     string // target of a symlink
	Content  Content
	Layer    string
}

// A Tree is a root file system by path. The zero value is not usable; see New.
type Tree struct {
	entries map[string]Entry
}

// merged are the folders that Debian keeps as links into usr.
var merged = map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}

// New returns a tree with nothing but the links into usr.
func New() *Tree {
	t := &Tree{entries: map[string]Entry{}}
	for name, target := range merged {
		t.entries[name] = Entry{Mode: fs.ModeSymlink | 0o777, Link: target, Layer: "base"}
		t.Folder(target, 0o755, "base")
	}
	return t
}

// Place returns the path under which name is kept: cleaned, and moved into usr
// where the root only has a link.
func Place(name string) string {
	p := strings.TrimPrefix(path.Clean("/"+name), "/")
	first, rest, deeper := strings.Cut(p, "/")
	if into := merged[first]; into != "" && deeper {
		return into + "/" + rest
	}
	return p
}

// Get returns the entry at path.
func (t *Tree) Get(path string) (Entry, bool) {
	e, ok := t.entries[Place(path)]
	return e, ok
}

// Len returns the number of entries.
func (t *Tree) Len() int { return len(t.entries) }

// Paths returns all paths in order: a folder before what is in it.
func (t *Tree) Paths() []string { return slices.Sorted(maps.Keys(t.entries)) }

// Put adds an entry or replaces the one at path; missing folders above it are
// made. A folder put on a folder only changes its mode and owner, and a folder
// put on one of the links into usr changes nothing.
func (t *Tree) Put(name string, e Entry) error {
	p := Place(name)
	if p == "" {
		return nil
	}
	if merged[p] != "" {
		if e.Mode.IsDir() || e.Mode&fs.ModeSymlink != 0 {
			return nil
		}
		return fmt.Errorf("put %s: the name belongs to a link into usr", p)
	}
	if old, ok := t.entries[p]; ok && old.Mode.IsDir() != e.Mode.IsDir() {
		if old.Mode.IsDir() && t.hasChildren(p) {
			return fmt.Errorf("put %s from %s: it is a folder of %s", p, e.Layer, old.Layer)
		}
		if e.Mode.IsDir() && old.Mode&fs.ModeSymlink != 0 {
			return nil // a package's folder behind a link another one made
		}
	}
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if up, ok := t.entries[dir]; ok {
			if !up.Mode.IsDir() {
				return fmt.Errorf("put %s from %s: %s is not a folder", p, e.Layer, dir)
			}
			break
		}
		t.entries[dir] = Entry{Mode: fs.ModeDir | 0o755, Layer: e.Layer}
	}
	t.entries[p] = e
	return nil
}

func (t *Tree) hasChildren(dir string) bool {
	for p := range t.entries {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

// Folder makes a folder and those above it; one that is there gets the mode.
func (t *Tree) Folder(name string, mode fs.FileMode, layer string) {
	p := Place(name)
	e, ok := t.entries[p]
	if !ok {
		e.Layer = layer
	}
	e.Mode = fs.ModeDir | mode
	t.entries[p] = e
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if _, ok := t.entries[dir]; !ok {
			t.entries[dir] = Entry{Mode: fs.ModeDir | 0o755, Layer: layer}
		}
	}
}

// File adds a regular file of root.
func (t *Tree) File(name string, mode fs.FileMode, c Content, layer string) error {
	return t.Put(name, Entry{Mode: mode, Content: c, Layer: layer})
}

// Symlink adds a symbolic link.
func (t *Tree) Symlink(name, target, layer string) error {
	return t.Put(name, Entry{Mode: fs.ModeSymlink | 0o777, Link: target, Layer: layer})
}

// Remove takes out every entry that match accepts, and what lies below it. It
// returns the number of bytes of the files removed.
func (t *Tree) Remove(match func(path string, e Entry) bool) (bytes int64) {
	gone := ""
	for _, p := range t.Paths() {
		e := t.entries[p]
		if gone != "" && strings.HasPrefix(p, gone) || match(p, e) {
			if e.Mode.IsDir() && (gone == "" || !strings.HasPrefix(p, gone)) {
				gone = p + "/"
			}
			bytes += e.Content.Size
			delete(t.entries, p)
		}
	}
	return bytes
}

// AddTar adds the files of an uncompressed tar file, whose bytes it refers to
// and which must stay. Choose returns the path for a file, "" to leave it out;
// nil takes all as they are.
func (t *Tree) AddTar(file, layer string, choose func(path string) string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	at := &offset{r: f}
	for r := tar.NewReader(at); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if err := t.addHeader(h, Content{Path: file, Offset: at.n, Size: h.Size}, layer, choose); err != nil {
			return err
		}
	}
}

func (t *Tree) addHeader(h *tar.Header, c Content, layer string, choose func(string) string) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if choose != nil {
		name = choose(name)
	}
	if name == "" {
		return nil
	}
	e := Entry{Mode: h.FileInfo().Mode(), UID: h.Uid, GID: h.Gid, Layer: layer}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Content = c
	case tar.TypeDir:
	case tar.TypeSymlink:
		e.Link = h.Linkname
	case tar.TypeLink:
		target, ok := t.Get(h.Linkname)
		if !ok {
			return fmt.Errorf("add %s from %s: linked to %s, which is not there", name, layer, h.Linkname)
		}
		e = target
	default:
		return fmt.Errorf("add %s from %s: file type %q has no place in a root", name, layer, h.Typeflag)
	}
	return t.Put(name, e)
}

// offset counts what was read and lets tar skip by seeking.
type offset struct {
	r io.ReadSeeker
	n int64
}

func (o *offset) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	o.n += int64(n)
	return n, err
}

func (o *offset) Seek(to int64, whence int) (int64, error) {
	n, err := o.r.Seek(to, whence)
	o.n = n
	return n, err
}

// AddDir adds a folder of the build machine. Everything becomes root's; files
// are 0755 when their owner may execute them and 0644 when not, so the umask of
// whoever made the checkout does not matter. Modes given by exact path win.
func (t *Tree) AddDir(dir, layer string, modes map[string]fs.FileMode) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := Entry{Layer: layer}
		switch {
		case d.IsDir():
			if _, ok := t.Get(name); ok && modes[name] == 0 {
				return nil
			}
			e.Mode = fs.ModeDir | 0o755
		case info.Mode()&fs.ModeSymlink != 0:
			e.Mode = fs.ModeSymlink | 0o777
			if e.Link, err = os.Readlink(file); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			e.Mode = 0o644 | info.Mode()&0o100 | info.Mode()&0o100>>3 | info.Mode()&0o100>>6
			e.Content = Content{Path: file, Size: info.Size()}
		default:
			return fmt.Errorf("add %s: neither file, folder nor link", file)
		}
		if m := modes[name]; m != 0 {
			e.Mode = e.Mode.Type() | m
		}
		return t.Put(name, e)
	})
}

// Resolve follows symbolic links inside the tree and returns the path of what
// name stands for.
func (t *Tree) Resolve(name string) (string, error) {
	p := strings.TrimPrefix(path.Clean("/"+name), "/")
	for range 40 {
		next, again := t.step(p)
		if !again {
			if _, ok := t.entries[next]; !ok {
				return "", fmt.Errorf("resolve %s: %w", name, fs.ErrNotExist)
			}
			return next, nil
		}
		p = next
	}
	return "", fmt.Errorf("resolve %s: too many links", name)
}

// step replaces the first link on the way to p.
func (t *Tree) step(p string) (next string, again bool) {
	parts := strings.Split(p, "/")
	for i := range parts {
		here := strings.Join(parts[:i+1], "/")
		e := t.entries[here]
		if e.Mode&fs.ModeSymlink == 0 {
			continue
		}
		target := e.Link
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(here), target)
		}
		return strings.TrimPrefix(path.Join("/", target, path.Join(parts[i+1:]...)), "/"), true
	}
	return p, false
}

// ErrDamaged means that content is no longer what the tree was told it is.
var ErrDamaged = errors.New("content changed while it was written")

// WriteTar writes the tree as a tar stream, in order of path, all times set to
// mtime.
func (t *Tree) WriteTar(w io.Writer, mtime time.Time) error { return t.WriteTarOf(w, mtime, t.Paths()) }

// WriteTarOf writes those paths of the tree, in that order.
func (t *Tree) WriteTarOf(w io.Writer, mtime time.Time, paths []string) error {
	tw := tar.NewWriter(w)
	for _, p := range paths {
		e, ok := t.entries[p]
		if !ok {
			return fmt.Errorf("write %s: %w", p, fs.ErrNotExist)
		}
		h := &tar.Header{Name: p, Uid: e.UID, Gid: e.GID, Size: e.Content.Size, ModTime: mtime, Format: tar.FormatGNU}
		h.Mode = int64(e.Mode.Perm()) | special(e.Mode)
		switch {
		case e.Mode.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, p+"/"
		case e.Mode&fs.ModeSymlink != 0:
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		default:
			h.Typeflag = tar.TypeReg
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write %s: %w", p, err)
		}
		if h.Typeflag == tar.TypeReg {
			if err := copyContent(tw, e.Content); err != nil {
				return fmt.Errorf("write %s: %w", p, err)
			}
		}
	}
	return tw.Close()
}

func copyContent(w io.Writer, c Content) error {
	r, err := c.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(w, r)
	if err == nil && n != c.Size {
		err = fmt.Errorf("%w: %d bytes instead of %d", ErrDamaged, n, c.Size)
	}
	return err
}

func special(m fs.FileMode) (bits int64) {
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}
