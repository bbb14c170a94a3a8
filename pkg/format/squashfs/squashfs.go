// Package squashfs says where the bytes of files lie in a squashfs file system.
//
// It reads what mksquashfs writes with zstd, and gives no file's content.
// Offsets and sizes are bytes from the start of the file system.
//
// Source: Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h
// of Linux 6.12.
package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// ErrFormat means that it is not a file system that this package can read.
var ErrFormat = errors.New("not a squashfs that can be read")

// An Extent is a row of blocks: those of one large file, a block of small ones,
// or a table that has no file.
type Extent struct {
	Offset, Size int64
	Files        []string // in the order in which they lie there, without a leading slash
	Table        string   // its name
}

// Limits of what is read of a file system that nothing vouches for.
const (
	maxTable  = 64 << 20
	maxFiles  = 1 << 20
	metaBlock = 8 << 10
)

type reader struct {
	r         io.ReaderAt
	block     int64
	inodes    table
	folders   table
	fragments []Extent
	files     []Extent
	seen      int
	members   map[uint32][]member // of each fragment
	zstd      *zstd.Decoder
}

type member struct {
	name   string
	offset uint32
}

var le = binary.LittleEndian

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// Map lists what lies where, in the order of the file system. The error wraps
// ErrFormat or is that of reading.
func Map(image io.ReaderAt) ([]Extent, error) {
	head := make([]byte, 96)
	if _, err := image.ReadAt(head, 0); err != nil {
		return nil, bad("%v", err)
	}
	const zstdID = 6
	if string(head[:4]) != "hsqs" || le.Uint16(head[20:]) != zstdID || le.Uint16(head[28:]) != 4 {
		return nil, bad("no superblock of version 4 with zstd")
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxTable))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	r := &reader{r: image, block: int64(le.Uint32(head[12:])), members: map[uint32][]member{}, zstd: d}
	at := func(i int) int64 { return int64(le.Uint64(head[i:])) }
	root, used, inodes, folders, fragments := le.Uint64(head[32:]), at(40), at(64), at(72), at(80)
	if r.block < 4<<10 || r.block > 1<<20 {
		return nil, bad("blocks of %d bytes", r.block)
	}
	if r.inodes, err = r.table(inodes, folders); err != nil {
		return nil, fmt.Errorf("read inode table: %w", err)
	}
	first, err := r.readFragments(fragments, int64(le.Uint32(head[16:])), used)
	if err != nil {
		return nil, fmt.Errorf("read fragment table: %w", err)
	}
	if r.folders, err = r.table(folders, first); err != nil {
		return nil, fmt.Errorf("read directory table: %w", err)
	}
	if err := r.walk("", root, 0); err != nil {
		return nil, err
	}
	for i, e := range r.fragments {
		list := r.members[uint32(i)]
		slices.SortFunc(list, func(a, b member) int { return int(a.offset) - int(b.offset) })
		for _, m := range list {
			e.Files = append(e.Files, m.name)
		}
		r.files = append(r.files, e)
	}
	r.files = append(r.files, Extent{0, 96, nil, "superblock"},
		Extent{inodes, folders - inodes, nil, "inode table"}, Extent{folders, first - folders, nil, "directory table"}, Extent{first, used - first, nil, "other tables"})
	slices.SortStableFunc(r.files, func(a, b Extent) int { return int(a.Offset - b.Offset) })
	return r.files, nil
}

// A table is metadata blocks, unpacked and joined.
type table struct {
	bytes []byte
	at    map[int64]int // where a block's bytes begin, by its place in the table
}

// from returns the bytes from a reference on.
func (t table) from(block int64, offset int) ([]byte, error) {
	at, ok := t.at[block]
	if !ok || at+offset > len(t.bytes) {
		return nil, bad("reference to byte %d of block %d", offset, block)
	}
	return t.bytes[at+offset:], nil
}

// table reads the metadata blocks between two places.
func (r *reader) table(from, to int64) (t table, err error) {
	t.at = map[int64]int{}
	for at := from; at < to; {
		if len(t.bytes) > maxTable {
			return t, bad("more than %d bytes", maxTable)
		}
		b, n, err := r.meta(at)
		if err != nil {
			return t, err
		}
		t.at[at-from] = len(t.bytes)
		t.bytes = append(t.bytes, b...)
		at += n
	}
	return t, nil
}

