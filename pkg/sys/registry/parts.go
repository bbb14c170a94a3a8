package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// A Remote is an OS image in a registry, to be read in parts.
type Remote struct {
	Digest string // what the reference stands for, of an index or of an image
	Layer  string // digest of the OS image: sha256: and its SHA-256
	Size   int64  // of the OS image

	target  target
	sources []*repository // that may have it; the first one does
	o       Options
}

// Find looks for the OS image that Pull would bring: the mirrors are asked, and
// errors are, as there. Close ends the connections.
func Find(ctx context.Context, ref, arch string, o Options) (*Remote, error) {
	o = o.filled(30 * time.Second)
	sources, err := open(ref, o)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref, err)
	}
	r := &Remote{o: o}
	for _, s := range sources {
		at, ok := s.(*repository)
		if !ok {
			return nil, fmt.Errorf("pull %s: it is in no registry", ref)
		}
		r.sources = append(r.sources, at)
	}
	var mirrors string
	for {
		s, last := r.sources[0], len(r.sources) == 1
		if r.target, err = locate(ctx, s, arch, o, last); err == nil {
			r.Digest, r.Layer, r.Size = r.target.digest.String(), r.target.layer.Digest.String(), r.target.layer.Size
			return r, nil
		}
		if last || ctx.Err() != nil {
			r.Close()
			return nil, fmt.Errorf("pull %s: %w%s", ref, err, mirrors)
		}
		mirrors += fmt.Sprintf(" (mirror %s: %v)", s, err)
		r.next()
	}
}

// next leaves the first source.
func (r *Remote) next() {
	r.sources[0].close()
	r.sources = r.sources[1:]
}

// Close ends the connections.
func (r *Remote) Close() {
	for _, s := range r.sources {
		s.close()
	}
}

// Attached returns what of a kind is attached to the image, see Attach; the
// registry may have it when a mirror has not. More than limit bytes are not read.
// The error wraps ErrNotFound when the last one that was asked has nothing.
func (r *Remote) Attached(ctx context.Context, kind types.MediaType, limit int64) (b []byte, err error) {
	ask := r.o
	ask.Tries = min(ask.Tries, 2)
	for i, s := range r.sources {
		if i > 0 {
			ask.Tries = 1 // the image itself may need nobody else
		}
		err = ask.again(ctx, func() (_ bool, err error) {
			b, err = s.attached(ctx, r.target.image.Digest, kind, limit)
			return false, err
		})
		if err == nil || ctx.Err() != nil {
			return b, err
		}
	}
	return nil, err
}

// Range writes size bytes of the OS image from a place on, in order. A transfer
// that breaks goes on where it stopped, at the next source if it must. The error
// wraps fetch.ErrNoRange when asking again would not help, or is the writer's.
func (r *Remote) Range(ctx context.Context, from, size int64, w io.Writer) error {
	to := &sink{w: w}
	for {
		err := r.o.again(ctx, func() (bool, error) {
			before := to.n
			err := r.sources[0].part(ctx, r.target.layer, from+before, size-before, to)
			return to.n > before, err
		})
		switch {
		case err == nil:
			return nil
		case to.err != nil:
			return to.err
		case ctx.Err() != nil:
			return err
		case len(r.sources) > 1:
			r.next()
		case !temporary(err) && !errors.Is(err, fetch.ErrNoRange):
			return fmt.Errorf("%w: %w", fetch.ErrNoRange, err)
		default:
			return err
		}
	}
}

// A sink remembers how much a writer has taken, and why it took no more.
type sink struct {
	w   io.Writer
	n   int64
	err error
}

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	if err != nil {
		s.err = err
		err = final{err}
	}
	return n, err
}

// part asks once for some bytes of a blob.
func (r *repository) part(ctx context.Context, d v1.Descriptor, from, size int64, w io.Writer) error {
	resp, err := r.bytes(ctx, d, from, size)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent && size < d.Size {
		return final{fetch.ErrNoRange}
	}
	if _, err := begin(resp, d.Size, from); err != nil {
		return err
	}
	if _, err = io.CopyN(w, resp.Body, size); errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
