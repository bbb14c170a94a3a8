package qemu

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// DefaultDisk is the size in bytes of a disk that is made without one.
const DefaultDisk = 8 << 30

// ParseDisk splits FILE[:SIZE]; SIZE is bytes, or has the suffix M or G for
// powers of 1024. Without a size it is 0.
func ParseDisk(s string) (file string, size int64, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, 0, nil
	}
	number, factor := s[i+1:], int64(1)
	if n := strings.TrimRight(number, "mM"); n != number {
		number, factor = n, 1<<20
	} else if n := strings.TrimRight(number, "gG"); n != number {
		number, factor = n, 1<<30
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n <= 0 || i == 0 {
		return "", 0, fmt.Errorf("disk %q: want FILE or FILE:SIZE with a size such as 8G or 512M", s)
	}
	return s[:i], n * factor, nil
}

// OpenDisk returns the drive for FILE[:SIZE]. A file that is not there is made:
// empty, or with state as MakeState does.
func OpenDisk(ctx context.Context, s string, state bool) (Drive, error) {
	file, size, err := ParseDisk(s)
	if err != nil {
		return Drive{}, err
	}
	drive := Drive{File: file, Bus: Disk}
	if _, err := os.Stat(file); err == nil {
		return drive, nil
	}
	if size == 0 {
		size = DefaultDisk
	}
	if state {
		return drive, MakeState(ctx, file, size)
	}
	return drive, createFile(file, size)
}

// OpenStick returns the drive for a stick: an image file, or a folder whose
// files are put on a new FAT stick labelled KEDGE at path.
func OpenStick(ctx context.Context, source, path string) (Drive, error) {
	info, err := os.Stat(source)
	if err != nil {
		return Drive{}, fmt.Errorf("open stick: %w", err)
	}
	if !info.IsDir() {
		return Drive{File: source, Bus: USB, ReadOnly: true}, nil
	}
	return Drive{File: path, Bus: USB}, MakeStick(ctx, path, "vfat", "KEDGE", source)
}
