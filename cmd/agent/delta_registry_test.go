package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/node/source"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// A depot is a registry with an image, perhaps with an index of it; it counts
// what it sends of the image.
type depot struct {
	shop
	inner  http.Handler
	blob   string // what the name of the image ends with
	lie    []byte // sent instead, when a part is asked for
	ref    string
	digest string
}

// newDepot publishes the image and the index of a shop.
func newDepot(t *testing.T, d *depot) *depot {
	t.Helper()
	d.inner = ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewUnstartedServer(d)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	d.ref = s.Listener.Addr().String() + "/os/kedge:v2"
	file := filepath.Join(t.TempDir(), "image.iso")
	if err := os.WriteFile(file, d.image, 0o644); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.digest, err = registry.Push(t.Context(), d.ref, []registry.Image{{File: file, Arch: runtime.GOARCH}}, registry.Options{}); err != nil {
		t.Fatal(err)
	}
	if d.index != nil {
		if err := registry.Attach(t.Context(), d.ref, runtime.GOARCH, registry.ChunksType, d.index, registry.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(d.image)
	d.blob = hex.EncodeToString(sum[:])
	return d
}

func (d *depot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || d.blob == "" || !strings.HasSuffix(r.URL.Path, d.blob) {
		d.inner.ServeHTTP(w, r)
		return
	}
	if d.trouble != 0 && r.Header.Get("Range") != "" {
		w.WriteHeader(d.trouble)
		return
	}
	if d.whole {
		r.Header.Del("Range")
	}
	w = &till{w, &d.shop}
	if d.lie != nil && r.Header.Get("Range") != "" {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.lie))
		return
	}
	d.inner.ServeHTTP(w, r)
}

// pupil is a machine that runs an image, and its wish for one of a depot.
func pupil(t *testing.T, running []byte, d *depot) (*upgrader, wish) {
	t.Helper()
	u := newUpgrader(newKey(t))
	u.slots = slotWith(t, running)
	w := newWish(t, u, d.ref)
	w.delta = u.fetchDelta
	return u, w
}

// embedArea is where an image has its configuration.
func embedArea(t *testing.T, image []byte) (from, to int64) {
	t.Helper()
	at, err := isoimage.Find(bytes.NewReader(image), int64(len(image)), isoimage.EmbedPath)
	if err != nil {
		t.Fatal(err)
	}
	return at.Offset, at.Offset + at.Size
}

