package table

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Whole tells whether a disk has both copies of its table, sound, alike, and
// the backup in the last sector. It is false after the disk became larger, and
// where a write of the table was cut off. An error of reading is false too.
func Whole(disk io.ReaderAt, size int64, sector int) bool {
	if checkSector(size, sector) != nil {
		return false
	}
	last := size/int64(sector) - 1
	primary, backup := readCopy(disk, 1, sector), readCopy(disk, last, sector)
	return primary != nil && backup != nil && primary.other == uint64(last) && backup.other == 1 &&
		primary.id == backup.id && bytes.Equal(primary.entries, backup.entries)
}

// A tableCopy is what Whole compares of one of the two copies.
type tableCopy struct {
	other   uint64 // sector of the other copy
	id      [16]byte
	entries []byte
}

// readCopy returns the copy whose header is in a sector, nil when that is not
// sound. Offsets are those of section 5.3.2.
func readCopy(disk io.ReaderAt, at int64, sector int) *tableCopy {
	header := make([]byte, sector)
	if readAt(disk, header, at*int64(sector)) != nil || !bytes.HasPrefix(header, []byte("EFI PART")) || damaged(header) {
		return nil
	}
	first := binary.LittleEndian.Uint64(header[72:])
	n, each := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
	if binary.LittleEndian.Uint64(header[24:]) != uint64(at) || n > maxEntries || each != entrySize || first > 1<<50 {
		return nil
	}
	c := &tableCopy{other: binary.LittleEndian.Uint64(header[32:]), id: [16]byte(header[56:72]), entries: make([]byte, n*each)}
	if readAt(disk, c.entries, int64(first)*int64(sector)) != nil || crc32.ChecksumIEEE(c.entries) != binary.LittleEndian.Uint32(header[88:]) {
		return nil
	}
	return c
}
