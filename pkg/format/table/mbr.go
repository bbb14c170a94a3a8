package table

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// Places in the first sector, in bytes.
const (
	mbrEntries   = 446
	mbrEntrySize = 16
	mbrSignature = 510
	mbrSize      = 512
)

const protective = 0xEE // type of an MBR partition

// writeProtective writes the partition entries and the signature of an MBR for
// a disk of so many sectors (section 5.2.3).
func writeProtective(b backing, sectors int64) error {
	mbr := make([]byte, mbrSize)
	e := mbr[mbrEntries:]
	copy(e[1:], []byte{0x00, 0x02, 0x00, protective, 0xFF, 0xFF, 0xFF}) // cylinder, head and sector of start and end
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(sectors-1, math.MaxUint32)))
	copy(mbr[mbrSignature:], "\x55\xAA")
	if _, err := b.WriteAt(e, mbrEntries); err != nil {
		return err
	}
	return b.Sync()
}

func hasProtective(mbr []byte) bool {
	if string(mbr[mbrSignature:mbrSize]) != "\x55\xAA" {
		return false
	}
	for at := mbrEntries; at < mbrSignature; at += mbrEntrySize {
		if mbr[at+4] == protective {
			return true
		}
	}
	return false
}

// probe says why go-diskfs had better not look at a disk: there is no table,
// or it has a form that go-diskfs does not know or would take gigabytes for.
func probe(disk io.ReaderAt, size int64, sector int) error {
	head := make([]byte, 2*sector)
	if err := readAt(disk, head, 0); err != nil {
		return err
	}
	if !hasProtective(head) {
		return fmt.Errorf("%w: no protective MBR", ErrNoTable)
	}
	tail := make([]byte, sector)
	if err := readAt(disk, tail, size-int64(sector)); err != nil {
		return err
	}
	found := false
	for _, header := range [][]byte{head[sector:], tail} {
		if !bytes.HasPrefix(header, []byte("EFI PART")) {
			continue
		}
		found = true
		if damaged(header) {
			continue
		}
		// Offsets of section 5.3.2.
		first := binary.LittleEndian.Uint64(header[72:])
		n, each := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
		if n > maxEntries || each != entrySize || first > uint64(size)/uint64(sector) {
			return fmt.Errorf("%d entries of %d bytes at sector %d", n, each, first)
		}
	}
	if !found {
		return fmt.Errorf("%w: no header", ErrNoTable)
	}
	return nil
}

// damaged tells whether a header's checksum is wrong; go-diskfs passes it over.
func damaged(header []byte) bool {
	b := bytes.Clone(header[:headerSize])
	clear(b[16:20])
	return crc32.ChecksumIEEE(b) != binary.LittleEndian.Uint32(header[16:])
}

const headerSize = 92 // bytes that the checksum covers

const maxEntries = 1024 // larger tables are refused

// readAt fills b.
func readAt(disk io.ReaderAt, b []byte, at int64) error {
	n, err := disk.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
