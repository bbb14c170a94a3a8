package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// A cutter is a proxy that breaks the connection after some bytes of a blob, a
// given number of times.
type cutter struct {
	*httputil.ReverseProxy
	after  int
	times  atomic.Int32
	ranges []string
}

func newCutter(t *testing.T, host string, after, times int) (*cutter, string) {
	t.Helper()
	c := &cutter{ReverseProxy: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host}), after: after}
	c.ErrorLog = log.New(io.Discard, "", 0)
	c.times.Store(int32(times))
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return c, s.Listener.Addr().String()
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		c.ranges = append(c.ranges, r.Header.Get("Range"))
		if c.times.Add(-1) >= 0 {
			w = &cut{w, c.after}
		}
	}
	c.ReverseProxy.ServeHTTP(w, r)
}

type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	n := min(c.left, len(p))
	c.left -= n
	_, _ = c.ResponseWriter.Write(p[:n])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	if n < len(p) {
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// pushed puts two images at a place, and a server before it that breaks as many
// transfers, each after so many bytes. Ref leads through that.
func pushed(t *testing.T, place string, after, times int) (c *cutter, ref string, both []Image) {
	t.Helper()
	repo, both := places[place](t), images(t, "amd64", "arm64")
	if _, err := Push(t.Context(), repo+":v1", both, quick()); err != nil {
		t.Fatal(err)
	}
	host, path, _ := strings.Cut(repo, "/")
	c, proxy := newCutter(t, host, after, times)
	return c, proxy + "/" + path + ":v1", both
}

// Breaks within one Pull: it goes on where it stopped.
func TestBrokenTransferGoesOn(t *testing.T) {
	for _, name := range []string{"in-process registry", "docker-registry"} {
		t.Run(name, func(t *testing.T) {
			c, ref, both := pushed(t, name, 70_000, 3)
			file := filepath.Join(t.TempDir(), "f")
			o := quick()
			o.Tries = 2
			if _, err := Pull(t.Context(), ref, "amd64", file, o); err != nil {
				t.Fatal(err)
			}
			same(t, file, both[0].File)
			if got, want := fmt.Sprint(c.ranges), "[ bytes=70000-299999 bytes=140000-299999 bytes=210000-299999]"; got != want {
				t.Errorf("asked for %s, want %s", got, want)
			}
		})
	}
}

// A break that ends the Pull: the next one continues the part, once it has
// seen that the part is of the same image.
func TestPartIsContinued(t *testing.T) {
	for _, c := range []struct {
		name  string
		part  func(whole []byte) []byte
		asked string
	}{
		{"same image", func(w []byte) []byte { return w[:200_000] }, "[bytes=134464-299999]"},
		{"whole", func(w []byte) []byte { return w }, "[]"},
		{"too short to tell", func(w []byte) []byte { return w[:overlap-1] }, "[]"},
		{"too long", func(w []byte) []byte { return append(w, 0) }, "[]"},
		{"another image", func([]byte) []byte { return noise(200_000, 77) }, "[bytes=134464-299999 ]"},
		{"zeros at its end, as after a power cut", func(w []byte) []byte {
			return append(w[:199_000:199_000], make([]byte, 1000)...)
		}, "[bytes=134464-299999 ]"},
		{"a hole in the middle", func(w []byte) []byte {
			copy(w[1000:], make([]byte, 1000))
			return w[:200_000]
		}, "[bytes=134464-299999 ]"},
		{"whole but wrong", func(w []byte) []byte { w[0]++; return w }, "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, one := newServer(t, nil), images(t, "amd64")
			if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
				t.Fatal(err)
			}
			b, err := assemble(t.Context(), one)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(file+".part", c.part(noise(300_000, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			s.requests("")
			if _, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", file, quick()); err != nil {
				t.Fatal(err)
			}
			same(t, file, one[0].File)
			asked := []string{}
			for _, r := range s.requests(b.blobs[0].Digest.String()) {
				_, by, _ := strings.Cut(r, b.blobs[0].Digest.String())
				asked = append(asked, strings.TrimSpace(by))
			}
			if got := fmt.Sprint(asked); got != c.asked {
				t.Errorf("asked for %s, want %s", got, c.asked)
			}
		})
	}
}

// A registry without ranges sends all again; what is there is skipped.
func TestServerWithoutRanges(t *testing.T) {
	var breaks atomic.Int32
	s := newServer(t, nil)
	s.treat = func(w http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && breaks.Add(-1) >= 0 {
			s.registry.ServeHTTP(&cut{w, 100_000 * (2 - int(breaks.Load()))}, r)
			return true
		}
		return false
	}
	one := images(t, "amd64")
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
		t.Fatal(err)
	}
	breaks.Store(2)
	file := filepath.Join(t.TempDir(), "f")
	if _, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", file, quick()); err != nil {
		t.Fatal(err)
	}
	same(t, file, one[0].File)
}

