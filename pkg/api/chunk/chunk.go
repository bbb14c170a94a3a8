// Package chunk describes an image as a row of chunks, so that a machine that
// has most of them needs to fetch only the others.
//
// Where a chunk ends is told by its last bytes, not by its place: when something
// is put in, chunks behind it stay what they are. The method is that of W. Xia et
// al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
// Deduplication", USENIX ATC 2016: a gear hash, nothing looked at before the
// least size, and masks that change at the average (normalized chunking, level
// 2). Sizes are 4 KiB at least, 16 KiB on average, 64 KiB at most.
//
// # The index
//
// It lies beside an image and has its name and ".chunks"; in a registry it is an
// artifact that refers to the image. Numbers are little endian.
//
//	at      bytes
//	0       8      "KEDGECHK"
//	8       4      version: 1
//	12      4      number n of chunks
//	16      8      size of the image in bytes
//	24      8      ID of the release (16 hex digits in the manifest)
//	32      20×n   chunks in the order of the image:
//	                 3  size in bytes
//	                 1  kind: 0 fixed, 1 open, 2 config
//	                 16 first bytes of the SHA-256 of a fixed one, zero for others
//	32+20n  32     SHA-256 of all before
//
// Two areas of an image change in place after it is built, by "kedge sign" and
// "kedge embed". Each is a chunk of its own without a digest, so the index stays
// right. What is open is always fetched; a config is the machine's own.
//
// An index is not signed. A wrong one costs its reader some bytes: what it leads
// to is checked by the signed manifest, as is every other image.
package chunk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
)

// Suffix is what the name of an index has behind that of the image.
const Suffix = ".chunks"

// Limits of what is read of an index that nothing vouches for, in bytes: its own
// size, that of an image, and that of an area.
const (
	MaxIndex = 8 << 20
	maxImage = 4 << 30
	maxArea  = 1 << 20
)

// ErrIndex means that an index cannot be used.
var ErrIndex = errors.New("bad chunk index")

// A Kind says what is known of a chunk's bytes.
type Kind uint8

// Kinds of chunks.
const (
	Fixed  Kind = iota // they have the sum
	Open               // what the image has now
	Config             // the embed area
)

// A Sum is the beginning of a SHA-256.
type Sum [16]byte

// SumOf returns the sum of a chunk's bytes.
func SumOf(data []byte) Sum {
	sum := sha256.Sum256(data)
	return Sum(sum[:16])
}

// A Chunk is some bytes of an image. The sum is zero unless it is fixed.
type Chunk struct {
	Size int64
	Kind Kind
	Sum  Sum
}

// An Index is all chunks of an image in their order.
type Index struct {
	ID     string // of the release
	Chunks []Chunk
}

// Size returns the bytes of the image.
func (x Index) Size() (n int64) {
	for _, c := range x.Chunks {
		n += c.Size
	}
	return n
}

// Of cuts an image into chunks.
func Of(i *release.Image) (Index, error) {
	type area struct {
		kind       Kind
		from, size int64
	}
	var areas []area
	for name, kind := range map[string]Kind{release.SignaturePath: Open, isoimage.EmbedPath[1:]: Config} {
		f, err := i.File(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Index{}, err
		}
		if _, from, size := f.Outer(); size > 0 {
			areas = append(areas, area{kind, from, size})
		}
	}
	slices.SortFunc(areas, func(a, b area) int { return int(a.from - b.from) })
	x := Index{ID: i.Manifest.ID}
	fixed := func(from, to int64) error {
		return Split(io.NewSectionReader(i.Reader(), from, to-from), func(data []byte) error {
			x.Chunks = append(x.Chunks, Chunk{int64(len(data)), Fixed, SumOf(data)})
			return nil
		})
	}
	at := int64(0)
	for _, a := range areas {
		if a.from < at || a.size > maxArea {
			return x, fmt.Errorf("%w: an area of %d bytes at %d", ErrIndex, a.size, a.from)
		}
		if err := fixed(at, a.from); err != nil {
			return x, err
		}
		x.Chunks = append(x.Chunks, Chunk{Size: a.size, Kind: a.kind})
		at = a.from + a.size
	}
	return x, fixed(at, i.Size)
}

const (
	magic     = "KEDGECHK"
	version   = 1
	headSize  = 32
	entrySize = 20
)

// Encode returns the index as it is written.
func (x Index) Encode() ([]byte, error) {
	id, err := hex.DecodeString(x.ID)
	if err != nil || len(id) != 8 {
		return nil, fmt.Errorf("%w: release %q is not 16 hex digits", ErrIndex, x.ID)
	}
	le := binary.LittleEndian
	b := append(make([]byte, 0, headSize+entrySize*len(x.Chunks)+sha256.Size), magic...)
	b = le.AppendUint32(b, version)
	b = le.AppendUint32(b, uint32(len(x.Chunks)))
	b = le.AppendUint64(b, uint64(x.Size()))
	b = append(b, id...)
	for _, c := range x.Chunks {
		b = le.AppendUint32(b, uint32(c.Size)|uint32(c.Kind)<<24)
		b = append(b, c.Sum[:]...)
	}
	sum := sha256.Sum256(b)
	b = append(b, sum[:]...)
	if _, err := Decode(b); err != nil {
		return nil, fmt.Errorf("write an index that can be read: %w", err)
	}
	return b, nil
}

// Decode reads an index. The error wraps ErrIndex.
func Decode(b []byte) (Index, error) {
	bad := func(format string, args ...any) (Index, error) {
		return Index{}, fmt.Errorf("%w: %s", ErrIndex, fmt.Sprintf(format, args...))
	}
	if len(b) > MaxIndex {
		return bad("%d bytes, at most %d", len(b), MaxIndex)
	}
	if len(b) < headSize+sha256.Size || string(b[:8]) != magic {
		return bad("it does not begin as one")
	}
	le := binary.LittleEndian
	if v := le.Uint32(b[8:]); v != version {
		return bad("version %d, this program knows %d", v, version)
	}
	body, end := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], end) {
		return bad("it is damaged or cut short")
	}
	entries := body[headSize:]
	if n := int64(le.Uint32(b[12:])); n*entrySize != int64(len(entries)) {
		return bad("%d chunks in %d bytes", n, len(entries))
	}
	x := Index{ID: hex.EncodeToString(b[24:32]), Chunks: make([]Chunk, 0, len(entries)/entrySize)}
	for e := range slices.Chunk(entries, entrySize) {
		word := le.Uint32(e)
		c := Chunk{int64(word & 0xffffff), Kind(word >> 24), Sum(e[4:])}
		limit := int64(maxArea)
		if c.Kind == Fixed {
			limit = maxSize
		}
		if c.Kind > Config || c.Size == 0 || c.Size > limit || c.Kind != Fixed && c.Sum != (Sum{}) {
			return bad("chunk %d: kind %d, %d bytes", len(x.Chunks), c.Kind, c.Size)
		}
		x.Chunks = append(x.Chunks, c)
	}
	if size := x.Size(); size > maxImage || uint64(size) != le.Uint64(b[16:]) {
		return bad("chunks of %d bytes for an image of %d, at most %d", size, le.Uint64(b[16:]), int64(maxImage))
	}
	return x, nil
}
