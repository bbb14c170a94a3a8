// Package embed changes the configuration inside a finished image. It
// overwrites the bytes of the embed area and nothing else, so it takes
// milliseconds and the image's digests stay true.
package embed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/kedgeos/kedge/pkg/format/isoimage"
)

// Errors that callers tell apart, besides those of isoimage.
var (
	ErrInvalid = errors.New("config is not valid")
	ErrNoArea  = errors.New("image has no embed area")
)

// Set puts config, read from the file called name, into the image. Unless
// force is set, a config with problems is refused: they are returned with an
// error that wraps ErrInvalid. Other errors wrap isoimage.ErrEmbedTooLarge,
// isoimage.ErrFormat, isoimage.ErrTruncated or ErrNoArea.
func Set(image, name string, config []byte, force bool) (problems []string, err error) {
	area, err := isoimage.EncodeEmbed(config)
	if err != nil {
		return nil, fmt.Errorf("embed %s: %w", name, err)
	}
	if !force {
		if problems = validate(name, config); len(problems) > 0 {
			return problems, fmt.Errorf("embed %s: %w (%d wrong)", name, ErrInvalid, len(problems))
		}
	}
	return nil, write(image, area)
}

// Clear takes the config out of the image.
func Clear(image string) error {
	area, err := isoimage.EncodeEmbed(nil)
	if err != nil {
		return err
	}
	return write(image, area)
}

// Show returns the config in the image, nothing when there is none.
func Show(image string) ([]byte, error) {
	f, err := os.Open(image)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	defer f.Close()
	at, err := find(f)
	if err != nil {
		return nil, err
	}
	area := make([]byte, at.Size)
	if _, err := f.ReadAt(area, at.Offset); err != nil {
		return nil, fmt.Errorf("read %s: %w", image, err)
	}
	config, err := isoimage.DecodeEmbed(area)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", image, err)
	}
	return config, nil
}

func write(image string, area []byte) error {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	defer f.Close()
	at, err := find(f)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(area, at.Offset); err != nil {
		return fmt.Errorf("write %s: %w", image, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", image, err)
	}
	return f.Close()
}

// find returns the extent of the embed area; it works on image files and on
// devices that an image was written to.
func find(f *os.File) (isoimage.Extent, error) {
	size, err := f.Seek(0, 2)
	if err != nil {
		return isoimage.Extent{}, fmt.Errorf("measure %s: %w", f.Name(), err)
	}
	v, err := isoimage.ReadVolume(f)
	if err != nil {
		return isoimage.Extent{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if v.Size > size {
		return isoimage.Extent{}, fmt.Errorf("read %s: %w: it has %d of %d bytes", f.Name(), isoimage.ErrTruncated, size, v.Size)
	}
	at, err := isoimage.Find(f, size, isoimage.EmbedPath)
	if errors.Is(err, fs.ErrNotExist) {
		return at, fmt.Errorf("read %s: %w: it is not a Kedge image", f.Name(), ErrNoArea)
	}
	if err != nil {
		return at, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if at.Size != isoimage.EmbedSize {
		return at, fmt.Errorf("read %s: %w: the area has %d bytes instead of %d", f.Name(), ErrNoArea, at.Size, isoimage.EmbedSize)
	}
	return at, nil
}