// What comes is not what was promised.
func TestLyingRegistry(t *testing.T) {
	// change answers requests for paths that contain a text with other bytes.
	change := func(s *server, text string, f func([]byte) []byte) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, text) {
				return false
			}
			rec := httptest.NewRecorder()
			s.registry.ServeHTTP(rec, r)
			b := f(rec.Body.Bytes())
			w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
			w.WriteHeader(rec.Code)
			_, _ = w.Write(b[:len(b)/2])
			_ = http.NewResponseController(w).Flush() // so that there is no length in the header
			_, _ = w.Write(b[len(b)/2:])
			return true
		}
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	longer := func(b []byte) []byte { return append(b, "more"...) }
	b, err := assemble(t.Context(), images(t, "amd64", "arm64"))
	if err != nil {
		t.Fatal(err)
	}
	layer, config, manifest, root := b.blobs[0].Digest.String(), b.blobs[1].Digest.String(), b.blobs[2].Digest.String(), b.root.Digest.String()
	for _, c := range []struct {
		name, ref, text string
		arches          []string
		change          func([]byte) []byte
	}{
		{"layer", ":v1", layer, []string{"amd64", "arm64"}, flip},
		{"manifest in an index", ":v1", manifest, []string{"amd64", "arm64"}, flip},
		{"index by digest", "@" + root, root, []string{"amd64", "arm64"}, longer},
		{"config", ":v1", config, []string{"amd64"}, flip},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, nil)
			if _, err := Push(t.Context(), s.host()+"/kedge:v1", images(t, c.arches...), quick()); err != nil {
				t.Fatal(err)
			}
			s.treat = change(s, c.text, c.change)
			file := filepath.Join(t.TempDir(), "f")
			if _, err := Pull(t.Context(), s.host()+"/kedge"+c.ref, "amd64", file, quick()); !errors.Is(err, ErrDigest) {
				t.Errorf("Pull = %v, want ErrDigest", err)
			}
			if left, _ := filepath.Glob(file + "*"); left != nil {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	t.Run("size", func(t *testing.T) {
		s := newServer(t, nil)
		if _, err := Push(t.Context(), s.host()+"/kedge:v1", images(t, "amd64"), quick()); err != nil {
			t.Fatal(err)
		}
		s.treat = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, layer) {
				_, _ = w.Write([]byte("tiny"))
				return true
			}
			return false
		}
		_, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", filepath.Join(t.TempDir(), "f"), quick())
		if !errors.Is(err, ErrDigest) || !strings.Contains(err.Error(), "got 4 bytes, want 300000") {
			t.Errorf("Pull = %v, want ErrDigest", err)
		}
	})
}

