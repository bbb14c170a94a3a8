package install

import (
	"bytes"
	"io"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
)

// unfinished tells whether an installation to a disk of size bytes was cut off:
// it has our partitions, and both slots are blank where an image begins. An
// upgrade leaves at most one of them so. The table may lack the protective MBR,
// which is written last.
func unfinished(disk io.ReaderAt, size int64, sector int) bool {
	parts, err := table.Read(protected{disk}, size, sector)
	if err != nil {
		return false
	}
	found, err := layout.Find(parts)
	if err != nil {
		return false
	}
	for _, name := range []string{layout.SlotAName, layout.SlotBName} {
		first := make([]byte, 512)
		if _, err := disk.ReadAt(first, found[name].Start+isoimage.VolumeOffset); err != nil || len(bytes.Trim(first, "\x00")) > 0 {
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
	if at != 0 || n < 512 || len(bytes.Trim(b[:512], "\x00")) > 0 {
		return n, err
	}
	b[450], b[454], b[510], b[511] = 0xEE, 1, 0x55, 0xAA
	return n, err
}