// meta reads one metadata block, and says how many bytes it fills.
func (r *reader) meta(at int64) ([]byte, int64, error) {
	const plain = 1 << 15
	head := make([]byte, 2)
	if _, err := r.r.ReadAt(head, at); err != nil {
		return nil, 0, bad("%v", err)
	}
	word := le.Uint16(head)
	b := make([]byte, word&^plain)
	if _, err := r.r.ReadAt(b, at+2); err != nil {
		return nil, 0, bad("%v", err)
	}
	used := int64(2 + len(b))
	if word&plain == 0 {
		var err error
		if b, err = r.zstd.DecodeAll(b, make([]byte, 0, metaBlock)); err != nil {
			return nil, 0, bad("%v", err)
		}
	}
	if len(b) == 0 || len(b) > metaBlock {
		return nil, 0, bad("a block of %d bytes", len(b))
	}
	return b, used, nil
}

const (
	sizeMask = 1<<24 - 1 // of a block on the disk; the next bit says whether it is packed
	none     = 0xffffffff
)

// readFragments returns where the first of their tables begins.
func (r *reader) readFragments(at, count, end int64) (first int64, err error) {
	const entry, perBlock = 16, metaBlock / 16
	if count == 0 {
		return at, nil
	}
	blocks := (count + perBlock - 1) / perBlock
	if count > maxFiles || at < 0 || at > end || blocks*8 > end-at {
		return 0, bad("%d fragments", count)
	}
	index := make([]byte, blocks*8)
	if _, err := r.r.ReadAt(index, at); err != nil {
		return 0, bad("%v", err)
	}
	first = int64(le.Uint64(index))
	for ; len(index) > 0; index = index[8:] {
		b, _, err := r.meta(int64(le.Uint64(index)))
		if err != nil {
			return 0, err
		}
		for ; len(b) >= entry; b = b[entry:] {
			r.fragments = append(r.fragments, Extent{Offset: int64(le.Uint64(b)), Size: int64(le.Uint32(b[8:]) & sizeMask)})
		}
	}
	return first, nil
}

// Types of inodes; the long ones stand seven higher.
const (
	typeFolder = 1
	typeFile   = 2
	long       = 7
)

// walk looks at an inode and at all below it.
func (r *reader) walk(name string, ref uint64, depth int) error {
	if r.seen++; r.seen > maxFiles || depth > 64 {
		return bad("too many files, or too deep")
	}
	b, err := r.inodes.from(int64(ref>>16), int(ref&0xffff))
	if err != nil {
		return err
	}
	if len(b) < 16+24 {
		b = append(slices.Clone(b), make([]byte, 40)...) // the last inode may be a short one
	}
	body := b[16:]
	switch le.Uint16(b) {
	case typeFolder:
		return r.folder(name, int64(le.Uint32(body)), int(le.Uint16(body[10:])), int(le.Uint16(body[8:])), depth)
	case typeFolder + long:
		return r.folder(name, int64(le.Uint32(body[8:])), int(le.Uint16(body[18:])), int(le.Uint32(body[4:])), depth)
	case typeFile:
		return r.file(name, int64(le.Uint32(body)), int64(le.Uint32(body[12:])), le.Uint32(body[4:]), le.Uint32(body[8:]), body[16:])
	case typeFile + long:
		if len(body) < 40 {
			return bad("file %s is cut short", name)
		}
		return r.file(name, int64(le.Uint64(body)), int64(le.Uint64(body[8:])), le.Uint32(body[28:]), le.Uint32(body[32:]), body[40:])
	}
	return nil
}

func (r *reader) folder(name string, block int64, offset, size, depth int) error {
	size -= 3 // the two names that are not there
	if size <= 0 {
		return nil
	}
	b, err := r.folders.from(block, offset)
	if err != nil || size > len(b) {
		return bad("folder %s has %d bytes: %v", name, size, err)
	}
	for b = b[:size]; len(b) >= 12; {
		count, inodes := le.Uint32(b), uint64(le.Uint32(b[4:]))
		b = b[12:]
		for range uint64(count) + 1 {
			if len(b) < 8 || len(b) < 9+int(le.Uint16(b[6:])) {
				return bad("folder %s is cut short", name)
			}
			n := 9 + int(le.Uint16(b[6:]))
			if err := r.walk(path.Join(name, string(b[8:n])), inodes<<16|uint64(le.Uint16(b)), depth+1); err != nil {
				return err
			}
			b = b[n:]
		}
	}
	return nil
}

func (r *reader) file(name string, at, size int64, fragment, offset uint32, blocks []byte) error {
	count := size / r.block
	if fragment == none && size%r.block > 0 {
		count++
	}
	if size < 0 || count > int64(len(blocks)/4) {
		return bad("file %s of %d bytes", name, size)
	}
	e := Extent{Offset: at, Files: []string{name}}
	for ; count > 0; count, blocks = count-1, blocks[4:] {
		e.Size += int64(le.Uint32(blocks) & sizeMask)
	}
	if e.Size > 0 {
		r.files = append(r.files, e)
	}
	if fragment != none {
		r.members[fragment] = append(r.members[fragment], member{name, offset})
	}
	return nil
}
