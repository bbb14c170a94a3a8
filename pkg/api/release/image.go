package release

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/minisign"
)

// Folders and files of the boot loader for a disk that the system is installed
// to. Core and boot image are for BIOS.
const (
	LoadersPath   = "kedge/boot"
	CoreImagePath = LoadersPath + "/core.img"
	BootImagePath = LoadersPath + "/boot.img"
	SlotConfig    = "boot/grub/slot.cfg" // how this image is started from a slot
)

// EFILoader returns the loader's path for an architecture's UEFI, in the image
// and on the EFI system partition.
func EFILoader(arch string) (inImage, onDisk string) {
	name := map[string]string{"amd64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}[arch]
	return LoadersPath + "/" + name, "EFI/BOOT/" + name
}

// ErrDamaged means that an image is not what its manifest says.
var ErrDamaged = errors.New("image is damaged")

// maxManifest bounds what is read of an image before anything vouches for it,
// in bytes.
const maxManifest = 1 << 20

// An Image is a release in its ISO form, at the start of a file, a medium or a
// slot.
type Image struct {
	Manifest Manifest
	Size     int64 // bytes; what it lies on may be larger

	bytes    io.ReaderAt
	manifest []byte // as Manifest was read; a medium may say something else the next time
	vouched  *Whole // what a trusted signature says; nil for none
}

// Open reads the manifest of the image at the start of r, which has size bytes.
// The error wraps isoimage.ErrFormat, isoimage.ErrTruncated, fs.ErrNotExist or
// ErrManifest.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	v, err := isoimage.ReadVolume(r)
	if err != nil {
		return nil, err
	}
	if v.ID != VolumeID {
		return nil, fmt.Errorf("volume is %q, not %q: %w", v.ID, VolumeID, isoimage.ErrFormat)
	}
	i := &Image{Size: wholeSize(r, v.Size), bytes: r}
	if i.Size > size {
		return nil, fmt.Errorf("%w: it has %d of %d bytes", isoimage.ErrTruncated, size, i.Size)
	}
	b, err := i.small(ManifestPath)
	if err != nil {
		return nil, err
	}
	i.manifest = b
	i.Manifest, err = Decode(b)
	return i, err
}

// small reads a file of which nothing is known yet.
func (i *Image) small(name string) ([]byte, error) {
	f, err := i.File(name)
	if err != nil {
		return nil, err
	}
	if f.Size() > maxManifest {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrManifest, name, f.Size())
	}
	return io.ReadAll(f)
}

// ErrUnsigned means that an image has no signature.
var ErrUnsigned = errors.New("image is not signed")

// VerifySignature says whether one of the keys has signed the image, which Verify
// is held to from then on. It returns what the trusted comment of the signature
// says before that. The error wraps ErrUnsigned, ErrPartial, or those of minisign.
func (i *Image) VerifySignature(keys []minisign.PublicKey) (comment string, err error) {
	area, err := i.small(SignaturePath)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.Trim(area, "\x00")) == 0 {
		return "", ErrUnsigned
	}
	if err != nil {
		return "", err
	}
	signature, err := minisign.ParseSignature(bytes.TrimRight(area, "\x00"))
	if err != nil {
		return "", fmt.Errorf("read signature: %w", err)
	}
	if err := signature.Verify(keys, bytes.NewReader(i.manifest)); err != nil {
		return "", fmt.Errorf("verify signature of %s: %w", ManifestPath, err)
	}
	whole, err := ParseWhole(signature.TrustedComment)
	if err != nil {
		return "", err
	}
	i.vouched = &whole
	return strings.TrimSpace(strings.TrimSuffix(signature.TrustedComment, whole.String())), nil
}

// Embedded returns the embed area of the image, as it is.
func (i *Image) Embedded() ([]byte, error) { return i.small(isoimage.EmbedPath[1:]) }

// SetEmbedded makes Reader return another embed area; nothing is written. The
// area must have the size of the one that is there.
func (i *Image) SetEmbedded(area []byte) error {
	at, err := isoimage.Find(i.bytes, i.Size, isoimage.EmbedPath)
	if err != nil {
		return err
	}
	if int64(len(area)) != at.Size {
		return fmt.Errorf("replace embed area: %d bytes for an area of %d", len(area), at.Size)
	}
	i.bytes = patched{i.bytes, at.Offset, area}
	return nil
}

