// Package initramfs writes cpio archives of the newc kind, the form in which
// the Linux kernel takes its first root file system.
//
// Archives are reproducible: inode numbers count up from 1, owner and group are
// root, and every time is the one given to NewWriter. Sizes are bytes.
//
// Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
package initramfs

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// An Entry is one file. Name is its path without a leading slash. Mode holds
// the permission bits and the type (directory, symlink, character device or
// none for a regular file).
type Entry struct {
	Name         string
	Mode         fs.FileMode
	Size         int64  // of a regular file
	Link         string // of a symlink
	Major, Minor uint32 // of a device
}

// Writer writes one archive.
type Writer struct {
	w     io.Writer
	mtime int64
	inode uint32
	at    int64
}

// NewWriter makes a Writer that gives every file the time mtime.
func NewWriter(w io.Writer, mtime time.Time) *Writer {
	return &Writer{w: w, mtime: mtime.Unix()}
}

// Unix file types as cpio carries them.
const (
	typeDir  = 0o040000
	typeChar = 0o020000
	typeFile = 0o100000
	typeLink = 0o120000
)

func (e Entry) mode() (uint32, error) {
	perm := uint32(e.Mode.Perm())
	for bit, unix := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if e.Mode&bit != 0 {
			perm |= unix
		}
	}
	switch t := e.Mode.Type(); t {
	case 0:
		return perm | typeFile, nil
	case fs.ModeDir:
		return perm | typeDir, nil
	case fs.ModeSymlink:
		return perm | typeLink, nil
	case fs.ModeDevice | fs.ModeCharDevice:
		return perm | typeChar, nil
	default:
		return 0, fmt.Errorf("write %s: type %s has no place in an initramfs", e.Name, t)
	}
}

// Write adds one file; body is read to its end and must have Size bytes. It
// may be nil for anything but a regular file that is not empty.
func (w *Writer) Write(e Entry, body io.Reader) error {
	mode, err := e.mode()
	if err != nil {
		return err
	}
	size := e.Size
	if e.Mode&fs.ModeSymlink != 0 {
		size, body = int64(len(e.Link)), strings.NewReader(e.Link)
	}
	if size > 0xffffffff {
		return fmt.Errorf("write %s: %d bytes are more than newc can hold", e.Name, size)
	}
	w.inode++
	links := 1
	if e.Mode.IsDir() {
		links = 2
	}
	if err := w.header(e.Name, w.inode, mode, links, size, e.Major, e.Minor); err != nil {
		return fmt.Errorf("write %s: %w", e.Name, err)
	}
	if size > 0 {
		n, err := io.Copy(w.w, body)
		w.at += n
		if err != nil {
			return fmt.Errorf("write %s: %w", e.Name, err)
		}
		if n != size {
			return fmt.Errorf("write %s: %d bytes came instead of %d", e.Name, n, size)
		}
	}
	return w.pad()
}

// Close ends the archive; the underlying writer stays open.
func (w *Writer) Close() error {
	return w.header("TRAILER!!!", 0, 0, 1, 0, 0, 0)
}

func (w *Writer) header(name string, inode, mode uint32, links int, size int64, major, minor uint32) error {
	mtime := w.mtime
	if inode == 0 {
		mtime = 0
	}
	n, err := fmt.Fprintf(w.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		inode, mode, 0, 0, links, mtime, size, 0, 0, major, minor, len(name)+1, 0, name)
	w.at += int64(n)
	if err != nil {
		return err
	}
	return w.pad()
}

// pad fills up to a multiple of four bytes.
func (w *Writer) pad() error {
	n, err := w.w.Write(make([]byte, (4-w.at%4)%4))
	w.at += int64(n)
	return err
}
