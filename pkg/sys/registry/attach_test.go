package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// listing is a registry that knows what refers to a manifest.
func listing(t *testing.T) *server {
	t.Helper()
	s := newServer(t, nil)
	s.registry = ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true))
	return s
}

func find(t *testing.T, ref, arch string, o Options) *Remote {
	t.Helper()
	r, err := Find(t.Context(), ref, arch, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func manifestOf(t *testing.T, ref, digest string) (m v1.Manifest) {
	t.Helper()
	sources, err := open(ref, quick().filled(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := sources[0].manifest(t.Context(), digest)
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What is attached to an image of an index, or to one that stands alone, is found
// again, and the image stays what it was.
func TestAttach(t *testing.T) {
	for name, c := range map[string]struct {
		place func(*testing.T) string
		tag   bool // stands in for the list
	}{
		"referrers":       {func(t *testing.T) string { return listing(t).host() + "/os/kedge" }, false},
		"tag":             {places["in-process registry"], true},
		"docker-registry": {places["docker-registry"], true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, repo, both := t.Context(), c.place(t), images(t, "amd64", "arm64")
			if _, err := Push(ctx, repo+":one", both[:1], quick()); err != nil {
				t.Fatal(err)
			}
			digest, err := Push(ctx, repo+":v1", both, quick())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := find(t, repo+":v1", "amd64", quick()).Attached(ctx, ChunksType, 1<<20); !errors.Is(err, ErrNotFound) {
				t.Errorf("Attached before there is anything = %v", err)
			}
			for _, add := range []struct{ arch, kind, content string }{
				{"arm64", "application/vnd.other", "a bill of material"},
				{"arm64", string(ChunksType), "index of arm64"}, {"amd64", string(ChunksType), "index of amd64"}, {"amd64", string(ChunksType), "index of amd64"},
			} {
				if err := Attach(ctx, repo+":v1@"+digest, add.arch, types.MediaType(add.kind), []byte(add.content), quick()); err != nil {
					t.Fatal(err)
				}
			}
			for _, i := range both {
				r := find(t, repo+":v1", i.Arch, quick())
				b, err := r.Attached(ctx, ChunksType, 1<<20)
				if err != nil || string(b) != "index of "+i.Arch || r.Digest != digest {
					t.Errorf("Attached to %s of %s = %q, %v", i.Arch, r.Digest, b, err)
				}
				if _, err := r.Attached(ctx, ChunksType, 4); err == nil || !strings.Contains(err.Error(), "at most 4") {
					t.Errorf("Attached of at most 4 bytes = %v", err)
				}
				file := filepath.Join(t.TempDir(), "f")
				if got, err := Pull(ctx, repo+":v1", i.Arch, file, quick()); err != nil || got != digest {
					t.Errorf("Pull = %q, %v, want %q", got, err, digest)
				}
				same(t, file, i.File)
			}
			// Alone it is the same image.
			if b, err := find(t, repo+":one", "amd64", quick()).Attached(ctx, ChunksType, 1<<20); err != nil || string(b) != "index of amd64" {
				t.Errorf("Attached to an image alone = %q, %v", b, err)
			}
			s, err := open(repo+":v1", quick().filled(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			arm := find(t, repo+":v1", "arm64", quick()).target.image.Digest
			raw, err := s[0].(*repository).standIn(ctx, arm)
			if c.tag != (err == nil) {
				t.Fatalf("the tag that stands in: %s, %v", raw, err)
			}
			if !c.tag {
				return
			}
			var list v1.IndexManifest
			if err := json.Unmarshal(raw, &list); err != nil || len(list.Manifests) != 2 {
				t.Fatalf("the list is %s, %v", raw, err)
			}
			i := slices.IndexFunc(list.Manifests, func(d v1.Descriptor) bool { return d.ArtifactType == string(ChunksType) })
			m := manifestOf(t, repo+":v1", list.Manifests[i].Digest.String())
			if m.ArtifactType != string(ChunksType) || m.Subject.Digest != arm || m.Config.MediaType != emptyType || m.Config.Size != 2 ||
				len(m.Layers) != 1 || m.Layers[0].MediaType != ChunksType {
				t.Errorf("the artifact is %+v", m)
			}
		})
	}
}

func TestAttachRefuses(t *testing.T) {
	one := images(t, "amd64")
	if err := Attach(t.Context(), "oci:"+t.TempDir(), "amd64", ChunksType, []byte("x"), quick()); err == nil {
		t.Error("a layout is taken")
	}
	s := newServer(t, nil)
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
		t.Fatal(err)
	}
	if err := Attach(t.Context(), s.host()+"/kedge:v1", "arm64", ChunksType, []byte("x"), quick()); !errors.Is(err, ErrArch) {
		t.Errorf("Attach to what is not there = %v", err)
	}
	s.treat = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		return true
	}
	if err := Attach(t.Context(), s.host()+"/kedge:v1", "amd64", ChunksType, []byte("x"), Options{Delay: time.Minute}); err == nil {
		t.Error("a registry that takes no artifacts is no error")
	}
}

// A user and its token go along.
func TestAttachAsUser(t *testing.T) {
	for name, bearer := range map[string]bool{"basic": false, "bearer": true} {
		s, one := guarded(t, bearer), images(t, "amd64")
		o := quick()
		o.Username, o.Password = "anna", "secret"
		if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, o); err != nil {
			t.Fatal(err)
		}
		if err := Attach(t.Context(), s.host()+"/kedge:v1", "amd64", ChunksType, []byte("an index"), o); err != nil {
			t.Fatal(err)
		}
		r := find(t, s.host()+"/kedge:v1", "amd64", o)
		if b, err := r.Attached(t.Context(), ChunksType, 100); err != nil || string(b) != "an index" {
			t.Errorf("%s: Attached = %q, %v", name, b, err)
		}
		var got bytes.Buffer
		if err := r.Range(t.Context(), 1000, 500, &got); err != nil || !bytes.Equal(got.Bytes(), noise(300_000, 1)[1000:1500]) {
			t.Errorf("%s: Range = %v", name, err)
		}
	}
}

// Only parts are asked for; one that breaks goes on where it stopped.
func TestRange(t *testing.T) {
	for _, name := range []string{"in-process registry", "docker-registry"} {
		t.Run(name, func(t *testing.T) {
			c, ref, _ := pushed(t, name, 30_000, 2)
			r := find(t, ref, "amd64", quick())
			whole := noise(300_000, 1)
			for _, at := range [][2]int64{{100_000, 70_000}, {0, 10}, {299_990, 10}, {0, 300_000}} {
				var got bytes.Buffer
				if err := r.Range(t.Context(), at[0], at[1], &got); err != nil || !bytes.Equal(got.Bytes(), whole[at[0]:at[0]+at[1]]) {
					t.Errorf("Range(%v) = %v, %d bytes", at, err, got.Len())
				}
			}
			// Breaks the first and the second time; all of it needs no range.
			want := "bytes=100000-169999 bytes=130000-169999 bytes=160000-169999 bytes=0-9 bytes=299990-299999 "
			if got := strings.Join(c.ranges, " "); got != want {
				t.Errorf("asked for %q, want %q", got, want)
			}
			full := errors.New("full")
			if err := r.Range(t.Context(), 0, 10, stubborn{full}); err != full {
				t.Errorf("Range into a writer that takes nothing = %v", err)
			}
		})
	}
}

type stubborn struct{ err error }

func (s stubborn) Write([]byte) (int, error) { return 0, s.err }

func TestRangeRefused(t *testing.T) {
	s, one := newServer(t, nil), images(t, "amd64")
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request) bool
		final  bool
	}{
		"no ranges": {func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }, true},
		"gone":      {func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }, true},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return true }, true},
		"not satisfied": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}, true},
		"of another blob": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Range", "bytes 5-9/20")
			w.WriteHeader(http.StatusPartialContent)
			return true
		}, true},
		"trouble": {func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true }, false},
	} {
		s.treat = nil
		o := quick()
		o.Tries = 2
		r := find(t, s.host()+"/kedge:v1", "amd64", o)
		s.treat = func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/blobs/") && c.answer(w, r)
		}
		var got bytes.Buffer
		if err := r.Range(t.Context(), 5, 5, &got); err == nil || errors.Is(err, fetch.ErrNoRange) != c.final || got.Len() > 0 {
			t.Errorf("%s: Range = %v", name, err)
		}
	}
	s.treat = nil
	r := find(t, s.host()+"/kedge:v1", "amd64", quick())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Range(ctx, 5, 5, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("Range of a cancelled command = %v", err)
	}
	if _, err := r.Attached(ctx, ChunksType, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("Attached of a cancelled command = %v", err)
	}
}

