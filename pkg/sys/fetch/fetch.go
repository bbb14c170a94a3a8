// Package fetch downloads over HTTP and HTTPS: with retries, resuming where a
// broken transfer stopped, and checking size and SHA-256 before the file gets
// its name. A part can be kept over the end of the process, see Options.Keep.
//
// Sizes are bytes. Source: RFC 9110, sections 13 (conditions) and 14 (ranges).
package fetch

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// Errors that trying again does not mend.
var (
	ErrTooLarge = errors.New("larger than allowed")
	ErrDigest   = errors.New("SHA-256 does not match")
	ErrStatus   = errors.New("refused by the server")
)

// Options change how a download is done; the zero value is safe.
type Options struct {
	SHA256   string                 // expected digest, hexadecimal; "" checks nothing
	Limit    int64                  // greatest size accepted; 0 means DefaultLimit
	Tries    int                    // attempts without progress before giving up; 0 means 5
	Delay    time.Duration          // before the second try, doubled up to 30 s; 0 means 1 s
	Stall    time.Duration          // a transfer that brings no byte for so long is broken off; 0 means 30 s
	Progress func(done, size int64) // called as bytes come in; size is -1 when unknown
	Pace     *Pace                  // how fast bytes may come; nil means as many as go

	// Begin is called before the first byte of a file is written, with its size,
	// -1 when the server does not tell, and how much of it is there already. An
	// error ends the download.
	Begin func(size, have int64) error

	// Keep makes File leave path.part when a transfer breaks for good, with a
	// mark that says where it is from; the next File from there goes on with it,
	// unless the source has changed. A whole file with a mark is not fetched
	// again while its source stays the same: the same ETag, or, where there is none,
	// the same time of change and size. Two at a time must not write the
	// same path.
	Keep bool

	Client *http.Client // nil means one with sane time-outs
}

// DefaultLimit bounds a download whose caller set no limit.
const DefaultLimit = 4 << 30

var client = &http.Client{Transport: &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
	TLSHandshakeTimeout:   15 * time.Second,
	ResponseHeaderTimeout: 30 * time.Second,
	IdleConnTimeout:       30 * time.Second,
	DisableCompression:    true, // ranges count the bytes of the file
}}

