// Package fetch downloads over HTTP and HTTPS: with retries, resuming where a
// broken transfer stopped, and checking size and SHA-256 before the file gets
// its name.
//
// Sizes are bytes. Source: RFC 9110, sections 13 (conditions) and 14 (ranges).
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
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
	Client   *http.Client           // nil means one with sane time-outs
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
	if o.Client == nil {
		o.Client = client
	}
	o.SHA256 = strings.ToLower(o.SHA256)
	return o
}

// File downloads url to path. While it runs the bytes stand in path.part,
// which is removed when the download fails for good; path itself appears only
// whole and checked. The error wraps ErrTooLarge, ErrDigest or ErrStatus when
// another try would not help.
func File(ctx context.Context, url, path string, o Options) error {
	o = o.filled()
	part, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	defer part.Close()
	t := &transfer{url: url, to: part, sum: sha256.New(), o: o}
	if err := t.run(ctx); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return fmt.Errorf("fetch %s: %w", url, err)
	}
	return os.Rename(part.Name(), filepath.Clean(path))
}

// Bytes downloads a small thing into memory.
func Bytes(ctx context.Context, url string, o Options) ([]byte, error) {
	if o.Limit == 0 {
		o.Limit = 1 << 20
	}
	var m memory
	t := &transfer{url: url, to: &m, sum: sha256.New(), o: o.filled()}
	if err := t.run(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// A target takes the bytes in order and can be emptied, for servers that
// cannot resume.
type target interface {
	io.Writer
	Truncate(int64) error
	Seek(int64, int) (int64, error)
}

// memory is a target; it is only ever emptied whole.
type memory []byte

func (m *memory) Write(p []byte) (int, error)    { *m = append(*m, p...); return len(p), nil }
func (m *memory) Truncate(n int64) error         { *m = (*m)[:n]; return nil }
func (m *memory) Seek(int64, int) (int64, error) { return 0, nil }

type transfer struct {
	url  string
	to   target
	sum  hash.Hash
	o    Options
	done int64
	size int64  // of the whole file; -1 unknown
	tag  string // what must not have changed when resuming
}

func (t *transfer) run(ctx context.Context) error {
	delay := t.o.Delay
	for tries := t.o.Tries; ; {
		before := t.done
		err := t.attempt(ctx)
		if err == nil {
			return t.check()
		}
		if ctx.Err() != nil {
			return fmt.Errorf("fetch %s: %w", t.url, context.Cause(ctx))
		}
		if permanent(err) {
			return fmt.Errorf("fetch %s: %w", t.url, err)
		}
		if t.done > before {
			tries, delay = t.o.Tries, t.o.Delay
		}
		if tries--; tries <= 0 {
			return fmt.Errorf("fetch %s: %w", t.url, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("fetch %s: %w", t.url, context.Cause(ctx))
		case <-time.After(delay):
		}
		delay = min(2*delay, 30*time.Second)
	}
}

func permanent(err error) bool {
	return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrStatus) || errors.Is(err, errWrite)
}

func (t *transfer) check() error {
	if got := hex.EncodeToString(t.sum.Sum(nil)); t.o.SHA256 != "" && got != t.o.SHA256 {
		return fmt.Errorf("fetch %s: %w: got %s, want %s", t.url, ErrDigest, got, t.o.SHA256)
	}
	return nil
}

// attempt asks once for what is still missing.
func (t *transfer) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStatus, err)
	}
	req.Header.Set("User-Agent", "kedge")
	if t.done > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.done))
		if t.tag != "" {
			req.Header.Set("If-Range", t.tag)
		}
	}
	resp, err := t.o.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := t.begin(resp); err != nil {
		return err
	}
	return t.copy(resp.Body, cancel)
}

// begin looks at the answer's head and makes ready for its body.
func (t *transfer) begin(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusPartialContent && t.done > 0:
		var from, to int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d", &from, &to); err != nil || from != t.done {
			return t.restart(fmt.Errorf("server sent range %q, asked from %d", resp.Header.Get("Content-Range"), t.done))
		}
	case code == http.StatusOK:
		if err := t.restart(nil); err != nil {
			return err
		}
		t.size, t.tag = resp.ContentLength, resp.Header.Get("ETag")
		if strings.HasPrefix(t.tag, "W/") || t.tag == "" {
			t.tag = resp.Header.Get("Last-Modified")
		}
	case code == http.StatusRequestedRangeNotSatisfiable:
		return t.restart(fmt.Errorf("server answered %s", resp.Status))
	case code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooManyRequests:
		return fmt.Errorf("server answered %s", resp.Status)
	default:
		return fmt.Errorf("%w: %s", ErrStatus, resp.Status)
	}
	if t.size > t.o.Limit {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, t.size, t.o.Limit)
	}
	return nil
}

// restart forgets what came so far and returns why.
func (t *transfer) restart(why error) error {
	t.done, t.size, t.tag = 0, -1, ""
	t.sum.Reset()
	if err := t.to.Truncate(0); err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	if _, err := t.to.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	return why
}

var (
	errWrite = errors.New("write")
	errStall = errors.New("no data came in")
)

func (t *transfer) copy(body io.Reader, cancel context.CancelCauseFunc) error {
	watchdog := time.AfterFunc(t.o.Stall, func() { cancel(errStall) })
	defer watchdog.Stop()
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		watchdog.Reset(t.o.Stall)
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
	}
}
