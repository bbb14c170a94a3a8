package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/keylist"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/host/sign"
	"github.com/kedgeos/kedge/pkg/node/source"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// otherArch is an architecture that this machine is not.
var otherArch = map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]

func newKey(t *testing.T) minisign.SecretKey {
	t.Helper()
	k, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// An imageSpec says which image makeImage makes.
type imageSpec struct {
	version, arch, from string
	key                 *minisign.SecretKey // nil leaves it unsigned
	tamper              bool                // change the manifest after it was signed
}

// rootText is the content of an image's root, which a test may look for.
var rootText = bytes.Repeat([]byte("kedge root file system\n"), 20_000)

func makeImage(t *testing.T, s imageSpec) []byte {
	t.Helper()
	if s.arch == "" {
		s.arch = runtime.GOARCH
	}
	sum := sha256.Sum256(rootText)
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: s.version, Arch: s.arch, Kernel: "6.12", UpgradeFrom: s.from,
		Files: []release.File{{Path: release.RootPath, Size: int64(len(rootText)), SHA256: hex.EncodeToString(sum[:])}}}
	m.ID = m.ComputeID()
	area := make([]byte, release.SignatureSize)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "image.iso")
	for name, data := range map[string][]byte{release.ManifestPath: m.Encode(), release.RootPath: rootText, release.SignaturePath: area} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "-o", file, dir).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	if s.key != nil {
		if err := sign.Sign(t.Context(), file, *s.key); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if s.tamper {
		b = bytes.Replace(b, []byte(`"kernel": "6.12"`), []byte(`"kernel": "6.13"`), 1)
	}
	return b
}

// newUpgrader is a machine that runs 0.1.0 and trusts a key.
func newUpgrader(key minisign.SecretKey) *upgrader {
	return &upgrader{
		running: update.Running{Release: update.Release{Version: "0.1.0", ID: "0000000000000001"}, Slot: "a"},
		policy:  config.Upgrade{Keys: []string{key.Public().String()}},
	}
}

