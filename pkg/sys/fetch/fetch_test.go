package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A flaky server breaks the connection after some bytes, a given number of
// times.
type flaky struct {
	data   []byte
	breaks int
	ranges bool // honours Range
	asked  []string
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked = append(f.asked, r.Header.Get("Range"))
	if !f.ranges {
		r.Header.Del("Range")
	}
	w.Header().Set("ETag", `"one"`)
	if f.breaks > 0 {
		f.breaks--
		w = &breaking{w, len(f.data) / 3}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
}

type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	n := min(b.left, len(p))
	b.left -= n
	_, _ = b.ResponseWriter.Write(p[:n])
	if n < len(p) {
		b.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

var payload = bytes.Repeat([]byte("kedge "), 50000)

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		server flaky
		o      Options
		want   error
		asked  int
	}{
		{"straight", flaky{data: payload}, Options{SHA256: digest(payload)}, nil, 1},
		{"resumed twice", flaky{data: payload, breaks: 2, ranges: true}, Options{SHA256: digest(payload), Tries: 1 + 1}, nil, 3},
		{"no ranges: from the start", flaky{data: payload, breaks: 2}, Options{SHA256: digest(payload)}, nil, 3},
		{"wrong digest", flaky{data: payload}, Options{SHA256: digest(nil)}, ErrDigest, 1},
		{"too large is not tried again", flaky{data: payload}, Options{Limit: 1000}, ErrTooLarge, 1},
		{"empty", flaky{data: nil}, Options{SHA256: digest(nil)}, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(&c.server)
			defer s.Close()
			path := filepath.Join(t.TempDir(), "file")
			c.o.Delay = time.Millisecond
			var last int64
			c.o.Progress = func(done, _ int64) { last = done }
			err := File(context.Background(), s.URL, path, c.o)
			if !errors.Is(err, c.want) {
				t.Fatalf("File = %v, want %v", err, c.want)
			}
			if len(c.server.asked) != c.asked {
				t.Errorf("asked %q, want %d requests", c.server.asked, c.asked)
			}
			got, readErr := os.ReadFile(path)
			if c.want == nil && (!bytes.Equal(got, c.server.data) || last != int64(len(c.server.data))) {
				t.Errorf("file holds %d bytes (%v), progress said %d, want %d", len(got), readErr, last, len(c.server.data))
			}
			if c.want != nil && readErr == nil {
				t.Error("a file was left behind")
			}
			if left, _ := filepath.Glob(path + ".part"); left != nil {
				t.Error("the part file was left behind")
			}
		})
	}
}

func TestRefusedIsNotTriedAgain(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; http.NotFound(w, r) }))
	defer s.Close()
	if _, err := Bytes(context.Background(), s.URL, Options{Delay: time.Millisecond}); !errors.Is(err, ErrStatus) || asked != 1 {
		t.Errorf("Bytes = %v after %d requests, want ErrStatus after 1", err, asked)
	}
}

func TestServerErrorIsTriedAgain(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte("key"))
	}))
	defer s.Close()
	got, err := Bytes(context.Background(), s.URL, Options{Delay: time.Millisecond})
	if err != nil || string(got) != "key" {
		t.Errorf("Bytes = %q, %v", got, err)
	}
}

func TestStalledTransferIsBrokenOff(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("half"))
		w.(http.Flusher).Flush()
		<-release
	}))
	defer s.Close()
	defer close(release)
	_, err := Bytes(context.Background(), s.URL, Options{Stall: 20 * time.Millisecond, Delay: time.Millisecond, Tries: 1})
	if err == nil {
		t.Error("Bytes = nil error, want a broken transfer")
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Bytes(ctx, "http://127.0.0.1:1/", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Bytes = %v, want context.Canceled", err)
	}
}
