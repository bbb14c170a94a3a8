// Package delta makes a new image out of what a machine has and the chunks that
// it lacks.
//
// It knows neither where an image comes from nor what vouches for it: the caller
// checks the result by its manifest. Sizes are bytes.
package delta

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kedgeos/kedge/pkg/api/chunk"
)

// Errors after which the whole image is the better way.
var (
	ErrNoGain = errors.New("too little is the same")
	ErrOther  = errors.New("the chunk index is of another image")
)

// Defaults of Options. A request costs about as much as the bytes of a small
// gap.
const (
	DefaultShare = 80
	gap          = 32 << 10
)

// A Source brings bytes of the new image.
type Source interface {
	// Range writes size bytes from a place on, in order.
	Range(ctx context.Context, from, size int64, w io.Writer) error
}

// A File is where the new image is put together. What it holds from an earlier
// time is used where it is right.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
}

// Options change how an image is put together; the zero value is safe.
type Options struct {
	Config []byte                  // the machine's own embed area; nil fetches that of the image
	Share  int64                   // greatest part that is worth fetching, per cent; 0 means DefaultShare
	Plan   func(fetch, size int64) // told before the first byte is fetched
	Bytes  func(done, fetch int64) // told as bytes come in
	Seed   func(n int, err error)  // told of a seed that could not be read to its end
}

// Rebuild puts the image of an index together in a file. Seeds are read one
// after the other until nothing is missing; what they hold may be anything. The
// error wraps ErrNoGain or ErrOther, or is of the source or the file; what is in
// the file then serves the next try.
func Rebuild(ctx context.Context, x chunk.Index, file File, seeds []io.Reader, from Source, o Options) error {
	if o.Share == 0 {
		o.Share = DefaultShare
	}
	r := &rebuild{index: x, file: file, o: o, size: x.Size(), have: make([]bool, len(x.Chunks)), at: make([]int64, len(x.Chunks)), where: map[chunk.Sum][]int{}}
	if err := r.recall(ctx); err != nil {
		return err
	}
	for n, seed := range seeds {
		if err := r.plant(ctx, seed); ctx.Err() != nil || errors.As(err, new(fileError)) {
			return err
		} else if err != nil && o.Seed != nil {
			o.Seed(n, err)
		}
	}
	if err := r.configure(); err != nil {
		return err
	}
	if err := r.fetch(ctx, from); err != nil {
		return err
	}
	return file.Sync()
}

// A fileError is about the file that is written.
type fileError struct{ error }

func (e fileError) Unwrap() error { return e.error }

type rebuild struct {
	index chunk.Index
	file  File
	o     Options
	size  int64
	have  []bool
	at    []int64             // where each chunk begins
	where map[chunk.Sum][]int // fixed chunks that are missing
	buf   []byte
}

// recall finds what an earlier try has left in the file.
func (r *rebuild) recall(ctx context.Context) error {
	r.buf = make([]byte, 1<<20)
	at := int64(0)
	for i, c := range r.index.Chunks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.at[i] = at
		at += c.Size
		if c.Kind != chunk.Fixed {
			continue
		}
		data := r.buf[:c.Size]
		if n, _ := r.file.ReadAt(data, r.at[i]); int64(n) == c.Size && chunk.SumOf(data) == c.Sum {
			r.have[i] = true
		} else {
			r.where[c.Sum] = append(r.where[c.Sum], i)
		}
	}
	// What one place has, others need not fetch.
	for i, c := range r.index.Chunks {
		if !r.have[i] || len(r.where[c.Sum]) == 0 {
			continue
		}
		data := r.buf[:c.Size]
		if _, err := r.file.ReadAt(data, r.at[i]); err != nil {
			return fileError{err}
		}
		if err := r.put(c.Sum, data); err != nil {
			return err
		}
	}
	if err := r.file.Truncate(r.size); err != nil {
		return fileError{err}
	}
	return nil
}

// put writes a chunk to all its places.
func (r *rebuild) put(sum chunk.Sum, data []byte) error {
	for _, i := range r.where[sum] {
		if _, err := r.file.WriteAt(data, r.at[i]); err != nil {
			return fileError{err}
		}
		r.have[i] = true
	}
	delete(r.where, sum)
	return nil
}

