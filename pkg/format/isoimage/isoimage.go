// Package isoimage finds files in ISO 9660 images, and reads and writes the
// embed area of a Kedge image.
//
// It reads the primary volume descriptor and directory records with the Rock
// Ridge names that xorriso writes. Offsets and sizes are bytes from the start
// of the image. It never writes an image: a caller overwrites the bytes of an
// extent.
//
// Source: ECMA-119, 4th edition; Rock Ridge Interchange Protocol 1.12 (NM).
package isoimage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Errors that callers tell apart. A missing file is fs.ErrNotExist.
var (
	ErrFormat    = errors.New("not an ISO 9660 image")
	ErrTruncated = errors.New("image is cut short")
)

// VolumeOffset is where the primary volume descriptor begins, in bytes; without
// it there is no image.
const VolumeOffset = descriptor

const (
	sector     = 2048
	descriptor = 16 * sector
	maxFolder  = 16 << 20 // larger folders are refused
)

// An Extent is where the bytes of a file lie.
type Extent struct{ Offset, Size int64 }

// Volume is what the primary volume descriptor says.
type Volume struct {
	ID   string // volume identifier, blanks trimmed
	Size int64  // bytes of the file system
	root record
}

type record struct {
	extent Extent
	folder bool
	name   string
}

// ReadVolume reads the primary volume descriptor. The error wraps ErrFormat.
func ReadVolume(image io.ReaderAt) (Volume, error) {
	b := make([]byte, sector)
	if _, err := image.ReadAt(b, descriptor); err != nil && !errors.Is(err, io.EOF) {
		return Volume{}, err
	}
	if b[0] != 1 || string(b[1:6]) != "CD001" {
		return Volume{}, fmt.Errorf("%w: no volume descriptor at byte %d", ErrFormat, descriptor)
	}
	if n := binary.LittleEndian.Uint16(b[128:]); n != sector {
		return Volume{}, fmt.Errorf("%w: blocks of %d bytes", ErrFormat, n)
	}
	root, _, err := parse(b[156:190])
	if err != nil {
		return Volume{}, err
	}
	return Volume{
		ID:   strings.TrimRight(string(b[40:72]), " "),
		Size: int64(binary.LittleEndian.Uint32(b[80:])) * sector,
		root: root,
	}, nil
}

// Find returns the extent of the file at path, such as "/kedge/config", in an
// image of size bytes. Rock Ridge names are compared exactly, plain ISO names
// without regard to case. The error wraps ErrFormat, ErrTruncated or
// fs.ErrNotExist.
func Find(image io.ReaderAt, size int64, path string) (Extent, error) {
	v, err := ReadVolume(image)
	if err != nil {
		return Extent{}, err
	}
	at := v.root
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		if at, err = child(image, size, at, name); err != nil {
			return Extent{}, fmt.Errorf("find %s: %w", path, err)
		}
	}
	if at.folder {
		return Extent{}, fmt.Errorf("find %s: is a folder", path)
	}
	if at.extent.Offset+at.extent.Size > size {
		return Extent{}, fmt.Errorf("find %s: %w: ends at byte %d of %d", path, ErrTruncated, at.extent.Offset+at.extent.Size, size)
	}
	return at.extent, nil
}

// child looks a name up in a folder.
func child(image io.ReaderAt, size int64, folder record, name string) (record, error) {
	x := folder.extent
	if !folder.folder {
		return record{}, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if x.Size > maxFolder {
		return record{}, fmt.Errorf("%w: a folder of %d bytes", ErrFormat, x.Size)
	}
	if x.Offset+x.Size > size {
		return record{}, fmt.Errorf("%w: a folder ends at byte %d of %d", ErrTruncated, x.Offset+x.Size, size)
	}
	b := make([]byte, x.Size)
	if _, err := image.ReadAt(b, x.Offset); err != nil && !errors.Is(err, io.EOF) {
		return record{}, err
	}
	for len(b) > 0 {
		if b[0] == 0 { // records do not cross sectors: the rest of this one is empty
			b = b[len(b)-(len(b)-1)/sector*sector:]
			continue
		}
		r, used, err := parse(b)
		if err != nil {
			return record{}, err
		}
		if r.name == name {
			return r, nil
		}
		b = b[used:]
	}
	return record{}, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// parse reads the directory record at the start of b and returns its length.
func parse(b []byte) (record, int, error) {
	if len(b) < 34 || int(b[0]) < 34 || int(b[0]) > len(b) || 33+int(b[32]) > int(b[0]) {
		return record{}, 0, fmt.Errorf("%w: damaged directory record", ErrFormat)
	}
	used := int(b[0])
	b = b[:used]
	r := record{
		extent: Extent{int64(binary.LittleEndian.Uint32(b[2:])) * sector, int64(binary.LittleEndian.Uint32(b[10:]))},
		folder: b[25]&2 != 0,
	}
	id := b[33 : 33+int(b[32])]
	system := b[33+len(id):]
	if len(id)%2 == 0 && len(system) > 0 { // a pad byte makes the system area start even
		system = system[1:]
	}
	if name, ok := rockRidge(system); ok {
		r.name = name
		return r, used, nil
	}
	r.name, _, _ = strings.Cut(string(id), ";")
	r.name = strings.ToLower(strings.TrimSuffix(r.name, "."))
	return r, used, nil
}

// rockRidge joins the NM entries of a system use area.
func rockRidge(b []byte) (name string, ok bool) {
	for len(b) >= 4 && int(b[2]) >= 4 && int(b[2]) <= len(b) {
		entry := b[:b[2]]
		if string(entry[:2]) == "NM" && len(entry) > 5 {
			name, ok = name+string(entry[5:]), true
		}
		b = b[b[2]:]
	}
	return name, ok
}
