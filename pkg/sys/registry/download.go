package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// overlap is how much of a part from an earlier time is asked for again, in
// bytes: it shows whether the part belongs to this image.
const overlap = 64 << 10

// A writeError is about the file here, not about where its bytes come from.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

// locate resolves. A source that is not the last one is asked only once what it has.
func locate(ctx context.Context, s source, arch string, o Options, last bool) (t target, err error) {
	if !last {
		o.Tries = 1
	}
	err = o.again(ctx, func() (_ bool, err error) {
		t, err = resolve(ctx, s, arch)
		return false, err
	})
	return t, err
}

// pull resolves and downloads.
func pull(ctx context.Context, s source, arch, file string, o Options, last bool) (string, error) {
	t, err := locate(ctx, s, arch, o, last)
	if err != nil {
		return "", err
	}
	return t.digest.String(), save(ctx, s, t.layer, file, o)
}

// A download fills the part of a file.
type download struct {
	source source
	layer  v1.Descriptor
	part   *os.File
	done   int64  // bytes of the part that are ours
	tail   []byte // what stands in the part after them, still to be compared
	old    bool   // some of it is from an earlier time
	o      Options
}

// save brings the layer into the file.
func save(ctx context.Context, s source, layer v1.Descriptor, file string, o Options) error {
	if whole(ctx, file, layer) {
		o.Progress(layer.Size, layer.Size)
		return nil
	}
	part, err := os.OpenFile(file+".part", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return writeError{final{err}}
	}
	defer part.Close()
	d := &download{source: s, layer: layer, part: part, o: o}
	if err = d.find(); err == nil {
		err = d.begin()
	}
	if err == nil {
		err = d.run(ctx)
	}
	if err == nil {
		err = d.finish(file)
	}
	if errors.Is(err, ErrDigest) || errors.As(err, new(writeError)) {
		return errors.Join(err, os.Remove(part.Name()))
	}
	return err
}

// whole tells whether a file is the layer already.
func whole(ctx context.Context, file string, layer v1.Descriptor) bool {
	info, err := os.Stat(file)
	if err != nil || info.Size() != layer.Size {
		return false
	}
	l, err := newLayer(ctx, file)
	return err == nil && l.about.Digest == layer.Digest
}

// begin asks whether the download is wanted. An empty part is not left behind.
func (d *download) begin() error {
	err := d.o.Begin(d.layer.Size, d.done+int64(len(d.tail)))
	if err != nil && d.done == 0 {
		err = errors.Join(err, os.Remove(d.part.Name()))
	}
	if err != nil {
		return refusal{final{err}}
	}
	return nil
}

// A refusal is the caller's: another source would be refused too.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// find looks at what an earlier download has left.
func (d *download) find() error {
	size, err := d.part.Seek(0, io.SeekEnd)
	if err != nil {
		return writeError{final{err}}
	}
	if size < overlap || size > d.layer.Size {
		return d.restart()
	}
	d.tail, d.old = make([]byte, overlap), true
	d.done = size - overlap
	if _, err := d.part.ReadAt(d.tail, d.done); err != nil {
		return d.restart()
	}
	return nil
}

// restart forgets all that came so far.
func (d *download) restart() error {
	d.done, d.tail, d.old = 0, nil, false
	if err := d.part.Truncate(0); err != nil {
		return writeError{final{err}}
	}
	return nil
}

// run downloads what is missing and checks the whole; when a part of an earlier
// time was wrong, once more from the start.
func (d *download) run(ctx context.Context) error {
	first := true
	err := d.o.again(ctx, func() (bool, error) {
		if !first {
			if err := d.begin(); err != nil {
				return false, err
			}
		}
		first = false
		return d.attempt(ctx)
	})
	if err != nil {
		return err
	}
	err = d.check(ctx)
	if !errors.Is(err, ErrDigest) || !d.old {
		return err
	}
	if err := d.restart(); err != nil {
		return err
	}
	return d.run(ctx)
}

// attempt asks once for what is missing.
func (d *download) attempt(ctx context.Context) (progress bool, err error) {
	before := d.done
	if d.done+int64(len(d.tail)) == d.layer.Size {
		return false, nil
	}
	body, err := d.source.blob(ctx, d.layer, d.done)
	if err != nil {
		return false, err
	}
	defer body.Close()
	if err := d.compare(body); err != nil {
		return false, err
	}
	err = d.copy(body)
	return d.done > before, err
}

// compare reads the tail again.
func (d *download) compare(body io.Reader) error {
	if d.tail == nil {
		return nil
	}
	got := make([]byte, len(d.tail))
	if _, err := io.ReadFull(body, got); err != nil {
		return err
	}
	if !bytes.Equal(got, d.tail) {
		if err := d.restart(); err != nil {
			return err
		}
		return fmt.Errorf("continue %s: it is a part of something else", d.part.Name())
	}
	d.done, d.tail = d.done+int64(len(d.tail)), nil
	return nil
}

func (d *download) copy(body io.Reader) error {
	chunk := make([]byte, 128<<10)
	for {
		n, err := body.Read(chunk)
		if d.done+int64(n) > d.layer.Size {
			return fmt.Errorf("%w: more than %d bytes came", ErrDigest, d.layer.Size)
		}
		if _, err := d.part.WriteAt(chunk[:n], d.done); err != nil {
			return writeError{final{err}}
		}
		d.done += int64(n)
		d.o.Progress(d.done, d.layer.Size)
		switch {
		case d.done == d.layer.Size:
			return nil
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
}

// check reads the whole part from the disk.
func (d *download) check(ctx context.Context) error {
	h := sha256.New()
	if _, err := copyBytes(ctx, h, io.NewSectionReader(d.part, 0, d.layer.Size), nil); err != nil {
		return fmt.Errorf("read %s: %w", d.part.Name(), err)
	}
	if got := hexHash(h); got != d.layer.Digest {
		return fmt.Errorf("%w: got %s, want %s", ErrDigest, got, d.layer.Digest)
	}
	return nil
}

// finish gives the part its name.
func (d *download) finish(file string) error {
	d.o.Progress(d.layer.Size, d.layer.Size)
	err := d.part.Sync()
	if err == nil {
		err = os.Rename(d.part.Name(), file)
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(file))
	}
	if err != nil {
		return writeError{final{err}}
	}
	return nil
}
