package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ErrNoRange means that a server sends whole files only.
var ErrNoRange = errors.New("server sends no parts of a file")

// Range downloads size bytes of what url leads to, from a place on, and writes
// them in order. A broken transfer goes on where it stopped. Progress hears of
// these bytes only; SHA256 and Limit are not looked at. The error wraps
// ErrNoRange or ErrStatus when another try would not help, or is the writer's.
func Range(ctx context.Context, url string, from, size int64, w io.Writer, o Options) error {
	o = o.filled()
	p := part{url: url, from: from, size: size, w: w, o: o}
	delay := o.Delay
	for tries := o.Tries; ; {
		before := p.done
		err := p.attempt(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("fetch %s: %w", url, context.Cause(ctx))
		case p.refused != nil:
			return p.refused
		case permanent(err), errors.Is(err, ErrNoRange):
			return fmt.Errorf("fetch %s: %w", url, err)
		}
		if p.done > before {
			tries, delay = o.Tries, o.Delay
		}
		if tries--; tries <= 0 {
			return fmt.Errorf("fetch %s: %w", url, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("fetch %s: %w", url, context.Cause(ctx))
		case <-time.After(delay):
		}
		delay = min(2*delay, 30*time.Second)
	}
}

// A part of a file is under way.
type part struct {
	url        string
	from, size int64
	done       int64
	w          io.Writer
	o          Options
	refused    error // what the writer said
}

// attempt asks once for what is still missing.
func (p *part) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(p.o.Stall, func() { cancel(errStall) })
	defer watchdog.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStatus, err)
	}
	req.Header.Set("User-Agent", "kedge")
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", p.from+p.done, p.from+p.size-1))
	resp, err := p.o.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := p.begin(resp); err != nil {
		return err
	}
	body := io.LimitReader(resp.Body, p.size-p.done)
	for buf := make([]byte, 128<<10); p.done < p.size; {
		n, err := body.Read(p.o.Pace.Cut(buf))
		if err := p.o.Pace.Wait(ctx, n); err != nil {
			return err
		}
		watchdog.Reset(p.o.Stall)
		if _, p.refused = p.w.Write(buf[:n]); p.refused != nil {
			return p.refused
		}
		p.done += int64(n)
		p.o.Progress(p.done, p.size)
		if err != nil && p.done < p.size {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// begin looks at the answer's head.
func (p *part) begin(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusPartialContent:
		var from int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != p.from+p.done {
			return fmt.Errorf("%w: it sent range %q, asked from %d", ErrNoRange, resp.Header.Get("Content-Range"), p.from+p.done)
		}
		return nil
	case code == http.StatusOK:
		return ErrNoRange
	case code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooManyRequests:
		return fmt.Errorf("server answered %s", resp.Status)
	}
	return fmt.Errorf("%w: %s", ErrStatus, resp.Status)
}
