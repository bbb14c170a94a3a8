package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A source serves one file, and fails as it is told to.
type source struct {
	*httptest.Server
	lock     sync.Mutex
	data     []byte
	tag      string
	modified time.Time
	ranges   bool
	stop     int    // bytes of an answer after which it ends; 0 for never
	how      string // "" cuts the connection, "stall" holds it, and all that come after it
	status   int    // answered to all; 0 for none
	asked    []string
}

func newSource(t *testing.T, data []byte) *source {
	t.Helper()
	s := &source{data: data, tag: `"one"`, ranges: true}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *source) serve(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.asked = append(s.asked, r.Header.Get("Range")+r.Header.Get("If-None-Match")+r.Header.Get("If-Modified-Since"))
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	if !s.ranges {
		r.Header.Del("Range")
	}
	if s.tag != "" {
		w.Header().Set("ETag", s.tag)
	}
	if s.how == "stall" && len(s.asked) > 1 {
		<-r.Context().Done()
		return
	}
	if s.stop > 0 {
		w = &stopping{w, s.stop, s.how, r.Context()}
	}
	http.ServeContent(w, r, "", s.modified, bytes.NewReader(s.data))
}

func (s *source) requests() string {
	s.lock.Lock()
	defer s.lock.Unlock()
	defer func() { s.asked = nil }()
	return strings.Join(s.asked, " ")
}

type stopping struct {
	http.ResponseWriter
	left int
	how  string
	ctx  context.Context
}

func (s *stopping) Write(p []byte) (int, error) {
	n := min(s.left, len(p))
	s.left -= n
	_, _ = s.ResponseWriter.Write(p[:n])
	if n == len(p) {
		return n, nil
	}
	s.ResponseWriter.(http.Flusher).Flush()
	if s.how == "stall" {
		<-s.ctx.Done()
	}
	panic(http.ErrAbortHandler)
}

// noise is n bytes that differ everywhere.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func quick() Options {
	return Options{Keep: true, Tries: 2, Delay: time.Millisecond, Stall: 5 * time.Second}
}

// A File that fails leaves its part, and the next one goes on with it: that is
// what a restart of the machine in between looks like.
func TestPartOutlivesFile(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name   string
		change func(s *source, path string)
		ranges string // what the second File asks for
	}{
		{"the same source", func(*source, string) {}, fmt.Sprintf("bytes=%d-", 3*mib-torn)},
		{"the end of the part is torn", func(_ *source, path string) {
			f, _ := os.OpenFile(path+".part", os.O_WRONLY, 0)
			_, _ = f.WriteAt(make([]byte, 5000), 3*mib-5000)
			f.Close()
		}, fmt.Sprintf("bytes=%d-", 3*mib-torn)},
		{"the source has changed", func(s *source, _ string) { s.data, s.tag = noise(4*mib, 9), `"two"` }, fmt.Sprintf("bytes=%d-", 3*mib-torn)},
		{"the source has changed its size, and forgot to say so", func(s *source, _ string) { s.data = noise(4*mib+1, 9) }, fmt.Sprintf("bytes=%d- ", 3*mib-torn)},
		{"the source has shrunk", func(s *source, _ string) { s.data, s.tag = noise(mib, 9), `"two"` }, fmt.Sprintf("bytes=%d-", 3*mib-torn)},
		{"the source takes no ranges any more", func(s *source, _ string) { s.ranges = false }, fmt.Sprintf("bytes=%d-", 3*mib-torn)},
		{"the mark is gone", func(_ *source, path string) { os.Remove(path + MarkSuffix) }, ""},
		{"the mark is damaged", func(_ *source, path string) { _ = os.WriteFile(path+MarkSuffix, []byte(`{"url`), 0o644) }, ""},
		{"the part is gone", func(_ *source, path string) { os.Remove(path + ".part") }, ""},
		{"the part is longer than the file", func(_ *source, path string) { _ = os.Truncate(path+".part", 9*mib) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, path := newSource(t, noise(4*mib, 1)), filepath.Join(t.TempDir(), "file")
			s.stop = 3 * mib
			if err := File(t.Context(), s.URL, path, Options{Keep: true, Tries: 1}); err == nil {
				t.Fatal("a cut transfer succeeded")
			}
			if info, err := os.Stat(path + ".part"); err != nil || info.Size() != 3*mib {
				t.Fatalf("what is left: %v, %v", info, err)
			}
			s.requests()
			s.stop = 0
			c.change(s, path)
			o, have := quick(), int64(-1)
			o.SHA256 = digest(s.data)
			o.Begin = func(size, done int64) error { have = done; return nil }
			if err := File(t.Context(), s.URL, path, o); err != nil {
				t.Fatal(err)
			}
			if got := s.requests(); got != c.ranges {
				t.Errorf("asked for %q, want %q", got, c.ranges)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, s.data) {
				t.Errorf("the file is not what the source has: %v", err)
			}
			if resumed := c.name == "the same source" || strings.HasSuffix(c.name, "torn"); resumed != (have > 0) {
				t.Errorf("%d bytes were there already", have)
			}
		})
	}
}

