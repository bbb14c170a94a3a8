package install

import (
	"bytes"
	"io"
	"slices"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
)

// unfinished tells whether an installation to a disk of size bytes was cut off:
// it has our partitions, and both slots are blank where an image begins. An
// upgrade leaves at most one of them so. The table may lack the protective MBR,
// which is written last, and of the table there may be only the beginning.
func unfinished(disk io.ReaderAt, size int64, sector int) bool {
	parts, err := table.Read(protected{disk}, size, sector)
	if err != nil {
		return begun(disk, size, sector)
	}
	found, err := layout.Find(parts)
	if err != nil {
		return false
	}
	for _, name := range []string{layout.SlotAName, layout.SlotBName} {
		first := make([]byte, 512)
		if _, err := disk.ReadAt(first, found[name].Start+isoimage.VolumeOffset); err != nil || !zero(first) {
			return false
		}
	}
	return true
}

// protected is a disk that has a protective MBR where its first sector is
// blank. Source: UEFI Specification 2.10, section 5.2.3.
type protected struct{ io.ReaderAt }

// ReadAt implements io.ReaderAt.
func (p protected) ReadAt(b []byte, at int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, at)
	if at != 0 || n < 512 || !zero(b[:512]) {
		return n, err
	}
	b[450], b[454], b[510], b[511] = 0xEE, 1, 0x55, 0xAA
	return n, err
}

// begun tells whether nothing stands on a disk but what is written of a table
// first: the entries of its backup, or some of them, and these are ours. A header
// is behind them only once they are whole. Source: UEFI Specification 2.10,
// section 5.3.
func begun(disk io.ReaderAt, size int64, sector int) bool {
	const entry, entries, name = 128, 128 * 128, 56
	first, last := make([]byte, margin), make([]byte, margin)
	for at, b := range map[int64][]byte{0: first, size - margin: last} {
		if n, _ := disk.ReadAt(b, at); n < len(b) {
			return false
		}
	}
	at := len(last) - sector - entries
	for e := range slices.Chunk(last[at:at+entries], entry) {
		if !zero(e) && !bytes.HasPrefix(e[name:], []byte("K\x00E\x00D\x00G\x00E\x00-\x00")) {
			return false
		}
	}
	return zero(first) && zero(last[:at]) && zero(last[at+entries:])
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