// plant takes what a seed has.
func (r *rebuild) plant(ctx context.Context, seed io.Reader) error {
	if len(r.where) == 0 {
		return nil
	}
	err := chunk.Split(seed, func(data []byte) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		sum := chunk.SumOf(data)
		if places := r.where[sum]; len(places) == 0 || r.index.Chunks[places[0]].Size != int64(len(data)) {
			return nil
		}
		if err := r.put(sum, data); err != nil || len(r.where) > 0 {
			return err
		}
		return errAll
	})
	if errors.Is(err, errAll) {
		return nil
	}
	return err
}

var errAll = errors.New("nothing is missing")

// configure puts the machine's own embed area in its place.
func (r *rebuild) configure() error {
	for i, c := range r.index.Chunks {
		if c.Kind != chunk.Config || c.Size != int64(len(r.o.Config)) {
			continue
		}
		if _, err := r.file.WriteAt(r.o.Config, r.at[i]); err != nil {
			return fileError{err}
		}
		r.have[i] = true
	}
	return nil
}

// A span is a row of chunks that is fetched at once.
type span struct {
	first, last int // both belong to it
	from, size  int64
}

// spans joins the chunks that are to be fetched, over small gaps.
func spans(chunks []chunk.Chunk, need []bool) (list []span) {
	at := int64(0)
	for i, c := range chunks {
		if need[i] {
			if n := len(list) - 1; n >= 0 && at-list[n].from-list[n].size <= gap {
				list[n].last, list[n].size = i, at+c.Size-list[n].from
			} else {
				list = append(list, span{i, i, at, c.Size})
			}
		}
		at += c.Size
	}
	return list
}

// need says which chunks are to be fetched: of those that are alike, the first.
func (r *rebuild) need() []bool {
	need := make([]bool, len(r.have))
	for i, c := range r.index.Chunks {
		need[i] = !r.have[i] && (c.Kind != chunk.Fixed || r.where[c.Sum][0] == i)
	}
	return need
}

func (r *rebuild) fetch(ctx context.Context, from Source) error {
	list := spans(r.index.Chunks, r.need())
	var total, done int64
	for _, s := range list {
		total += s.size
	}
	if total*100 > r.size*r.o.Share {
		return fmt.Errorf("%w: %d of %d bytes are not here", ErrNoGain, total, r.size)
	}
	if r.o.Plan != nil {
		r.o.Plan(total, r.size)
	}
	for _, s := range list {
		t := &taker{rebuild: r, next: s.first, told: func(n int) {
			done += int64(n)
			if r.o.Bytes != nil {
				r.o.Bytes(done, total)
			}
		}}
		if err := from.Range(ctx, s.from, s.size, t); err != nil {
			return err
		}
		if t.next != s.last+1 {
			return fmt.Errorf("fetch %d bytes from %d on: %w", s.size, s.from, io.ErrUnexpectedEOF)
		}
	}
	return nil
}

// A taker takes the bytes of a span chunk by chunk.
type taker struct {
	*rebuild
	next int
	part []byte
	told func(n int)
}

// Write implements io.Writer. The error wraps ErrOther.
func (t *taker) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if t.next == len(t.index.Chunks) {
			return 0, fmt.Errorf("%w: it has more bytes", ErrOther)
		}
		c := t.index.Chunks[t.next]
		n := min(int(c.Size)-len(t.part), len(p))
		t.part, p = append(t.part, p[:n]...), p[n:]
		if len(t.part) < int(c.Size) {
			break
		}
		if err := t.take(c); err != nil {
			return 0, err
		}
		t.part = t.part[:0]
		t.next++
	}
	t.told(written)
	return written, nil
}

func (t *taker) take(c chunk.Chunk) error {
	switch {
	case t.have[t.next]: // it lay in a gap
		return nil
	case c.Kind == chunk.Fixed:
		if chunk.SumOf(t.part) != c.Sum {
			return fmt.Errorf("%w: chunk %d, %d bytes from %d on", ErrOther, t.next, c.Size, t.at[t.next])
		}
		return t.put(c.Sum, t.part)
	}
	if _, err := t.file.WriteAt(t.part, t.at[t.next]); err != nil {
		return fileError{err}
	}
	t.have[t.next] = true
	return nil
}