func TestPartOfAnotherSource(t *testing.T) {
	one, two := newSource(t, noise(3<<20, 1)), newSource(t, noise(3<<20, 2))
	path := filepath.Join(t.TempDir(), "file")
	one.stop = 2 << 20
	if err := File(t.Context(), one.URL, path, Options{Keep: true, Tries: 1}); err == nil {
		t.Fatal("a cut transfer succeeded")
	}
	if err := File(t.Context(), two.URL, path, quick()); err != nil {
		t.Fatal(err)
	}
	if got := two.requests(); got != "" {
		t.Errorf("asked for %q, want all", got)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, two.data) {
		t.Error("the file is not what its source has")
	}
}

// A server that names no version of its file cannot be asked to go on.
func TestPartWithoutTag(t *testing.T) {
	s, path := newSource(t, noise(3<<20, 1)), filepath.Join(t.TempDir(), "file")
	s.tag, s.stop = "", 2<<20
	if err := File(t.Context(), s.URL, path, Options{Keep: true, Tries: 1}); err == nil {
		t.Fatal("a cut transfer succeeded")
	}
	s.stop = 0
	s.requests()
	if err := File(t.Context(), s.URL, path, quick()); err != nil {
		t.Fatal(err)
	}
	if got := s.requests(); got != "" {
		t.Errorf("asked for %q, want all", got)
	}
}

func TestWholeFileIsNotFetchedAgain(t *testing.T) {
	for _, dated := range []bool{false, true} {
		s, path := newSource(t, noise(2<<20, 1)), filepath.Join(t.TempDir(), "file")
		want := `"one"`
		if dated {
			s.tag, s.modified = "", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			want = "" // a time does not tell of an older file: the heads are compared
		}
		for range 2 {
			if err := File(t.Context(), s.URL, path, quick()); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.requests(); got != " "+want {
			t.Errorf("asked %q, want only whether it changed", got)
		}
		if left, _ := filepath.Glob(path + ".part"); left != nil {
			t.Error("an empty part is left")
		}
		s.data, s.tag, s.modified = noise(2<<20, 2), `"two"`, s.modified.Add(time.Hour)
		if err := File(t.Context(), s.URL, path, quick()); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, s.data) {
			t.Error("the changed file was not fetched")
		}
	}
}

// A server without ETags that has taken a release back has an older file than
// the one that was fetched.
func TestWholeFileByItsTime(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name     string
		size     int
		modified time.Time
		kept     bool
	}{
		{"the same", 2 << 20, made, true},
		{"newer", 2 << 20, made.Add(time.Hour), false},
		{"older", 2 << 20, made.Add(-time.Hour), false},
		{"another size", 1 << 20, made, false},
		{"no time any more", 2 << 20, time.Time{}, false},
	} {
		s, path := newSource(t, noise(2<<20, 1)), filepath.Join(t.TempDir(), "file")
		s.tag, s.modified = "", made
		if err := File(t.Context(), s.URL, path, quick()); err != nil {
			t.Fatal(err)
		}
		had := s.data
		s.data, s.modified = noise(c.size, 2), c.modified
		if err := File(t.Context(), s.URL, path, quick()); err != nil {
			t.Fatal(err)
		}
		want := s.data
		if c.kept {
			want = had
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, want) {
			t.Errorf("%s: kept should be %v", c.name, c.kept)
		}
	}
}

