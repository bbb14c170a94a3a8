package block

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Ext4Size returns the size in bytes that an ext4 file system says it has; the
// device below it may be larger. The error wraps ErrUnknown when it is none.
//
// Source: Documentation/filesystems/ext4/super.rst.
func Ext4Size(r io.ReaderAt) (int64, error) {
	super := make([]byte, 1024)
	if _, err := r.ReadAt(super, 1024); err != nil {
		return 0, fmt.Errorf("read superblock: %w", err)
	}
	shift := binary.LittleEndian.Uint32(super[24:])
	if binary.LittleEndian.Uint16(super[56:]) != 0xEF53 || shift > 6 {
		return 0, ErrUnknown
	}
	blocks := uint64(binary.LittleEndian.Uint32(super[4:]))
	const wide = 0x80 // INCOMPAT_64BIT
	if binary.LittleEndian.Uint32(super[96:])&wide != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(super[0x150:])) << 32
	}
	if blocks > 1<<47 {
		return 0, ErrUnknown
	}
	return int64(blocks << (10 + shift)), nil
}
