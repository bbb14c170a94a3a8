package block

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A FileSystem is what a superblock says about itself.
type FileSystem struct {
	Type  string // as mount(8) names it: iso9660, ext4, vfat, squashfs
	Label string
	UUID  string // as blkid(8) prints it; "" where the type has none
}

// ErrUnknown means that there is no file system that this package knows.
var ErrUnknown = errors.New("no known file system")

// Probe reads the superblock of a device or image. ISO 9660 goes first: a
// hybrid image has other marks in front of it. The error wraps ErrUnknown, or is
// the one of reading.
//
// Sources: ECMA-119 section 8.4; Documentation/filesystems/ext4/super.rst;
// Microsoft's FAT specification of 2005, section 3; squashfs.rst.
func Probe(r io.ReaderAt) (FileSystem, error) {
	head := make([]byte, 36<<10)
	n, err := r.ReadAt(head, 0)
	if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
		return FileSystem{}, fmt.Errorf("read superblock: %w", err)
	}
	head = head[:n]
	for _, probe := range []func([]byte) (FileSystem, bool){iso9660, ext4, squashfs, vfat} {
		if fs, ok := probe(head); ok {
			return fs, nil
		}
	}
	return FileSystem{}, ErrUnknown
}

func text(b []byte) string { return strings.TrimRight(string(b), " \x00") }

// at returns n bytes of head, or none when it is too short.
func at(head []byte, offset, n int) []byte {
	if len(head) < offset+n {
		return make([]byte, n)
	}
	return head[offset : offset+n]
}

func iso9660(head []byte) (FileSystem, bool) {
	pvd := at(head, 16*2048, 2048)
	if string(pvd[:7]) != "\x01CD001\x01" {
		return FileSystem{}, false
	}
	// The time of creation, or of the last change when that is set, names the
	// volume: YYYYMMDDhhmmsscc.
	when := pvd[830:846]
	if bytes.Equal(when, bytes.Repeat([]byte("0"), 16)) || when[0] == 0 {
		when = pvd[813:829]
	}
	uuid := fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", when[:4], when[4:6], when[6:8], when[8:10], when[10:12], when[12:14], when[14:16])
	return FileSystem{Type: "iso9660", Label: text(pvd[40:72]), UUID: uuid}, true
}

func ext4(head []byte) (FileSystem, bool) {
	super := at(head, 1024, 1024)
	if binary.LittleEndian.Uint16(super[56:]) != 0xEF53 {
		return FileSystem{}, false
	}
	id := hex.EncodeToString(super[104:120])
	uuid := strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
	label, _, _ := bytes.Cut(super[120:136], []byte{0})
	return FileSystem{Type: "ext4", Label: text(label), UUID: uuid}, true
}

func squashfs(head []byte) (FileSystem, bool) {
	return FileSystem{Type: "squashfs"}, string(at(head, 0, 4)) == "hsqs"
}

// vfat reads FAT12, FAT16 and FAT32. The label in the boot sector and the one in
// the root folder are written together by mkfs.fat and others; only the first
// is read here.
func vfat(head []byte) (FileSystem, bool) {
	boot := at(head, 0, 512)
	if boot[510] != 0x55 || boot[511] != 0xAA {
		return FileSystem{}, false
	}
	ext := 0
	switch {
	case string(boot[82:87]) == "FAT32":
		ext = 64
	case string(boot[54:57]) == "FAT":
		ext = 36
	default:
		return FileSystem{}, false
	}
	label := text(boot[ext+7 : ext+18])
	if label == "NO NAME" {
		label = ""
	}
	id := binary.LittleEndian.Uint32(boot[ext+3:])
	return FileSystem{Type: "vfat", Label: label, UUID: fmt.Sprintf("%04X-%04X", id>>16, id&0xFFFF)}, true
}