// Trouble that passes is waited for; trouble that does not is not.
func TestTries(t *testing.T) {
	for _, c := range []struct {
		status, times int
		want          error
		asked         int
	}{
		{http.StatusServiceUnavailable, 3, nil, 4},
		{http.StatusTooManyRequests, 1, nil, 2},
		{http.StatusUnauthorized, 9, ErrUnauthorized, 1},
		{http.StatusForbidden, 9, ErrUnauthorized, 1},
		{http.StatusNotFound, 9, ErrNotFound, 1},
		{http.StatusBadRequest, 9, final{}, 1},
		{http.StatusBadGateway, 9, errAny, 5},
	} {
		t.Run(http.StatusText(c.status), func(t *testing.T) {
			s, one := newServer(t, nil), images(t, "amd64")
			if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
				t.Fatal(err)
			}
			s.requests("")
			left := c.times
			s.treat = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") || left == 0 {
					return false
				}
				left--
				w.WriteHeader(c.status)
				return true
			}
			_, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", filepath.Join(t.TempDir(), "f"), quick())
			var f final
			switch {
			case c.want == errAny && err != nil:
			case c.want == final{} && errors.As(err, &f):
			case !errors.Is(err, c.want):
				t.Errorf("Pull = %v, want %v", err, c.want)
			}
			if asked := s.requests("/manifests/"); len(asked) != c.asked {
				t.Errorf("asked %q, want %d requests", asked, c.asked)
			}
		})
	}
}

var errAny = errors.New("any error")

// An upload that breaks is begun anew.
func TestBrokenUpload(t *testing.T) {
	breaks := int32(2)
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && atomic.AddInt32(&breaks, -1) >= 0 {
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	one := images(t, "amd64")
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if _, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", file, quick()); err != nil {
		t.Fatal(err)
	}
	same(t, file, one[0].File)
}

// A server that takes or gives nothing any more is left, at the deadline or
// when it has stood still for too long; what came is kept.
func TestStalledServer(t *testing.T) {
	release := make(chan struct{})
	s := newServer(t, nil)
	t.Cleanup(func() { close(release) })
	one := images(t, "amd64")
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
		t.Fatal(err)
	}
	s.treat = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/"):
			rec := httptest.NewRecorder()
			s.registry.ServeHTTP(rec, r)
			w.Header().Set("Content-Length", fmt.Sprint(rec.Body.Len()))
			_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()*9/10])
			_ = http.NewResponseController(w).Flush()
		case r.Method != http.MethodPatch:
			return false
		}
		<-release
		return true
	}
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	stall := quick()
	stall.Stall, stall.Tries = 500*time.Millisecond, 1
	b, err := assemble(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	// The config has an end, the layer is what stalls.
	config := b.blobs[1].Digest.String()
	inner := s.treat
	s.treat = func(w http.ResponseWriter, r *http.Request) bool {
		return !strings.Contains(r.URL.Path, config) && inner(w, r)
	}
	for name, c := range map[string]struct {
		ctx  context.Context
		o    Options
		want error
	}{
		"deadline": {short(), quick(), context.DeadlineExceeded},
		"stall":    {t.Context(), stall, errStall},
	} {
		file := filepath.Join(t.TempDir(), "f")
		if _, err := Pull(c.ctx, s.host()+"/kedge:v1", "amd64", file, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: Pull = %v, want %v", name, err, c.want)
		}
		if part, err := os.ReadFile(file + ".part"); !bytes.Equal(part, noise(300_000, 1)[:270_000]) {
			t.Errorf("%s: %d bytes are kept (%v), want the 270000 that came", name, len(part), err)
		}
	}
	other := images(t, "arm64")
	other[0].File = write(t, "other", 20<<20, 5) // more than the kernel takes in
	if _, err := Push(short(), s.host()+"/kedge:v2", other, quick()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Push = %v, want context.DeadlineExceeded", err)
	}
	if _, err := Push(t.Context(), s.host()+"/kedge:v2", other, stall); !errors.Is(err, errStall) {
		t.Errorf("Push = %v, want errStall", err)
	}
}

