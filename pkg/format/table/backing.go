package table

import (
	"errors"
	"io"
	"io/fs"
)

// backing is a disk as go-diskfs wants it: a backend.WritableFile. Reading in
// sequence and Stat are not needed for tables. Either r or w is nil.
type backing struct {
	r    io.ReaderAt
	w    io.WriterAt
	size int64 // bytes
}

func (b backing) WriteAt(p []byte, at int64) (int, error) { return b.w.WriteAt(p, at) }
func (b backing) Read([]byte) (int, error)                { return 0, errors.ErrUnsupported }
func (b backing) Stat() (fs.FileInfo, error)              { return nil, errors.ErrUnsupported }
func (b backing) Close() error                            { return nil }

// ReadAt reads all or fails: go-diskfs takes an io.EOF at the very end, which a
// reader may give with the last byte, for an error.
func (b backing) ReadAt(p []byte, at int64) (int, error) {
	if err := readAt(b.r, p, at); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Seek tells the size of the disk; go-diskfs looks for the backup with it.
func (b backing) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekEnd || offset != 0 {
		return 0, errors.ErrUnsupported
	}
	return b.size, nil
}

// Sync passes on to disks that have it.
func (b backing) Sync() error {
	if s, ok := b.w.(interface{ Sync() error }); ok {
		return s.Sync()
	}
	return nil
}
