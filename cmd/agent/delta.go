package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/kedgeos/kedge/pkg/api/chunk"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/delta"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// partSuffix is what the file has behind its name while it is put together. It
// stays when that is cut off, and the next try goes on with it; see forget.
const partSuffix = ".delta"

// fetchDelta makes path the image that address leads to, by fetching only what
// the slots do not have. It says no, and leaves the whole download to the caller,
// when there is no chunk index or it is no good, when the server sends no parts
// of files, when there is no room beside what is here, and when too little is the
// same.
func (u *upgrader) fetchDelta(ctx context.Context, address, path string, o fetch.Options, w io.Writer) (bool, error) {
	at, err := url.Parse(address)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" {
		return false, nil
	}
	at.Path += chunk.Suffix
	no := func(why error) (bool, error) {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		fmt.Fprintf(w, "kedge: fetch: the whole image: %v\n", why)
		return false, os.RemoveAll(path + partSuffix)
	}
	ask := o
	ask.Limit, ask.Tries, ask.Progress, ask.Begin, ask.Keep = chunk.MaxIndex, 2, nil, nil, false
	b, err := fetch.Bytes(ctx, at.String(), ask)
	if errors.Is(err, fetch.ErrStatus) {
		return no(errors.New("no chunk index lies beside it"))
	}
	if err != nil {
		return no(err)
	}
	x, err := chunk.Decode(b)
	if err != nil {
		return no(err)
	}
	if limit, err := u.slots.SlotSize(slot.Other(u.running.Slot)); err == nil && x.Size() > limit {
		return no(fmt.Errorf("the chunk index is of an image of %d bytes: %w", x.Size(), update.ErrTooLarge))
	}
	if o.Begin != nil {
		// What an earlier try has put together lies in the same place.
		if err := o.Begin(x.Size(), fetch.Allocated(path+partSuffix)); err != nil {
			return no(err)
		}
	}
	from := &webSource{url: address, o: o}
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

func (u *upgrader) rebuild(ctx context.Context, x chunk.Index, to string, from *webSource, old string, w io.Writer) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	config, err := u.embedded()
	if err != nil {
		return err
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
		Bytes: func(n, _ int64) { report(n) },
		Seed:  func(_ int, err error) { fmt.Fprintf(w, "kedge: fetch: read what is here: %v\n", err) },
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
		err = i.Verify(ctx, nil)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errNotWhole, err)
	}
	return err
}

// webSource is an image on a server.
type webSource struct {
	url    string
	o      fetch.Options
	came   arrival // of any part
	failed bool    // a part
}

// An arrival tells whether a byte came.
type arrival bool

// Write implements io.Writer.
func (a *arrival) Write(p []byte) (int, error) {
	*a = *a || len(p) > 0
	return len(p), nil
}

// Range implements delta.Source.
func (s *webSource) Range(ctx context.Context, from, size int64, w io.Writer) error {
	o := s.o
	o.Progress, o.Begin, o.Keep = nil, nil, false
	err := fetch.Range(ctx, s.url, from, size, io.MultiWriter(&s.came, w), o)
	s.failed = err != nil
	return err
}