func TestLimit(t *testing.T) {
	s, one := newServer(t, nil), images(t, "amd64")
	o := quick()
	o.Limit = 1_000_000
	o.Stall = 100 * time.Millisecond // what the limit holds back is no stall
	for name, move := range map[string]func() error{
		"push": func() error { _, err := Push(t.Context(), s.host()+"/kedge:v1", one, o); return err },
		"pull": func() error {
			_, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", filepath.Join(t.TempDir(), "f"), o)
			return err
		},
	} {
		if name == "pull" {
			if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		if err := move(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 250*time.Millisecond {
			t.Errorf("%s of 300 kB at 1 MB/s took %v", name, took)
		}
		s.registry = newServer(t, nil).registry // empty again
	}
}

// guarded asks for a user: with Basic, or with a token.
func guarded(t *testing.T, bearer bool) *server {
	t.Helper()
	s := newServer(t, nil)
	s.treat = func(w http.ResponseWriter, r *http.Request) bool {
		name, password, _ := r.BasicAuth()
		right := name == "anna" && password == "secret"
		switch {
		case bearer && r.URL.Path == "/token" && right:
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "ticket"})
			return true
		case bearer && r.Header.Get("Authorization") == "Bearer ticket", !bearer && right:
			return false
		case bearer:
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+s.host()+`/token",service="test"`)
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	return s
}

func TestUsers(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, append([]byte("anna:"), hash...), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(t *testing.T) string{
		"basic":  func(t *testing.T) string { return guarded(t, false).host() },
		"bearer": func(t *testing.T) string { return guarded(t, true).host() },
		"docker-registry": func(t *testing.T) string {
			return dockerRegistry(t, "auth: {htpasswd: {realm: test, path: "+users+"}}")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ref, one := start(t)+"/kedge:v1", images(t, "amd64")
			file := filepath.Join(t.TempDir(), "f")
			for _, a := range []Access{{}, {Username: "anna", Password: "wrong"}} {
				o := quick()
				o.Access = a
				if _, err := Push(t.Context(), ref, one, o); !errors.Is(err, ErrUnauthorized) {
					t.Errorf("Push as %+v = %v, want ErrUnauthorized", a, err)
				}
				if _, err := Pull(t.Context(), ref, "amd64", file, o); !errors.Is(err, ErrUnauthorized) {
					t.Errorf("Pull as %+v = %v, want ErrUnauthorized", a, err)
				}
			}
			o := quick()
			o.Username, o.Password = "anna", "secret"
			if _, err := Push(t.Context(), ref, one, o); err != nil {
				t.Fatal(err)
			}
			if _, err := Pull(t.Context(), ref, "amd64", file, o); err != nil {
				t.Fatal(err)
			}
			same(t, file, one[0].File)
		})
	}
}

func TestTLS(t *testing.T) {
	s := newServer(t, nil)
	secure := httptest.NewUnstartedServer(s)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	ref, one := secure.Listener.Addr().String()+"/kedge:v1", images(t, "amd64")
	o := Options{Delay: time.Minute} // trying again would not help
	if _, err := Push(t.Context(), ref, one, o); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Push with an unknown CA = %v", err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if _, err := Pull(t.Context(), ref, "amd64", file, o); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Pull with an unknown CA = %v", err)
	}
	o.CA = []byte("no PEM")
	if _, err := Pull(t.Context(), ref, "amd64", file, o); err == nil || !strings.Contains(err.Error(), "read CA") {
		t.Errorf("Pull with a bad CA = %v", err)
	}
	o.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if _, err := Push(t.Context(), ref, one, o); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(t.Context(), ref, "amd64", file, o); err != nil {
		t.Fatal(err)
	}
	same(t, file, one[0].File)
}

