package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/chunk"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/node/source"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// testImage makes an image with this root and configuration.
func testImage(t *testing.T, version string, root []byte, config string) []byte {
	t.Helper()
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "image.iso")
	area, err := isoimage.EncodeEmbed([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(root)
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: version, Arch: "amd64", Kernel: "6.12",
		Files: []release.File{{Path: release.RootPath, Size: int64(len(root)), SHA256: hex.EncodeToString(sum[:])}}}
	m.ID = m.ComputeID()
	for name, data := range map[string][]byte{
		release.ManifestPath: m.Encode(), release.SignaturePath: make([]byte, release.SignatureSize),
		release.RootPath: root, isoimage.EmbedPath[1:]: area,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "-o", to, dir).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func indexOf(t *testing.T, image []byte) []byte {
	t.Helper()
	i, err := release.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	x, err := chunk.Of(i)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A shop is a web server with an image, perhaps with an index of it.
type shop struct {
	image, index []byte
	whole        bool // it knows no ranges
	trouble      int  // answered to every range; 0 for none

	mu    sync.Mutex
	sent  int
	dieAt int // breaks every connection once so many bytes are sent; 0 means never
}

// total returns how many bytes were sent.
func (s *shop) total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// die makes it break connections from so many bytes on.
func (s *shop) die(at int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dieAt = at
}

// send counts bytes that are to be sent, and says whether they may be.
func (s *shop) send(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dieAt > 0 && s.sent+n > s.dieAt {
		return false
	}
	s.sent += n
	return true
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := s.image
	if strings.HasSuffix(r.URL.Path, chunk.Suffix) {
		if body = s.index; body == nil {
			http.NotFound(w, r)
			return
		}
	}
	if s.trouble != 0 && r.Header.Get("Range") != "" {
		w.WriteHeader(s.trouble)
		return
	}
	if s.whole {
		r.Header.Del("Range")
	}
	http.ServeContent(&till{w, s}, r, "", time.Time{}, bytes.NewReader(body))
}

type till struct {
	http.ResponseWriter
	shop *shop
}

func (c *till) Write(p []byte) (int, error) {
	if !c.shop.send(len(p)) {
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

// slotWith is a system that runs an image in slot A.
func slotWith(t *testing.T, image []byte) update.System {
	t.Helper()
	medium := filepath.Join(t.TempDir(), "slot-a")
	if err := os.WriteFile(medium, append(bytes.Clone(image), make([]byte, 1<<20)...), 0o644); err != nil {
		t.Fatal(err)
	}
	return update.System{Medium: medium}
}

func TestFetchDelta(t *testing.T) {
	root := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{1}).Read(root)
	changed := bytes.Clone(root)
	rand.NewChaCha8([32]byte{2}).Read(changed[2<<20 : 2<<20+500_000])
	fresh := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{3}).Read(fresh)

	running := testImage(t, "1.0.0", root, "hostname: here\n")
	image, strange := testImage(t, "1.0.1", changed, ""), testImage(t, "2.0.0", fresh, "")
	index := indexOf(t, image)
	signed := bytes.Clone(image)
	at, err := isoimage.Find(bytes.NewReader(image), int64(len(image)), "/"+release.SignaturePath)
	if err != nil {
		t.Fatal(err)
	}
	copy(signed[at.Offset:], "a signature")
	relabelled := indexOf(t, image)
	copy(relabelled[24:32], "another!")
	sum := sha256.Sum256(relabelled[:len(relabelled)-32])
	copy(relabelled[len(relabelled)-32:], sum[:])
	worn := bytes.Clone(running)
	for at := 1 << 20; at < len(worn); at += 1 << 20 {
		worn[at] ^= 4
	}

	for _, c := range []struct {
		name    string
		running []byte
		shop    *shop
		used    bool
		most    int // bytes that may be sent
		says    string
	}{
		{"a small change", running, &shop{image: image, index: index}, true, 900_000, "0.6 of 6.9 MB changed"},
		{"signed after the index was made", running, &shop{image: signed, index: index}, true, 900_000, "MB changed"},
		{"a worn disk", worn, &shop{image: image, index: index}, true, 1_800_000, "MB changed"},
		{"no index", running, &shop{image: image}, false, 1000, "no chunk index"},
		{"a damaged index", running, &shop{image: image, index: index[:len(index)-1]}, false, 20_000, "damaged"},
		{"a page instead of an index", running, &shop{image: image, index: []byte("<html>sign in</html>")}, false, 20_000, "bad chunk index"},
		{"an index of another image", running, &shop{image: image, index: indexOf(t, strange)}, false, 20_000, "too little is the same"},
		{"an image that was replaced", running, &shop{image: strange, index: index}, false, 200_000, "of another image"},
		{"an index that tells another release", running, &shop{image: image, index: relabelled}, false, 900_000, "leads to another image"},
		{"no ranges", running, &shop{image: image, index: index, whole: true}, false, 20_000 + len(image), "no parts"},
		{"trouble with ranges alone", running, &shop{image: image, index: index, trouble: http.StatusServiceUnavailable}, false, 20_000, "server answered 503"},
		{"too many ranges", running, &shop{image: image, index: index, trouble: http.StatusTooManyRequests}, false, 20_000, "server answered 429"},
		{"all new", running, &shop{image: strange, index: indexOf(t, strange)}, false, 20_000, "too little is the same"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(c.shop)
			defer s.Close()
			to := filepath.Join(t.TempDir(), "upgrade.iso")
			u := &upgrader{slots: slotWith(t, c.running), running: update.Running{Slot: "a"}}
			var said bytes.Buffer
			used, err := u.fetchDelta(t.Context(), &onWeb{s.URL + "/kedge.iso?token=1", fetch.Options{Delay: time.Millisecond, Tries: 2}}, to, nil, &said)
			if err != nil || used != c.used || !strings.Contains(said.String(), c.says) {
				t.Fatalf("fetchDelta = %v, %v, want %v; said %s", used, err, c.used, &said)
			}
			if c.shop.total() > c.most {
				t.Errorf("%d bytes were sent, at most %d should be", c.shop.total(), c.most)
			}
			if _, err := os.Stat(to + partSuffix); err == nil {
				t.Error("a part is left behind")
			}
			got, err := os.ReadFile(to)
			if !used {
				if err == nil {
					t.Error("there is an image nobody should use")
				}
				return
			}
			// It has the configuration of the running slot.
			want := bytes.Clone(c.shop.image)
			at, _ := isoimage.Find(bytes.NewReader(want), int64(len(want)), isoimage.EmbedPath)
			copy(want[at.Offset:at.Offset+at.Size], c.running[at.Offset:])
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the image that was put together has %d bytes, %v, and is another", len(got), err)
			}
		})
	}
}