func TestDeltaFromRegistry(t *testing.T) {
	root := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{1}).Read(root)
	changed := bytes.Clone(root)
	rand.NewChaCha8([32]byte{2}).Read(changed[2<<20 : 2<<20+500_000])
	strangeRoot := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{3}).Read(strangeRoot)

	running := testImage(t, "1.0.0", root, "hostname: here\n")
	image, strange := testImage(t, "1.0.1", changed, ""), testImage(t, "2.0.0", strangeRoot, "")
	site := testImage(t, "1.0.1", changed, "hostname: site\n")
	index := indexOf(t, image)
	signed := bytes.Clone(image)
	at, err := isoimage.Find(bytes.NewReader(image), int64(len(image)), "/"+release.SignaturePath)
	if err != nil {
		t.Fatal(err)
	}
	copy(signed[at.Offset:], "a signature")
	// Another image of the same size that is put together well: only its digest tells.
	changed[0] ^= 1
	other := testImage(t, "1.0.2", changed, "")
	longer := testImage(t, "1.0.3", append(bytes.Clone(root), make([]byte, 1<<20)...), "")

	for _, c := range []struct {
		name  string
		depot *depot
		used  bool
		most  int // bytes of parts that may be sent
		says  string
	}{
		{"a small change", &depot{shop: shop{image: image, index: index}}, true, 900_000, "0.6 of 6.9 MB changed"},
		{"signed after the index was made", &depot{shop: shop{image: signed, index: index}}, true, 900_000, "MB changed"},
		{"an image with a configuration", &depot{shop: shop{image: site, index: indexOf(t, site)}}, true, 1_200_000, "MB changed"},
		{"no index", &depot{shop: shop{image: image}}, false, 0, "no chunk index"},
		{"a damaged index", &depot{shop: shop{image: image, index: index[:len(index)-1]}}, false, 0, "damaged"},
		{"an index of a longer image", &depot{shop: shop{image: image, index: indexOf(t, longer)}}, false, 0, "of another image"},
		{"an index of another image", &depot{shop: shop{image: image, index: indexOf(t, other)}}, false, 200_000, "of another image"},
		{"another image in parts", &depot{shop: shop{image: image, index: indexOf(t, other)}, lie: other}, false, 1_200_000, "leads to another image"},
		{"no ranges", &depot{shop: shop{image: image, index: index, whole: true}}, false, len(image), "no parts"},
		{"trouble with ranges alone", &depot{shop: shop{image: image, index: index, trouble: http.StatusNotFound}}, false, 0, "no parts"},
		{"all new", &depot{shop: shop{image: strange, index: indexOf(t, strange)}}, false, 0, "too little is the same"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDepot(t, c.depot)
			u, w := pupil(t, running, d)
			var told, total int64
			report := func(step string, done, of int64) {
				if told, total = done, of; step != "fetch" {
					t.Errorf("step %s is told", step)
				}
			}
			u.report, w.report = report, report
			most := c.most
			if !c.used {
				most += len(d.image)
			}
			var said bytes.Buffer
			f, err := w.open(t.Context(), "", nil, &said)
			if err != nil || !strings.Contains(said.String(), c.says) || strings.Contains(said.String(), "the whole image") == c.used {
				t.Fatalf("open = %v; said %s", err, &said)
			}
			defer f.Close()
			if w.digest != d.digest || told == 0 || told != total || c.used == (total == int64(len(d.image))) {
				t.Errorf("digest %s, want %s; told %d of %d", w.digest, d.digest, told, total)
			}
			if d.total() > most {
				t.Errorf("%d bytes were sent, at most %d should be", d.total(), most)
			}
			want := bytes.Clone(d.image)
			if c.used { // it has the configuration of the running slot
				from, to := embedArea(t, want)
				copy(want[from:to], running[from:])
			}
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the image has %d bytes, %v, and is another", len(got), err)
			}
			if left, _ := filepath.Glob(w.fetched + ".*"); left != nil {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// A transfer that breaks between its parts is gone on with; a command that ends is
// no reason to fetch the whole.
func TestDeltaFromRegistryGoesOn(t *testing.T) {
	root := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{1}).Read(root)
	changed := bytes.Clone(root)
	rand.NewChaCha8([32]byte{2}).Read(changed[1<<20 : 4<<20])
	image := testImage(t, "1.0.1", changed, "")
	d := newDepot(t, &depot{shop: shop{image: image, index: indexOf(t, image)}})
	u, w := pupil(t, testImage(t, "1.0.0", root, ""), d)

	ctx, cancel := context.WithCancel(t.Context())
	begin := func(int64, int64) error { cancel(); return nil }
	o := registry.Options{Delay: time.Millisecond, Tries: 2, Begin: begin}
	var said bytes.Buffer
	if whole, err := w.pullDelta(ctx, o, &said); whole || !errors.Is(err, context.Canceled) || said.Len() > 0 {
		t.Errorf("a command that ends: %v, %v; said %s", whole, err, &said)
	}
	d.die(2 << 20)
	o.Begin = nil
	if whole, err := w.pullDelta(t.Context(), o, io.Discard); whole || err == nil {
		t.Fatalf("a dead registry: %v, %v", whole, err)
	} else if got := hintOf(w.hint(err, time.Now())); !strings.Contains(got, "goes on with it") {
		t.Errorf("the way out is %q", got)
	}
	first := d.total()
	d.die(0)
	o.Begin = func(_, have int64) error {
		if have == 0 {
			t.Error("nothing is kept")
		}
		return nil
	}
	if whole, err := w.pullDelta(t.Context(), o, io.Discard); !whole || err != nil {
		t.Fatalf("pullDelta = %v, %v", whole, err)
	}
	if again := d.total() - first; first < 1<<20 || again > 2<<20 {
		t.Errorf("%d bytes were sent before the cut, %d after it", first, again)
	}
	if got, _ := os.ReadFile(w.fetched); !bytes.Equal(got, image) {
		t.Error("what was put together is not the image")
	}
	// What was put together serves the next one, but for some bytes around areas.
	before := d.total()
	_, again := pupil(t, nil, d)
	again.delta, again.fetched = u.fetchDelta, w.fetched
	f, err := again.open(t.Context(), "", nil, &said)
	if sent := d.total() - before; err != nil || sent > 200_000 {
		t.Fatalf("open = %v, %d bytes were sent; said %s", err, sent, &said)
	}
	f.Close()
}

// What a slot without a file system has is used, and the configuration is that of
// the image.
func TestDeltaWithoutAConfiguration(t *testing.T) {
	root := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{1}).Read(root)
	image := testImage(t, "1.0.1", root, "hostname: site\n")
	d := newDepot(t, &depot{shop: shop{image: image, index: indexOf(t, image)}})
	_, w := pupil(t, root, d) // a slot without a file system
	var said bytes.Buffer
	f, err := w.open(t.Context(), "", nil, &said)
	if err != nil || !strings.Contains(said.String(), "MB changed") || strings.Contains(said.String(), "the whole image") {
		t.Fatalf("open = %v; said %s", err, &said)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, image) {
		t.Errorf("the image has %d bytes, %v, and is another", len(got), err)
	}
}

// Where both do not fit, the download of the whole goes on with what it has left.
func TestDeltaFromRegistryWithoutRoom(t *testing.T) {
	image := testImage(t, "1.0.1", make([]byte, 1<<20), "")
	d := newDepot(t, &depot{shop: shop{image: image, index: indexOf(t, image)}})
	_, w := pupil(t, testImage(t, "1.0.0", []byte("root"), ""), d)
	if err := os.WriteFile(w.fetched+".part", image[:1<<20], 0o644); err != nil {
		t.Fatal(err)
	}
	w.free = func(string) (int64, error) { return source.Spare + int64(len(image)) - 1<<20, nil }
	var said bytes.Buffer
	f, err := w.open(t.Context(), "", nil, &said)
	if err != nil || !strings.Contains(said.String(), "the whole image: there is no room") || w.digest != d.digest {
		t.Fatalf("open = %v; said %s", err, &said)
	}
	f.Close()
	if d.total() > len(image)-1<<20+100_000 {
		t.Errorf("%d bytes were sent", d.total())
	}
}
