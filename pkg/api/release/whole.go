package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/kedgeos/kedge/pkg/format/isoimage"
)

// Whole vouches for every byte of an image, in its signature's trusted comment.
// The manifest alone vouches for the files that we find, and another reader of
// the same image may find others: GRUB and Linux have their own rules which of an
// ISO's trees of folders counts, and they read the kernel.
type Whole struct {
	SHA256  string            // of the image, with zero bytes in the places below
	Without []isoimage.Extent // the signature, and the embed area if there is one
}

// String returns the words that stand at the end of a trusted comment.
func (w Whole) String() string {
	places := make([]string, len(w.Without))
	for i, x := range w.Without {
		places[i] = fmt.Sprintf("%d+%d", x.Offset, x.Size)
	}
	return fmt.Sprintf("sha256 %s without %s", w.SHA256, strings.Join(places, ","))
}

var wholeWords = regexp.MustCompile(`(?:^| )sha256 ([0-9a-f]{64}) without ([0-9]{1,12}\+[0-9]{1,12}(?:,[0-9]{1,12}\+[0-9]{1,12})*)$`)

// ErrPartial means that a signature vouches for an image's manifest alone.
var ErrPartial = errors.New("signature is not of the whole image")

// ParseWhole reads a trusted comment. The error is ErrPartial.
func ParseWhole(comment string) (Whole, error) {
	words := wholeWords.FindStringSubmatch(comment)
	if words == nil {
		return Whole{}, fmt.Errorf("%w: its trusted comment is %q", ErrPartial, comment)
	}
	w := Whole{SHA256: words[1]}
	for _, place := range strings.Split(words[2], ",") {
		offset, size, _ := strings.Cut(place, "+")
		var x isoimage.Extent
		x.Offset, _ = strconv.ParseInt(offset, 10, 64) // twelve digits always fit
		x.Size, _ = strconv.ParseInt(size, 10, 64)
		w.Without = append(w.Without, x)
	}
	return w, nil
}

// Whole reads the image, and returns what a signature has to say of it. Progress,
// if not nil, hears of bytes as they are read.
func (i *Image) Whole(ctx context.Context, progress func(bytes int64)) (Whole, error) {
	var w Whole
	for _, name := range []string{SignaturePath, isoimage.EmbedPath[1:]} {
		x, err := i.Extent(name)
		if errors.Is(err, fs.ErrNotExist) { // Kubernetes alone has no configuration
			continue
		}
		if err != nil {
			return w, err
		}
		w.Without = append(w.Without, x)
	}
	var err error
	w.SHA256, err = i.sum(ctx, w.Without, progress)
	return w, err
}

// sum returns the digest of the image with zero bytes in some places.
func (i *Image) sum(ctx context.Context, without []isoimage.Extent, progress func(int64)) (string, error) {
	all := i.bytes
	for _, x := range without {
		all = patched{all, x.Offset, make([]byte, min(x.Size, i.Size))}
	}
	return digest(ctx, io.NewSectionReader(all, 0, i.Size), progress)
}

// digest reads to the end.
func digest(ctx context.Context, r io.Reader, progress func(int64)) (string, error) {
	h := sha256.New()
	for chunk := make([]byte, 1<<20); ; {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := r.Read(chunk)
		h.Write(chunk[:n])
		if progress != nil {
			progress(int64(n))
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// Expect makes Verify hold the image to what the signature of another one said,
// whose copy it is.
func (i *Image) Expect(other *Image) { i.vouched = other.vouched }