func newWish(t *testing.T, u *upgrader, name string) wish {
	t.Helper()
	k, err := update.OpenKeyring(u.policy.Keys, filepath.Join(t.TempDir(), "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	return wish{name: name, slotSize: 64 << 20, fetched: filepath.Join(t.TempDir(), "upgrade.iso"), keyring: k}
}

// TestRefusals puts all that must be refused before a machine that has no slots:
// a refusal that came after a write would not get this far. Each names the way
// out.
func TestRefusals(t *testing.T) {
	ours, theirs := newKey(t), newKey(t)
	good := makeImage(t, imageSpec{version: "0.2.0", key: &ours, from: ">=0.1.0"})
	opened, err := release.Open(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	id := opened.Manifest.ID
	flipped := bytes.Clone(good)
	flipped[bytes.Index(flipped, rootText)+len(rootText)/2] ^= 4
	inManifest := bytes.Clone(good)
	inManifest[bytes.Index(inManifest, []byte(`"6.12"`))+3] ^= 1
	for _, c := range []struct {
		name      string
		image     []byte
		change    func(u *upgrader, w *wish)
		want      error
		hint      string
		worthless bool // what was fetched is removed
	}{
		{"a good one", good, nil, nil, "", false},
		{"another architecture", makeImage(t, imageSpec{version: "0.2.0", key: &ours, arch: otherArch}), nil, update.ErrArch, "takes images for " + runtime.GOARCH, true},
		{"older", makeImage(t, imageSpec{version: "0.0.9", key: &ours}), nil, update.ErrDowngrade, "--allow-downgrade", false},
		{"older, allowed", makeImage(t, imageSpec{version: "0.0.9", key: &ours}), func(_ *upgrader, w *wish) { w.policy.Downgrade = true }, nil, "", false},
		{"may not follow", makeImage(t, imageSpec{version: "0.9.0", key: &ours, from: ">=0.5.0 <0.9.0"}), nil, update.ErrFrom, "go through a release that may follow this one", false},
		{"may not follow, allowed", makeImage(t, imageSpec{version: "0.9.0", key: &ours, from: ">=0.5.0"}), func(_ *upgrader, w *wish) { w.policy.From = true }, nil, "", false},
		{"failed here before", good, func(u *upgrader, _ *wish) {
			u.state.Bad = []update.Bad{{Release: update.Release{Version: "0.2.0", ID: id}, Reason: "no network"}}
		}, update.ErrBad, "--again", false},
		{"runs already", good, func(u *upgrader, _ *wish) { u.running.ID = id }, update.ErrSame, "", true},
		{"a trial runs", good, func(u *upgrader, _ *wish) { u.running.Trial = true }, update.ErrBusy, "kedge upgrade status", false},
		{"larger than a slot", good, func(_ *upgrader, w *wish) { w.slotSize = 1000 }, update.ErrTooLarge, "kedge install", true},
		{"unsigned", makeImage(t, imageSpec{version: "0.2.0"}), nil, release.ErrUnsigned, "kedge sign", false},
		{"unsigned, allowed", makeImage(t, imageSpec{version: "0.2.0"}), func(u *upgrader, _ *wish) { u.policy.AllowUnsigned = true }, nil, "", false},
		{"by a stranger", makeImage(t, imageSpec{version: "0.2.0", key: &theirs}), nil, minisign.ErrUnknownKey, "upgrade.keys", false},
		{"another's signature", makeImage(t, imageSpec{version: "0.2.0", key: &ours, tamper: true}), nil, minisign.ErrSignature, "bring the image again", true},
		{"by a revoked key", good, func(_ *upgrader, w *wish) {
			w.keyring.List = keylist.List{Serial: 3, Keys: []string{theirs.Public().String()}, Revoked: []string{ours.Public().ID.String()}}
		}, update.ErrRevoked, "kedge upgrade keys", false},
		{"by a key of the list", makeImage(t, imageSpec{version: "0.2.0", key: &theirs}), func(_ *upgrader, w *wish) {
			w.keyring.List = keylist.List{Serial: 3, Keys: []string{theirs.Public().String()}}
		}, nil, "", false},
		{"cut short", good[:len(good)/2], nil, isoimage.ErrTruncated, "bring the image again", true},
		{"cut within the head", good[:20_000], nil, isoimage.ErrFormat, "bring the image again", true},
		{"a flipped bit in the root", flipped, nil, release.ErrDamaged, "bring the image again", true},
		{"a flipped bit in the manifest", inManifest, nil, minisign.ErrSignature, "bring the image again", true},
		{"no image at all", bytes.Repeat([]byte("x"), 100_000), nil, isoimage.ErrFormat, "bring the image again", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUpgrader(ours)
			file := filepath.Join(t.TempDir(), "image.iso")
			if err := os.WriteFile(file, c.image, 0o444); err != nil {
				t.Fatal(err)
			}
			w := newWish(t, u, file)
			if c.change != nil {
				c.change(u, &w)
			}
			f, err := w.open(t.Context(), "", nil, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			_, err = u.judge(t.Context(), w, f, io.Discard)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("judge = %v, want %v", err, c.want)
			}
			if got := hintOf(upgradeHint(w.hint(err, time.Now()))); !strings.Contains(got, c.hint) || c.hint == "" && got != "" {
				t.Errorf("the way out of %q is %q, want %q", err, got, c.hint)
			}
			if err != nil && worthless(err) != c.worthless {
				t.Errorf("worthless(%v) = %v", err, !c.worthless)
			}
		})
	}
}

// hintOf returns the line that the user sees below an error.
func hintOf(err error) string {
	if err == nil {
		return ""
	}
	var out bytes.Buffer
	cli.Main(context.Background(), cli.Env{Stdout: io.Discard, Stderr: &out, Args: []string{"kedge", "x"}},
		&cli.Command{Name: "x", Run: func(context.Context, cli.Env) error { return err }})
	_, hint, _ := strings.Cut(out.String(), "hint: ")
	return hint
}

// A web serves one image, cut or stalled as told, and writes down what it was
// asked.
type web struct {
	*httptest.Server
	lock  sync.Mutex
	image []byte
	stop  int
	asked []string
}

func newWeb(t *testing.T, image []byte) *web {
	t.Helper()
	w := &web{image: image}
	w.Server = httptest.NewUnstartedServer(w)
	w.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.Start()
	t.Cleanup(w.Close)
	return w
}

// ServeHTTP implements http.Handler.
func (s *web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.asked = append(s.asked, r.Header.Get("Range"))
	w.Header().Set("ETag", `"one"`)
	if s.stop > 0 && r.Header.Get("Range") == "" {
		w.Header().Set("Content-Length", fmt.Sprint(len(s.image)))
		_, _ = w.Write(s.image[:s.stop])
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.image))
}

func TestFromWeb(t *testing.T) {
	ours := newKey(t)
	image := append(makeImage(t, imageSpec{version: "0.2.0", key: &ours}), make([]byte, 4<<20)...)
	u, s := newUpgrader(ours), newWeb(t, image)
	w := newWish(t, u, s.URL+"/kedge.iso")
	s.stop = 3 << 20
	// It ends with the command, here after the first bytes.
	ctx, cancel := context.WithCancel(t.Context())
	hung := w
	hung.rate = 2 << 20
	time.AfterFunc(1200*time.Millisecond, cancel)
	if _, err := hung.open(ctx, "", nil, io.Discard); !errors.Is(err, context.Canceled) {
		t.Fatalf("open = %v", err)
	}
	if got := hintOf(w.hint(context.Canceled, time.Now())); !strings.Contains(got, "goes on with it") {
		t.Errorf("the way out is %q", got)
	}
	var told bytes.Buffer
	f, err := w.open(t.Context(), "", nil, &told)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := u.judge(t.Context(), w, f, io.Discard); err != nil {
		t.Error(err)
	}
	if !strings.Contains(told.String(), "go on after") || !strings.Contains(told.String(), "100 %") {
		t.Errorf("told %q", told.String())
	}
	if got := strings.Join(s.asked, " "); !strings.Contains(got, "bytes=") {
		t.Errorf("asked %q, want a range", got)
	}
	// A damaged one is not gone on with.
	if err := fetch.Forget(w.fetched); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(w.fetched + "*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What an earlier transfer has left takes room already, and none is thrown away
// for want of it.
func TestRoomOfWhatIsKept(t *testing.T) {
	const mib = 1 << 20
	image := make([]byte, 8*mib)
	for _, c := range []struct {
		name  string
		left  string // "" for nothing, "part" of the image, or "whole" for another one
		sized bool   // the server tells the size
		slot  int64
		free  int64 // beside what is left free
		want  error
		hint  string
		kept  bool // a part stays
	}{
		{"room for all", "", true, 64 * mib, 8 * mib, nil, "", false},
		{"room for the rest", "part", true, 64 * mib, 4 * mib, nil, "", false},
		{"room for the rest, its size unknown", "part", false, 64 * mib, 4 * mib, nil, "", false},
		{"room when the old one goes, the size unknown", "whole", false, 64 * mib, 5 * mib, nil, "", false},
		{"no room", "", true, 64 * mib, 7 * mib, source.ErrRoom, "make room in /var", false},
		{"no room for the rest", "part", true, 64 * mib, 1 * mib, source.ErrRoom, "make room in /var", true},
		{"no room for the rest, its size unknown", "part", false, 64 * mib, 1 * mib, source.ErrRoom, "make room in /var", true},
		{"larger than a slot, its size unknown", "part", false, 7 * mib, 32 * mib, fetch.ErrTooLarge, "kedge install", false},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"one"`)
			if c.sized || r.Header.Get("Range") != "" {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(image))
				return
			}
			w.(http.Flusher).Flush()
			_, _ = w.Write(image)
		}))
		w := newWish(t, newUpgrader(newKey(t)), s.URL+"/kedge.iso")
		w.slotSize, w.free = c.slot, func(string) (int64, error) { return source.Spare + c.free, nil }
		name, size := w.fetched+".part", 6*mib
		if c.left == "whole" {
			name, size = w.fetched, 4*mib
		}
		if c.left != "" {
			mark := fmt.Sprintf(`{"url": %q, "tag": "\"one\"", "size": -1}`, w.name)
			for name, b := range map[string][]byte{name: noise(size), w.fetched + fetch.MarkSuffix: []byte(mark)} {
				if err := os.WriteFile(name, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		f, err := w.open(t.Context(), "", nil, io.Discard)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: open = %v, want %v", c.name, err, c.want)
		}
		if got := hintOf(w.hint(err, time.Now())); !strings.Contains(got, c.hint) {
			t.Errorf("%s: the way out of %v is %q", c.name, err, got)
		}
		if w.kept() != c.kept {
			t.Errorf("%s: a part is there: %v", c.name, !c.kept)
		}
		if err == nil {
			f.Close()
		}
		s.Close()
	}
}

// The room of what was fetched counts once: it is moved, or goes.
func TestRoomOfKubernetes(t *testing.T) {
	const mib = 1 << 20
	w := wish{fetched: filepath.Join(t.TempDir(), "kubernetes.img"), free: func(string) (int64, error) { return 5 * mib, nil }}
	for name, n := range map[string]int{w.fetched: 3 * mib, w.fetched + ".part": 1 * mib} {
		if err := os.WriteFile(name, noise(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]struct {
		moves      string
		free, here int64
	}{
		w.fetched:         {w.fetched, 5, 3},
		"/media/kube.img": {"", 9, 0},
		"":                {"", 9, 0},
	} {
		u := &kubeUpgrader{facts: update.KubeFacts{Free: 1, Here: 1}, files: update.KubeFiles{Moves: "x"}}
		err := u.weigh(w, file)
		if err != nil || u.files.Moves != want.moves || u.facts.Free/mib != want.free || u.facts.Here/mib != want.here {
			t.Errorf("%s: %v, %q, %+v, want %+v", file, err, u.files.Moves, u.facts, want)
		}
	}
}

// noise is n bytes that a file system does not leave out.
func noise(n int) []byte { return bytes.Repeat([]byte("x"), n) }

// The way out of trouble with TLS: registries.yaml is for registries.
func TestHintsOfTLS(t *testing.T) {
	secure, plain := httptest.NewTLSServer(http.NotFoundHandler()), httptest.NewServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer secure.Close()
	defer plain.Close()
	get := func(url string) error {
		_, err := fetch.Bytes(t.Context(), url, fetch.Options{Tries: 1})
		return err
	}
	unknown, scheme := get(secure.URL), get("https"+strings.TrimPrefix(plain.URL, "http"))
	for _, c := range []struct {
		name string
		err  error
		hint string
	}{
		{"https://a.example/kedge.iso", unknown, "/etc/ssl/certs"},
		{"https://a.example/kedge.iso", scheme, "name the image as http://"},
		{"registry.example/os/kedge:v1", unknown, "registries.yaml"},
		{"registry.example/os/kedge:v1", scheme, "registries.yaml"},
	} {
		w := wish{name: c.name, fetched: filepath.Join(t.TempDir(), "x")}
		if got := hintOf(w.hint(c.err, time.Now())); !strings.Contains(got, c.hint) {
			t.Errorf("%s: the way out of %v is %q, want %q", c.name, c.err, got, c.hint)
		}
	}
}

func TestFromWebRefused(t *testing.T) {
	ours := newKey(t)
	u, s := newUpgrader(ours), newWeb(t, makeImage(t, imageSpec{version: "0.2.0", key: &ours}))
	for _, c := range []struct {
		name   string
		change func(w *wish)
		want   error
		hint   string
	}{
		{"larger than a slot", func(w *wish) { w.slotSize = 1000 }, update.ErrTooLarge, "kedge install"},
		{"another scheme", func(w *wish) { w.name = "ftp://example/kedge.iso" }, source.ErrForm, `"usb"`},
		{"no such file", func(w *wish) { w.name = "/nowhere.iso" }, os.ErrNotExist, "an image is a file"},
	} {
		w := newWish(t, u, s.URL+"/kedge.iso")
		c.change(&w)
		_, err := w.open(t.Context(), "", nil, io.Discard)
		if !errors.Is(err, c.want) || !strings.Contains(hintOf(w.hint(err, time.Now())), c.hint) {
			t.Errorf("%s: open = %v, want %v; the way out is %q", c.name, err, c.want, hintOf(w.hint(err, time.Now())))
		}
		if info, err := os.Stat(w.fetched + ".part"); err == nil && info.Size() > 0 {
			t.Errorf("%s: %d bytes were written", c.name, info.Size())
		}
	}
}

func TestFromRegistry(t *testing.T) {
	ours := newKey(t)
	dir := t.TempDir()
	var images []registry.Image
	for _, arch := range []string{otherArch, runtime.GOARCH} {
		file := filepath.Join(dir, arch+".iso")
		if err := os.WriteFile(file, makeImage(t, imageSpec{version: "0.2.0", key: &ours, arch: arch}), 0o644); err != nil {
			t.Fatal(err)
		}
		images = append(images, registry.Image{File: file, Arch: arch, Release: registry.Release{Version: "0.2.0"}})
	}
	var blobs int
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			blobs++
		}
		inner.ServeHTTP(w, r)
	}))
	defer s.Close()
	repository := s.Listener.Addr().String() + "/os/kedge"
	digest, err := registry.Push(t.Context(), repository+":both", images, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for ref, given := range map[string][]registry.Image{
		repository + ":other":                        images[:1],
		"oci:" + dir + "/layout:v2":                  images,
		"oci-archive:" + filepath.Join(dir, "a.tar"): images[1:],
	} {
		if _, err := registry.Push(t.Context(), ref, given, registry.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	u := newUpgrader(ours)
	for _, name := range []string{repository + ":both", repository + "@" + digest, "oci:" + dir + "/layout", "oci:" + dir + "/layout:v2", "oci-archive:" + dir + "/a.tar"} {
		w := newWish(t, u, name)
		f, err := w.open(t.Context(), "", nil, io.Discard)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if i, err := u.judge(t.Context(), w, f, io.Discard); err != nil || i.Manifest.Arch != runtime.GOARCH {
			t.Errorf("%s: judge = %v", name, err)
		}
		f.Close()
	}
	blobs = 0
	for _, c := range []struct {
		name, hint string
		change     func(w *wish)
		want       error
	}{
		{repository + ":other", "takes images for " + runtime.GOARCH, func(*wish) {}, registry.ErrArch},
		{repository + ":none", "kedge push", func(*wish) {}, registry.ErrNotFound},
		{repository + ":both", "kedge install", func(w *wish) { w.slotSize = 1000 }, update.ErrTooLarge},
		{"oci:" + dir + "/none", "kedge pull", func(*wish) {}, registry.ErrNotFound},
	} {
		w := newWish(t, u, c.name)
		c.change(&w)
		_, err := w.open(t.Context(), "", nil, io.Discard)
		if !errors.Is(err, c.want) || !strings.Contains(hintOf(w.hint(err, time.Now())), c.hint) {
			t.Errorf("%s: open = %v, want %v; the way out is %q", c.name, err, c.want, hintOf(w.hint(err, time.Now())))
		}
	}
	if blobs > 1 { // the configuration that tells the architecture
		t.Errorf("%d blobs were fetched for what is refused", blobs)
	}
}

// The clock of a machine without a battery: TLS fails, and says why.
func TestClockAt1970(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer s.Close()
	then := time.Unix(240, 0)
	pool := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: pool, ServerName: "example.com", Time: func() time.Time { return then.Add(-10 * 365 * 24 * time.Hour) }}}}
	_, err := fetch.Bytes(t.Context(), s.URL, fetch.Options{Client: client, Delay: time.Millisecond})
	w := wish{fetched: filepath.Join(t.TempDir(), "x")}
	if got := hintOf(w.hint(err, then.Add(-10*365*24*time.Hour))); !strings.Contains(got, "the clock of this machine says 19") || !strings.Contains(got, "date -u -s") {
		t.Errorf("%v: the way out is %q", err, got)
	}
}

func TestTakeKeys(t *testing.T) {
	ours, fresh := newKey(t), newKey(t)
	dir := t.TempDir()
	put := func(name string, l keylist.List, by minisign.SecretKey) {
		t.Helper()
		signature, err := minisign.Sign(by, bytes.NewReader(l.Encode()), "", "")
		if err != nil {
			t.Fatal(err)
		}
		for suffix, b := range map[string][]byte{"": l.Encode(), keylist.SignatureSuffix: signature} {
			if err := os.WriteFile(filepath.Join(dir, name+suffix), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("one.json", keylist.List{Serial: 1, Keys: []string{fresh.Public().String()}}, ours)
	put("two.json", keylist.List{Serial: 2, Keys: []string{fresh.Public().String()}, Revoked: []string{ours.Public().ID.String()}}, fresh)
	put("three.json", keylist.List{Serial: 3, Keys: []string{ours.Public().String()}}, ours)
	past := time.Now().AddDate(-1, 0, 0)
	put("over.json", keylist.List{Serial: 4, Expires: &past, Keys: []string{fresh.Public().String()}}, fresh)
	put("bare.json", keylist.List{Serial: 4}, fresh)
	if err := os.Remove(filepath.Join(dir, "bare.json.minisig")); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer s.Close()
	k, err := update.OpenKeyring([]string{ours.Public().String()}, filepath.Join(t.TempDir(), "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		want error
		hint string
	}{
		{"", nil, ""},
		{dir + "/one.json", nil, ""},
		{s.URL + "/two.json?site=7", nil, ""},
		{dir + "/one.json", keylist.ErrOlder, "raises the serial"},
		{dir + "/two.json", keylist.ErrOlder, "raises the serial"},
		{dir + "/three.json", minisign.ErrUnknownKey, "a key that is trusted now"},
		{dir + "/over.json", keylist.ErrExpired, "kedge keys list add FILE --expires DAY"},
		{dir + "/bare.json", os.ErrNotExist, "side by side"},
		{s.URL + "/bare.json", fetch.ErrStatus, ""},
	} {
		err := takeKeys(t.Context(), k, c.name, io.Discard)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: takeKeys = %v, want %v", c.name, err, c.want)
		}
		if err != nil && !strings.Contains(hintOf(keysHint(err, time.Now())), c.hint) {
			t.Errorf("%s: the way out of %v is %q", c.name, err, hintOf(keysHint(err, time.Now())))
		}
	}
	want := fmt.Sprintf("Trusted     %s, %s, of the key list\nRevoked     %s\nKey list    2", fresh.Public().ID, fresh.Public(), ours.Public().ID)
	if got := strings.Join(describeKeys(k, time.Now()), "\n"); got != want {
		t.Errorf("described as\n%s\nwant\n%s", got, want)
	}
}
