package qemu

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kedgeos/kedge/pkg/sys/process"
)

// MakeStick writes a file system with the files of folder dir into the new
// file image, as a config medium has it: kind vfat or iso9660, label KEDGE or
// cidata.
func MakeStick(ctx context.Context, image, kind, label, dir string) error {
	switch kind {
	case "vfat":
		return makeFAT(ctx, image, label, dir)
	case "iso9660":
		return tool(ctx, "xorrisofs", "-quiet", "-J", "-R", "-V", label, "-o", image, dir)
	}
	return fmt.Errorf("make %s: file system %q is not vfat or iso9660", image, kind)
}

// makeFAT makes a FAT file system that has room for the files and 16 MiB more.
func makeFAT(ctx context.Context, image, label, dir string) error {
	size := int64(16 << 20)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size() + 64<<10
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := createFile(image, size); err != nil {
		return err
	}
	if err := tool(ctx, "mkfs.vfat", "-n", label, image); err != nil {
		return err
	}
	entries, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(entries) == 0 {
		return err
	}
	return tool(ctx, "mcopy", append([]string{"-s", "-i", image}, append(entries, "::")...)...)
}

// MakeState makes the disk that keeps a machine's state: an empty ext4 of size
// bytes labelled KEDGE-STATE, in a sparse file.
func MakeState(ctx context.Context, image string, size int64) error {
	if err := createFile(image, size); err != nil {
		return err
	}
	return tool(ctx, "mkfs.ext4", "-q", "-F", "-L", "KEDGE-STATE", image)
}

// createFile makes a new sparse file of size bytes.
func createFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

var toolPackages = map[string]string{
	"mkfs.vfat": "dosfstools", "mcopy": "mtools", "xorrisofs": "xorriso", "mkfs.ext4": "e2fsprogs",
}

func tool(ctx context.Context, name string, args ...string) error {
	if _, err := process.Find(name); err != nil {
		return fmt.Errorf("find %s: %w (Debian package %s)", name, ErrMissing, toolPackages[name])
	}
	return process.Tool{Path: name, Args: args}.Run(ctx)
}