func (o Options) filled() Options {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.Delay == 0 {
		o.Delay = time.Second
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Pace == nil {
		o.Pace = &Pace{}
	}
	if o.Begin == nil {
		o.Begin = func(int64, int64) error { return nil }
	}
	if o.Client == nil {
		o.Client = client
	}
	o.SHA256 = strings.ToLower(o.SHA256)
	return o
}

// File downloads url to path. While it runs the bytes stand in path.part,
// which is removed when the download fails for good, unless it is to be kept;
// path itself appears only whole and checked. The error wraps ErrTooLarge,
// ErrDigest or ErrStatus when another try would not help; after ErrDigest
// nothing is kept. What is too large may be kept: the limit may be of the room
// there is now. See Forget.
func File(ctx context.Context, url, path string, o Options) error {
	o = o.filled()
	part, err := os.OpenFile(path+".part", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer part.Close()
	t := &transfer{url: url, to: part, sum: sha256.New(), o: o, size: -1}
	if err := t.file(ctx, path, part); err != nil {
		switch {
		case !o.Keep:
			os.Remove(part.Name())
		case errors.Is(err, errWrite) && errors.Is(err, syscall.ENOSPC):
			if back := t.done - spare; back <= 0 || part.Truncate(back) != nil {
				os.Remove(part.Name())
			}
		case errors.Is(err, ErrDigest), errors.Is(err, errWrite):
			err = errors.Join(err, Forget(path))
		case t.done == 0:
			os.Remove(part.Name())
		}
		return err
	}
	return nil
}

// spare is what a part gives back to a file system that it has filled, in bytes:
// others write there too.
const spare = 64 << 20

func (t *transfer) file(ctx context.Context, path string, part *os.File) error {
	begin := func() error { return t.restart(nil) }
	if t.o.Keep {
		t.begun = func() error { return t.renew(path) }
		begin = func() error { return t.resume(path, part) }
	}
	err := begin()
	if err == nil {
		err = t.run(ctx)
	}
	if errors.Is(err, errUnchanged) {
		return os.Remove(part.Name())
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", t.url, err)
	}
	if err := part.Sync(); err != nil {
		return fmt.Errorf("fetch %s: %w: %w", t.url, errWrite, err)
	}
	if err := os.Rename(part.Name(), filepath.Clean(path)); err != nil {
		return fmt.Errorf("fetch %s: %w", t.url, err)
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// renew makes ready for other content than that of an earlier download: the old
// file goes, and the mark of the new one is there before its first byte.
func (t *transfer) renew(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	if err := (mark{t.url, t.tag, t.size}).write(path); err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	return nil
}

// Bytes downloads a small thing into memory.
func Bytes(ctx context.Context, url string, o Options) ([]byte, error) {
	if o.Limit == 0 {
		o.Limit = 1 << 20
	}
	var m memory
	t := &transfer{url: url, to: &m, sum: sha256.New(), o: o.filled(), size: -1}
	if err := t.run(ctx); err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	return m, nil
}

// A target takes the bytes in order and can be shortened, for servers that
// cannot resume.
type target interface {
	io.Writer
	Truncate(int64) error
	Seek(int64, int) (int64, error)
}

// memory is a target.
type memory []byte

func (m *memory) Write(p []byte) (int, error)    { *m = append(*m, p...); return len(p), nil }
func (m *memory) Truncate(n int64) error         { *m = (*m)[:n]; return nil }
func (m *memory) Seek(int64, int) (int64, error) { return 0, nil }

type transfer struct {
	url   string
	to    target
	sum   hash.Hash
	o     Options
	done  int64
	size  int64        // of the whole file; -1 unknown
	tag   string       // what must not have changed when resuming
	whole mark         // of the file that is there whole; zero for none
	begun func() error // called when other content begins to come; nil for nothing
}

// errUnchanged means that the file that is there is what would be fetched.
var errUnchanged = errors.New("unchanged")

func (t *transfer) run(ctx context.Context) error {
	delay := t.o.Delay
	// A server that cannot resume starts again each time: what came before is no
	// progress when it comes once more.
	furthest := t.done
	for tries := t.o.Tries; ; {
		err := t.attempt(ctx)
		if err == nil {
			return t.check()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if permanent(err) {
			return err
		}
		if t.done > furthest {
			furthest, tries, delay = t.done, t.o.Tries, t.o.Delay
		}
		if tries--; tries <= 0 {
			return fmt.Errorf("give up after %d tries: %w", t.o.Tries, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(delay):
		}
		delay = min(2*delay, 30*time.Second)
	}
}

func permanent(err error) bool {
	for _, e := range []error{ErrTooLarge, ErrStatus, errWrite, errBegin, errUnchanged} {
		if errors.Is(err, e) {
			return true
		}
	}
	_, early := NotYetValid(err, time.Now())
	return errors.As(err, new(*tls.CertificateVerificationError)) && !early
}

// NotYetValid tells whether an error is that of a certificate which was made
// later than now, and when it was made. Then it is the clock that is wrong, and
// a time server may be about to set it.
func NotYetValid(err error, now time.Time) (made time.Time, ok bool) {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired || invalid.Cert == nil {
		return made, false
	}
	return invalid.Cert.NotBefore, now.Before(invalid.Cert.NotBefore)
}

func (t *transfer) check() error {
	if got := hex.EncodeToString(t.sum.Sum(nil)); t.o.SHA256 != "" && got != t.o.SHA256 {
		return fmt.Errorf("%w: got %s, want %s", ErrDigest, got, t.o.SHA256)
	}
	return nil
}

// attempt asks once for what is still missing.
func (t *transfer) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dog := time.AfterFunc(t.o.Stall, func() { cancel(errStall) })
	defer dog.Stop()
	err := t.ask(ctx, dog)
	if err != nil && errors.Is(context.Cause(ctx), errStall) {
		return fmt.Errorf("%w for %v", errStall, t.o.Stall)
	}
	return err
}

func (t *transfer) ask(ctx context.Context, dog *time.Timer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStatus, err)
	}
	req.Header.Set("User-Agent", "kedge")
	switch {
	case t.done > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.done))
		if t.tag != "" {
			req.Header.Set("If-Range", t.tag)
		}
	case strings.HasPrefix(t.whole.Tag, `"`):
		req.Header.Set("If-None-Match", t.whole.Tag)
	}
	// Where a time is all there is, If-Modified-Since would not tell of a file that
	// was replaced by an older one: the answer's head is compared instead.
	resp, err := t.o.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := t.begin(resp); err != nil {
		return err
	}
	return t.copy(ctx, resp.Body, dog)
}

// begin looks at the answer's head and makes ready for its body.
func (t *transfer) begin(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusPartialContent && t.done > 0:
		if err := t.continues(resp.Header.Get("Content-Range")); err != nil {
			return t.restart(err)
		}
		if err := t.cut(t.done); err != nil {
			return err
		}
	case code == http.StatusNotModified && t.whole.Tag != "":
		return errUnchanged
	case code == http.StatusOK:
		tag := resp.Header.Get("ETag")
		if strings.HasPrefix(tag, "W/") || tag == "" {
			tag = resp.Header.Get("Last-Modified")
		}
		if now := (mark{t.url, tag, resp.ContentLength}); tag != "" && now == t.whole {
			return errUnchanged
		}
		if err := t.restart(nil); err != nil {
			return err
		}
		t.size, t.tag, t.whole = resp.ContentLength, tag, mark{}
	case code == http.StatusRequestedRangeNotSatisfiable:
		return t.restart(fmt.Errorf("server answered %s", resp.Status))
	case code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooManyRequests:
		return fmt.Errorf("server answered %s", resp.Status)
	default:
		return fmt.Errorf("%w: %s", ErrStatus, resp.Status)
	}
	if t.begun != nil && t.done == 0 {
		if err := t.begun(); err != nil {
			return err
		}
	}
	if err := t.o.Begin(t.size, t.done); err != nil {
		return fmt.Errorf("%w%w", errBegin, err)
	}
	if t.size > t.o.Limit {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, t.size, t.o.Limit)
	}
	return nil
}