func TestFetchDeltaGoesOnAfterACut(t *testing.T) {
	root := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{1}).Read(root)
	changed := bytes.Clone(root)
	rand.NewChaCha8([32]byte{2}).Read(changed[1<<20 : 4<<20])
	image := testImage(t, "1.0.1", changed, "")
	dir := t.TempDir()
	medium, to := filepath.Join(dir, "slot-a"), filepath.Join(dir, "upgrade.iso")
	if err := os.WriteFile(medium, testImage(t, "1.0.0", root, ""), 0o644); err != nil {
		t.Fatal(err)
	}
	u := &upgrader{slots: update.System{Medium: medium}, running: update.Running{Slot: "a"}}
	shop := &shop{image: image, index: indexOf(t, image), dieAt: 2 << 20}
	s := httptest.NewServer(shop)
	defer s.Close()
	at := &onWeb{s.URL + "/kedge.iso", fetch.Options{Delay: time.Millisecond, Tries: 2}}
	if _, err := u.fetchDelta(t.Context(), at, to, nil, &bytes.Buffer{}); err == nil {
		t.Fatal("a dead server is no error")
	}
	first := shop.total()
	if got := hintOf(wish{fetched: to}.hint(errors.New("cut"), time.Now())); !strings.Contains(got, "goes on with it") {
		t.Errorf("the way out is %q", got)
	}
	shop.die(0)
	begin := func(size, have int64) error {
		if part := fetch.Allocated(to + partSuffix); size != int64(len(image)) || have != part || have == 0 {
			t.Errorf("room is asked for %d bytes, %d are said to be here, %d are", size, have, part)
		}
		return nil
	}
	used, err := u.fetchDelta(t.Context(), at, to, begin, &bytes.Buffer{})
	if err != nil || !used {
		t.Fatalf("fetchDelta = %v, %v", used, err)
	}
	if got, _ := os.ReadFile(to); !bytes.Equal(got, image) {
		t.Error("what was put together is not the image")
	}
	if again := shop.total() - first; first < 1<<20 || again > 2<<20 {
		t.Errorf("%d bytes were sent before the cut, %d after it", first, again)
	}
}

// Where both do not fit, the download goes on with what it has left, and the rest
// goes.
func TestFetchDeltaWithoutRoom(t *testing.T) {
	image := testImage(t, "1.0.1", make([]byte, 1<<20), "")
	s := httptest.NewServer(&shop{image: image, index: indexOf(t, image)})
	defer s.Close()
	to := filepath.Join(t.TempDir(), "upgrade.iso")
	for _, suffix := range []string{".part", partSuffix} {
		if err := os.WriteFile(to+suffix, make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	begin := func(size, _ int64) error { return source.Room(size, 0, source.Spare) }
	used, err := (&upgrader{}).fetchDelta(t.Context(), &onWeb{url: s.URL + "/kedge.iso"}, to, begin, &said)
	if used || err != nil || !strings.Contains(said.String(), "there is no room") {
		t.Errorf("fetchDelta = %v, %v; said %s", used, err, &said)
	}
	if isFile(to+partSuffix) || !isFile(to+".part") {
		t.Error("the wrong one is left")
	}
}

func TestForget(t *testing.T) {
	to := filepath.Join(t.TempDir(), "upgrade.iso")
	for _, suffix := range []string{"", ".part", fetch.MarkSuffix, partSuffix} {
		if err := os.WriteFile(to+suffix, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := forget(to); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(to + "*"); left != nil {
		t.Errorf("left: %v", left)
	}
}