func TestMirrors(t *testing.T) {
	origin, mirror := newServer(t, nil), newServer(t, nil)
	one := images(t, "amd64")
	for _, ref := range []string{origin.host() + "/os/kedge:v1", mirror.host() + "/cache/os/kedge:v1"} {
		if _, err := Push(t.Context(), ref, one, quick()); err != nil {
			t.Fatal(err)
		}
	}
	dead := httptest.NewServer(nil)
	dead.Close()
	name := func(s string) Mirror { return Mirror{Name: s} }
	for _, c := range []struct {
		name    string
		mirrors []Mirror
		lies    bool
		origin  bool // is asked
	}{
		{"mirror has it", []Mirror{name(mirror.host() + "/cache")}, false, false},
		{"mirror has it not", []Mirror{name(mirror.host())}, false, true},
		{"first is dead", []Mirror{name(dead.Listener.Addr().String()), name(mirror.host() + "/cache/")}, false, false},
		{"all are dead", []Mirror{name(dead.Listener.Addr().String())}, false, true},
		{"mirror lies", []Mirror{name(mirror.host() + "/cache")}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ns []string
			mirror.treat = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/manifests/") {
					ns = append(ns, r.URL.Query().Get("ns"))
				}
				if c.lies && strings.Contains(r.URL.Path, "/blobs/") {
					_, _ = w.Write(make([]byte, 300_000))
					return true
				}
				return false
			}
			origin.requests("")
			file := filepath.Join(t.TempDir(), "f")
			o := Options{Mirrors: c.mirrors, Delay: time.Minute} // a mirror is not waited for
			if _, err := Pull(t.Context(), origin.host()+"/os/kedge:v1", "amd64", file, o); err != nil {
				t.Fatal(err)
			}
			same(t, file, one[0].File)
			if asked := origin.requests(""); len(asked) > 0 != c.origin {
				t.Errorf("the registry was asked %q, want %v", asked, c.origin)
			}
			if len(ns) > 0 && ns[0] != origin.host() {
				t.Errorf("the mirror was asked for %q, want %q", ns, origin.host())
			}
		})
	}
	o := quick()
	o.Mirrors = []Mirror{name(dead.Listener.Addr().String())}
	_, err := Pull(t.Context(), origin.host()+"/os/kedge:v9", "amd64", filepath.Join(t.TempDir(), "f"), o)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "(mirror "+o.Mirrors[0].Name) {
		t.Errorf("Pull = %v, want ErrNotFound and what the mirror said", err)
	}
}

// A registry may send us elsewhere for its blobs: ranges come along, the
// password does not.
func TestRedirectedBlob(t *testing.T) {
	s, one := guarded(t, false), images(t, "amd64")
	o := quick()
	o.Username, o.Password = "anna", "secret"
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, o); err != nil {
		t.Fatal(err)
	}
	var seen []string
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Range")+" "+r.Header.Get("Authorization"))
		http.ServeFile(w, r, one[0].File)
	}))
	defer store.Close()
	b, err := assemble(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	inner := s.treat
	s.treat = func(w http.ResponseWriter, r *http.Request) bool {
		if inner(w, r) {
			return true
		}
		if strings.Contains(r.URL.Path, b.blobs[0].Digest.String()) {
			http.Redirect(w, r, store.URL+"/signed", http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file+".part", noise(300_000, 1)[:200_000], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", file, o); err != nil {
		t.Fatal(err)
	}
	same(t, file, one[0].File)
	if got := fmt.Sprintf("%q", seen); got != `["bytes=134464-299999 "]` {
		t.Errorf("the store was asked %s", got)
	}
}

// A part that cannot be written ends the Pull, whatever sources are left.
func TestNoPlaceForThePart(t *testing.T) {
	s, one := newServer(t, nil), images(t, "amd64")
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
		t.Fatal(err)
	}
	o := Options{Mirrors: []Mirror{{Name: s.host()}}, Delay: time.Minute}
	file := filepath.Join(t.TempDir(), "no", "folder", "f")
	if _, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", file, o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Pull = %v, want os.ErrNotExist", err)
	}
}

func TestCancel(t *testing.T) {
	one := images(t, "amd64")
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			ref := place(t) + ":v1"
			ctx, cancel := context.WithCancel(t.Context())
			o := quick()
			o.Progress = func(int64, int64) { cancel() }
			if name == "folder" || name == "archive" {
				if _, err := Push(ctx, ref, one, o); !errors.Is(err, context.Canceled) {
					t.Errorf("Push = %v, want context.Canceled", err)
				}
				if _, err := Pull(t.Context(), ref, "amd64", filepath.Join(t.TempDir(), "f"), quick()); !errors.Is(err, ErrNotFound) {
					t.Errorf("Pull of what was cut off = %v, want ErrNotFound", err)
				}
			}
			cancel()
			if _, err := Push(ctx, ref, one, quick()); !errors.Is(err, context.Canceled) {
				t.Errorf("Push = %v, want context.Canceled", err)
			}
		})
	}
}