// Each of the mirrors and the registry is used for what it has.
func TestPartsFromMirrors(t *testing.T) {
	origin, mirror, one := newServer(t, nil), newServer(t, nil), images(t, "amd64")
	for _, s := range []*server{origin, mirror} {
		if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
			t.Fatal(err)
		}
	}
	if err := Attach(t.Context(), origin.host()+"/kedge:v1", "amd64", ChunksType, []byte("an index"), quick()); err != nil {
		t.Fatal(err)
	}
	dead := httptest.NewServer(nil)
	dead.Close()
	o := Options{Delay: time.Minute, Mirrors: []Mirror{{Name: dead.Listener.Addr().String()}, {Name: mirror.host()}}}
	r := find(t, origin.host()+"/kedge:v1", "amd64", o)
	if b, err := r.Attached(t.Context(), ChunksType, 100); err != nil || string(b) != "an index" {
		t.Errorf("Attached = %q, %v", b, err)
	}
	origin.requests("")
	part := func() {
		t.Helper()
		var got bytes.Buffer
		if err := r.Range(t.Context(), 5, 5, &got); err != nil || !bytes.Equal(got.Bytes(), noise(300_000, 1)[5:10]) {
			t.Errorf("Range = %v", err)
		}
	}
	part()
	if asked := origin.requests(""); len(asked) > 0 {
		t.Errorf("the registry was asked %q", asked)
	}
	mirror.treat = func(w http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
	part()
	if asked := origin.requests("bytes=5-9"); len(asked) != 1 {
		t.Errorf("the registry was asked for the part %d times", len(asked))
	}
	o.Mirrors = o.Mirrors[:1]
	if _, err := Find(t.Context(), origin.host()+"/kedge:v9", "amd64", o); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "(mirror ") {
		t.Errorf("Find = %v, want ErrNotFound and what the mirror said", err)
	}
	if _, err := Find(t.Context(), "oci:"+t.TempDir(), "amd64", o); err == nil {
		t.Error("Find takes a layout")
	}
}