// A server that knows no ranges, on a link that breaks here and there, is not
// asked for ever.
func TestNoProgressEndsIt(t *testing.T) {
	const mib = 1 << 20
	data, asked := noise(3*mib, 1), 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		if asked++; asked < 40 {
			w = &stopping{w, mib * (1 + asked%2), "", r.Context()}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer s.Close()
	o := quick()
	o.Tries = 4
	err := File(t.Context(), s.URL, filepath.Join(t.TempDir(), "file"), o)
	if err == nil || asked > 8 {
		t.Errorf("File = %v after %d requests", err, asked)
	}
}

// A limit may be of the room there is now: what came stays for another day.
func TestPartOfWhatIsTooLarge(t *testing.T) {
	const mib = 1 << 20
	for name, sized := range map[string]bool{"its size is known": true, "its size is not known": false} {
		s, path := newSource(t, noise(4*mib, 1)), filepath.Join(t.TempDir(), "file")
		s.stop = 3 * mib
		if err := File(t.Context(), s.URL, path, Options{Keep: true, Tries: 1}); err == nil {
			t.Fatal("a cut transfer succeeded")
		}
		if m := readMark(path); !sized {
			m.Size = -1
			if err := m.write(path); err != nil {
				t.Fatal(err)
			}
		}
		s.stop = 0
		o := quick()
		o.Limit = 3 * mib
		if err := File(t.Context(), s.URL, path, o); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: File = %v", name, err)
		}
		if held := Held(path); held < 2*mib {
			t.Errorf("%s: %d bytes are left", name, held)
		}
		s.requests()
		if err := File(t.Context(), s.URL, path, quick()); err != nil {
			t.Fatal(err)
		}
		if got := s.requests(); !strings.HasPrefix(got, "bytes=") {
			t.Errorf("%s: asked for %q", name, got)
		}
	}
}

// What the server does wrong, and what is left then.
func TestKeptAndNotKept(t *testing.T) {
	full := errors.New("no room")
	for _, c := range []struct {
		name   string
		change func(s *source, o *Options)
		says   string
		kept   bool
		asked  int
	}{
		{"it stalls", func(s *source, o *Options) { s.stop, s.how, o.Stall = 2<<20, "stall", 300*time.Millisecond }, "give up after 2 tries: no data came in for 300ms", true, 0},
		{"it cuts, and takes no ranges", func(s *source, _ *Options) { s.stop, s.ranges = 2<<20, false }, "give up after 2 tries: unexpected EOF", true, 2},
		{"it has no such file", func(s *source, _ *Options) { s.status = 404 }, "refused by the server: 404", false, 1},
		{"it has trouble", func(s *source, _ *Options) { s.status = 503 }, "give up after 2 tries: server answered 503", false, 2},
		{"too large", func(_ *source, o *Options) { o.Limit = 1 << 20 }, "larger than allowed: 3145728 bytes, at most 1048576", false, 1},
		{"the wrong bytes", func(_ *source, o *Options) { o.SHA256 = digest(nil) }, "SHA-256 does not match", false, 1},
		{"nobody wants it", func(_ *source, o *Options) { o.Begin = func(int64, int64) error { return full } }, "no room", false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, path := newSource(t, noise(3<<20, 1)), filepath.Join(t.TempDir(), "file")
			o := quick()
			c.change(s, &o)
			err := File(t.Context(), s.URL, path, o)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), s.URL) {
				t.Errorf("File = %v, want %q", err, c.says)
			}
			if n := strings.Count(s.requests(), " ") + 1; c.asked > 0 && n != c.asked {
				t.Errorf("%d requests, want %d", n, c.asked)
			}
			_, none := os.Stat(path + ".part")
			if (none == nil) != c.kept {
				t.Errorf("the part: %v, want it kept: %v", none, c.kept)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("a file is there")
			}
		})
	}
}

func TestUntrustedCertificateIsNotTriedAgain(t *testing.T) {
	asked := 0
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	s.Config.ErrorLog = nil
	defer s.Close()
	begun := time.Now()
	_, err := Bytes(t.Context(), s.URL, Options{Delay: time.Minute})
	if err == nil || time.Since(begun) > 30*time.Second || asked != 0 {
		t.Errorf("Bytes = %v after %v", err, time.Since(begun))
	}
}

func TestPace(t *testing.T) {
	s := newSource(t, noise(300_000, 1))
	o := quick()
	o.Pace, o.Stall = &Pace{Rate: 400_000}, 50*time.Millisecond
	begun := time.Now()
	if err := File(t.Context(), s.URL, filepath.Join(t.TempDir(), "file"), o); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 700*time.Millisecond || took > 5*time.Second {
		t.Errorf("300 kB at 400 kB/s took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	o.Pace, o.Keep = &Pace{Rate: 1000}, false
	if err := File(ctx, s.URL, filepath.Join(t.TempDir(), "file"), o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("File that is called off = %v", err)
	}
}