// Withhold returns the image without the 512 bytes that make it one, and these
// with their offset. Who writes them last, when the rest is on the disk, has the
// image there all at once: a disk writes them whole or not at all.
func (i *Image) Withhold() (rest *Image, offset int64, withheld []byte, err error) {
	const size = 512
	withheld = make([]byte, size)
	if _, err := i.bytes.ReadAt(withheld, isoimage.VolumeOffset); err != nil {
		return nil, 0, nil, fmt.Errorf("read volume descriptor: %w", err)
	}
	without := *i
	without.bytes = patched{i.bytes, isoimage.VolumeOffset, make([]byte, size)}
	return &without, isoimage.VolumeOffset, withheld, nil
}

// patched is an image of which some bytes are others.
type patched struct {
	io.ReaderAt
	offset int64
	data   []byte
}

// ReadAt implements io.ReaderAt.
func (p patched) ReadAt(b []byte, at int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, at)
	from, to := max(at, p.offset), min(at+int64(n), p.offset+int64(len(p.data)))
	if from < to {
		copy(b[from-at:to-at], p.data[from-p.offset:to-p.offset])
	}
	return n, err
}

// wholeSize is the size of a hybrid image: its partition table names the last
// block (UEFI Specification 2.10, section 5.3.2). Without one it is that of the
// file system.
func wholeSize(r io.ReaderAt, volume int64) int64 {
	const block = 512
	header := make([]byte, 40)
	if _, err := r.ReadAt(header, block); err != nil || string(header[:8]) != "EFI PART" {
		return volume
	}
	last := binary.LittleEndian.Uint64(header[32:])
	if last > 1<<40 {
		return volume
	}
	return max(volume, (int64(last)+1)*block)
}

// File returns the content of a file of the image. The error wraps
// fs.ErrNotExist.
func (i *Image) File(name string) (*io.SectionReader, error) {
	at, err := isoimage.Find(i.bytes, i.Size, "/"+name)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(i.bytes, at.Offset, at.Size), nil
}

// Extent returns where in the image a file lies. The error wraps fs.ErrNotExist.
func (i *Image) Extent(name string) (isoimage.Extent, error) {
	return isoimage.Find(i.bytes, i.Size, "/"+name)
}

// Reader returns the bytes of the whole image.
func (i *Image) Reader() *io.SectionReader { return io.NewSectionReader(i.bytes, 0, i.Size) }

// Verify reads the whole image, when VerifySignature has said what it must be;
// else every file that the manifest vouches for. Progress, if not nil, hears of
// bytes as they are read, Total in all. The error wraps ErrDamaged, or is that of
// reading.
func (i *Image) Verify(ctx context.Context, progress func(bytes int64)) error {
	if i.vouched == nil {
		return i.verifyFiles(ctx, progress)
	}
	sum, err := i.sum(ctx, i.vouched.Without, progress)
	if err != nil || sum == i.vouched.SHA256 {
		return err
	}
	if err := i.verifyFiles(ctx, nil); err != nil { // which says where
		return err
	}
	return fmt.Errorf("verify image: %w: its files are sound, but its SHA-256 as a whole is %s, its signature says %s", ErrDamaged, sum, i.vouched.SHA256)
}

func (i *Image) verifyFiles(ctx context.Context, progress func(int64)) error {
	for _, f := range i.Manifest.all() {
		if err := i.verify(ctx, f, progress); err != nil {
			return fmt.Errorf("verify %s: %w", path.Join("/", f.Path), err)
		}
	}
	return nil
}

func (i *Image) verify(ctx context.Context, f File, progress func(int64)) error {
	r, err := i.File(f.Path)
	if err != nil {
		return err
	}
	if r.Size() != f.Size {
		return fmt.Errorf("%w: it has %d bytes, its manifest says %d", ErrDamaged, r.Size(), f.Size)
	}
	sum, err := digest(ctx, r, progress)
	if err != nil {
		return err
	}
	if sum != f.SHA256 {
		return fmt.Errorf("%w: SHA-256 is %s, its manifest says %s", ErrDamaged, sum, f.SHA256)
	}
	return nil
}

// Total returns the bytes that Verify reads.
func (i *Image) Total() (n int64) {
	if i.vouched != nil {
		return i.Size
	}
	for _, f := range i.Manifest.all() {
		n += f.Size
	}
	return n
}