// continues says why a range is not what was asked for.
func (t *transfer) continues(text string) error {
	var from, to int64
	var total string
	if _, err := fmt.Sscanf(text, "bytes %d-%d/%s", &from, &to, &total); err != nil || from != t.done {
		return fmt.Errorf("server sent range %q, asked from %d", text, t.done)
	}
	if n, err := strconv.ParseInt(total, 10, 64); err == nil && t.size >= 0 && n != t.size {
		return fmt.Errorf("server now has %d bytes, it had %d", n, t.size)
	}
	return nil
}

// restart forgets what came so far and returns why.
func (t *transfer) restart(why error) error {
	t.done, t.size, t.tag = 0, -1, ""
	t.sum.Reset()
	if err := t.cut(0); err != nil {
		return err
	}
	return why
}

// cut makes the target end, and writing go on, after n bytes.
func (t *transfer) cut(n int64) error {
	if err := t.to.Truncate(n); err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	if _, err := t.to.Seek(n, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	return nil
}

var (
	errWrite = errors.New("write")
	errStall = errors.New("no data came in")
	errBegin = errors.New("") // it was the caller who ended it
)

func (t *transfer) copy(ctx context.Context, body io.Reader, dog *time.Timer) error {
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(t.o.Pace.Cut(buf))
		if t.done+int64(n) > t.o.Limit {
			return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, t.o.Limit)
		}
		if _, werr := t.to.Write(buf[:n]); werr != nil {
			return fmt.Errorf("%w: %w", errWrite, werr)
		}
		t.sum.Write(buf[:n])
		t.done += int64(n)
		t.o.Progress(t.done, t.size)
		switch {
		case err == io.EOF && t.size >= 0 && t.done < t.size:
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		dog.Stop() // what the pace holds back is no standstill
		if err := t.o.Pace.Wait(ctx, n); err != nil {
			return err
		}
		dog.Reset(t.o.Stall)
	}
}
