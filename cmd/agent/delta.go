package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"

	"github.com/kedgeos/kedge/pkg/api/chunk"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/node/delta"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// partSuffix is what the file has behind its name while it is put together. It
// stays when that is cut off, and the next try goes on with it; see forget.
const partSuffix = ".delta"

// An origin is where an image lies, perhaps with a chunk index of it.
type origin interface {
	delta.Source
	// index returns the chunk index. The error says why there is none.
	index(ctx context.Context) (chunk.Index, error)
	// prove says why an image that was put together, perhaps with this embed area in
	// the place of its own, is not the one that lies there.
	prove(ctx context.Context, i *release.Image, area []byte) error
}

// errNoIndex means that nobody has published an index of an image.
var errNoIndex = errors.New("no chunk index lies beside it")

// fetchDelta makes path the image that lies at an origin, by fetching only what
// the slots do not have. It says no, and leaves the whole download to the caller,
// when there is no chunk index or it is no good, when the server sends no parts
// of files, when there is no room beside what is here, and when too little is the
// same. Begin, if not nil, is asked for room, as a download asks it.
func (u *upgrader) fetchDelta(ctx context.Context, at origin, path string, begin func(size, have int64) error, w io.Writer) (bool, error) {
	no := func(why error) (bool, error) {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		fmt.Fprintf(w, "kedge: fetch: the whole image: %v\n", why)
		return false, os.RemoveAll(path + partSuffix)
	}
	x, err := at.index(ctx)
	if err != nil {
		return no(err)
	}
	if limit, err := u.slots.SlotSize(slot.Other(u.running.Slot)); err == nil && x.Size() > limit {
		return no(fmt.Errorf("the chunk index is of an image of %d bytes: %w", x.Size(), update.ErrTooLarge))
	}
	if begin != nil {
		// What an earlier try has put together lies in the same place.
		if err := begin(x.Size(), fetch.Allocated(path+partSuffix)); err != nil {
			return no(err)
		}
	}
	from := &watched{origin: at}
	err = u.rebuild(ctx, x, path+partSuffix, from, path, w)
	switch {
	case err == nil:
		if err := fetch.Forget(path); err != nil { // a part or a whole of something else
			return false, err
		}
		return true, os.Rename(path+partSuffix, path)
	case errors.Is(err, delta.ErrNoGain), errors.Is(err, delta.ErrOther), errors.Is(err, fetch.ErrNoRange),
		errors.Is(err, fetch.ErrStatus), errors.Is(err, errNotWhole):
		return no(err)
	case from.failed && !bool(from.came):
		// There are servers, and what stands before them, that have trouble with parts
		// alone.
		return no(err)
	}
	return false, err
}

// errNotWhole means that an index led to something that its image is not.
var errNotWhole = errors.New("the chunk index leads to another image")

func (u *upgrader) rebuild(ctx context.Context, x chunk.Index, to string, from *watched, old string, w io.Writer) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	config, err := u.embedded()
	if err != nil {
		config = nil // that of the image serves for now; who writes the slot says what is wrong
	}
	seeds, done := u.slots.Seeds(u.running, x.Size(), old)
	defer done()
	var report func(int64)
	err = delta.Rebuild(ctx, x, f, seeds, from, delta.Options{
		Config: config,
		Plan: func(n, size int64) {
			fmt.Fprintf(w, "kedge: fetch: %.1f of %.1f MB changed\n", float64(n)/1e6, float64(size)/1e6)
			report = newShare(w, "fetch", n)
		},
		Bytes: func(n, total int64) {
			report(n)
			u.tell("fetch", n, total)
		},
		Seed: func(_ int, err error) { fmt.Fprintf(w, "kedge: fetch: read what is here: %v\n", err) },
	})
	if err != nil {
		return err
	}
	// What the index said is not signed. When it lied, the whole image may still
	// be good.
	i, err := release.Open(f, x.Size())
	if err == nil && i.Manifest.ID != x.ID {
		err = fmt.Errorf("release %s instead of %s", i.Manifest.ID, x.ID)
	}
	if err == nil {
		err = from.prove(ctx, i, config)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errNotWhole, err)
	}
	return err
}

