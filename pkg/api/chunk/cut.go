package chunk

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
)

// Bounds of a chunk's size in bytes, and the size that is aimed at. Both sides
// must cut alike, so they belong to version 1 of the index. What squashfs has
// packed differs in whole blocks of some 300 KB, so smaller chunks save little
// and make the index larger.
const (
	minSize = 4 << 10
	avgSize = 16 << 10
	maxSize = 64 << 10
)

// Masks for the rolling hash: two bits harder than the average before it is
// reached, two bits easier behind it. The highest bits are the ones that hang on
// all of the last 64 bytes.
const (
	hardMask = (1<<16 - 1) << (64 - 16)
	easyMask = (1<<12 - 1) << (64 - 12)
)

// gear has a number for each value of a byte: the first eight bytes, little
// endian, of the SHA-256 of "kedge gear " and the byte.
var gear = func() (t [256]uint64) {
	for i := range t {
		sum := sha256.Sum256(append([]byte("kedge gear "), byte(i)))
		t[i] = binary.LittleEndian.Uint64(sum[:])
	}
	return t
}()

// cut returns where the first chunk of b ends, when b holds maxSize bytes or
// all that is left.
func cut(b []byte) int {
	if len(b) <= minSize {
		return len(b)
	}
	b = b[:min(len(b), maxSize)]
	var h uint64
	at := minSize
	for _, c := range b[minSize:min(len(b), avgSize)] {
		at++
		if h = h<<1 + gear[c]; h&hardMask == 0 {
			return at
		}
	}
	for _, c := range b[at:] {
		at++
		if h = h<<1 + gear[c]; h&easyMask == 0 {
			return at
		}
	}
	return at
}

// Split reads r to its end and calls each with one chunk after the other. The
// bytes are only good until each returns; its error ends the reading.
func Split(r io.Reader, each func(data []byte) error) error {
	buf := make([]byte, 8*maxSize)
	from, to := 0, 0
	for {
		n, err := io.ReadFull(r, buf[to:])
		to += n
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return err
		}
		for to-from >= maxSize || end && from < to {
			size := cut(buf[from:to])
			if err := each(buf[from : from+size]); err != nil {
				return err
			}
			from += size
		}
		if end {
			return nil
		}
		to = copy(buf, buf[from:to])
		from = 0
	}
}
