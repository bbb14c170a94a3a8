package fetch

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

func TestRange(t *testing.T) {
	for _, c := range []struct {
		name       string
		from, size int64
		breaks     int
		asked      []string
	}{
		{"a part", 1000, 5000, 0, []string{"bytes=1000-5999"}},
		{"the end", int64(len(payload)) - 7, 7, 0, []string{"bytes=299993-299999"}},
		{"all", 0, int64(len(payload)), 0, []string{"bytes=0-299999"}},
		{"broken off twice", 1000, 250_000, 2, []string{"bytes=1000-250999", "bytes=101000-250999", "bytes=201000-250999"}},
	} {
		f := &flaky{data: payload, breaks: c.breaks, ranges: true}
		s := httptest.NewServer(f)
		var got bytes.Buffer
		var told int64
		err := Range(t.Context(), s.URL, c.from, c.size, &got, Options{Delay: time.Millisecond, Progress: func(done, _ int64) { told = done }})
		s.Close()
		if err != nil || !bytes.Equal(got.Bytes(), payload[c.from:c.from+c.size]) || told != c.size {
			t.Errorf("%s: %d bytes, told %d, %v", c.name, got.Len(), told, err)
		}
		if !slices.Equal(f.asked, c.asked) {
			t.Errorf("%s: asked %q, want %q", c.name, f.asked, c.asked)
		}
	}
}

func TestRangeRefused(t *testing.T) {
	answer := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if len(header) > 0 {
				w.Header().Set(header[0], header[1])
			}
			w.WriteHeader(status)
		}
	}
	for _, c := range []struct {
		name   string
		server http.Handler
		want   error
	}{
		{"whole files only", &flaky{data: payload}, ErrNoRange},
		{"another part", answer(http.StatusPartialContent, "Content-Range", "bytes 0-9/100"), ErrNoRange},
		{"a part of nothing", answer(http.StatusPartialContent), ErrNoRange},
		{"gone", answer(http.StatusNotFound), ErrStatus},
		{"behind the end", answer(http.StatusRequestedRangeNotSatisfiable), ErrStatus},
	} {
		s := httptest.NewServer(c.server)
		var got bytes.Buffer
		err := Range(t.Context(), s.URL, 10, 10, &got, Options{Delay: time.Millisecond})
		s.Close()
		if !errors.Is(err, c.want) || got.Len() > 0 {
			t.Errorf("%s: error %v, %d bytes, want %v", c.name, err, got.Len(), c.want)
		}
	}
}

func TestRangeGivesUp(t *testing.T) {
	tries := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		tries++
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer s.Close()
	err := Range(t.Context(), s.URL, 0, 10, &bytes.Buffer{}, Options{Delay: time.Millisecond, Tries: 3})
	if err == nil || tries != 3 {
		t.Errorf("error %v after %d tries, want 3", err, tries)
	}
}

type refusing struct{ error }

func (r refusing) Write([]byte) (int, error) { return 0, r.error }

func TestRangeWriterRefuses(t *testing.T) {
	f := &flaky{data: payload, ranges: true}
	s := httptest.NewServer(f)
	defer s.Close()
	want := errors.New("not what was asked for")
	if err := Range(t.Context(), s.URL, 0, 100, refusing{want}, Options{}); !errors.Is(err, want) || len(f.asked) != 1 {
		t.Errorf("error %v after %d requests, want %v after 1", err, len(f.asked), want)
	}
}

func TestRangeStalls(t *testing.T) {
	gate := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(gate)
	err := Range(t.Context(), s.URL, 0, 10, &bytes.Buffer{}, Options{Delay: time.Millisecond, Stall: 20 * time.Millisecond, Tries: 2})
	if err == nil {
		t.Error("a server that sends nothing is waited for")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Range(ctx, s.URL, 0, 10, &bytes.Buffer{}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}