// watched is an origin and how its parts come.
type watched struct {
	origin
	came   arrival // of any part
	failed bool    // a part
}

// Range implements delta.Source.
func (s *watched) Range(ctx context.Context, from, size int64, w io.Writer) error {
	err := s.origin.Range(ctx, from, size, io.MultiWriter(&s.came, w))
	s.failed = err != nil
	return err
}

// An arrival tells whether a byte came.
type arrival bool

// Write implements io.Writer.
func (a *arrival) Write(p []byte) (int, error) {
	*a = *a || len(p) > 0
	return len(p), nil
}

// onWeb is the origin of an image with a URL; its index lies beside it.
type onWeb struct {
	url string
	o   fetch.Options
}

func (s *onWeb) index(ctx context.Context) (x chunk.Index, err error) {
	at, err := url.Parse(s.url)
	if err != nil {
		return x, err
	}
	at.Path += chunk.Suffix
	o := s.o
	o.Limit, o.Tries, o.Progress, o.Begin, o.Keep = chunk.MaxIndex, 2, nil, nil, false
	b, err := fetch.Bytes(ctx, at.String(), o)
	if errors.Is(err, fetch.ErrStatus) {
		return x, errNoIndex
	}
	if err != nil {
		return x, err
	}
	return chunk.Decode(b)
}

// Range implements delta.Source.
func (s *onWeb) Range(ctx context.Context, from, size int64, w io.Writer) error {
	o := s.o
	o.Progress, o.Begin, o.Keep = nil, nil, false
	return fetch.Range(ctx, s.url, from, size, w, o)
}

// A URL vouches for nothing: the image must be what its manifest says.
func (s *onWeb) prove(ctx context.Context, i *release.Image, _ []byte) error {
	return i.Verify(ctx, nil)
}

// inRegistry is the origin of an image in a registry; its index refers to it.
type inRegistry struct{ *registry.Remote }

func (s inRegistry) index(ctx context.Context) (x chunk.Index, err error) {
	b, err := s.Attached(ctx, registry.ChunksType, chunk.MaxIndex)
	if errors.Is(err, registry.ErrNotFound) {
		return x, errNoIndex
	}
	if err != nil {
		return x, err
	}
	if x, err = chunk.Decode(b); err == nil && x.Size() != s.Size {
		err = fmt.Errorf("%w: it has %d bytes, not %d", delta.ErrOther, s.Size, x.Size())
	}
	return x, err
}

// A reference may be a digest, and somebody may have signed other images: this
// one must be the layer, byte for byte, with the layer's embed area in the place
// of this machine's.
func (s inRegistry) prove(ctx context.Context, i *release.Image, area []byte) error {
	has, err := i.Embedded()
	if errors.Is(err, fs.ErrNotExist) || err == nil && (len(has) == 0 || !bytes.Equal(has, area)) {
		return s.compare(ctx, i, isoimage.Extent{}, nil)
	}
	if err != nil {
		return err
	}
	at, err := i.Extent(isoimage.EmbedPath[1:])
	if err != nil {
		return err
	}
	its, err := isoimage.EncodeEmbed(nil) // that of most, which need not be fetched
	if err != nil {
		return err
	}
	if err := s.compare(ctx, i, at, its); !errors.Is(err, registry.ErrDigest) {
		return err
	}
	var b bytes.Buffer
	if err := s.Range(ctx, at.Offset, at.Size, &b); err != nil {
		return err
	}
	return s.compare(ctx, i, at, b.Bytes())
}

// compare says whether an image is the layer once an area of it is replaced. The
// error wraps registry.ErrDigest.
func (s inRegistry) compare(ctx context.Context, i *release.Image, at isoimage.Extent, area []byte) error {
	r, h := i.Reader(), sha256.New()
	for _, part := range []io.Reader{io.NewSectionReader(r, 0, at.Offset), bytes.NewReader(area), io.NewSectionReader(r, at.Offset+at.Size, i.Size-at.Offset-at.Size)} {
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if _, err := io.CopyN(h, part, 1<<20); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != s.Layer {
		return fmt.Errorf("%w: got %s, want %s", registry.ErrDigest, got, s.Layer)
	}
	return nil
}
