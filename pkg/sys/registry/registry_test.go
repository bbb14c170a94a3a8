package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"math/rand/v2"
	"net"
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
)

var update = flag.Bool("update", false, "rewrite the golden file")

// write makes a file of size bytes that do not repeat.
func write(t *testing.T, name string, size int, seed uint64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, noise(size, seed), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b)
	return b
}

// images returns an image for each architecture.
func images(t *testing.T, arches ...string) []Image {
	t.Helper()
	var all []Image
	for i, arch := range arches {
		all = append(all, Image{
			File: write(t, arch+".iso", 300_000+i, uint64(i+1)), Arch: arch,
			Release: Release{Version: "0.1.0", ID: "id-" + arch, Name: "kedge", Created: "2026-11-20T22:47:43Z"},
		})
	}
	return all
}

// quick is for tests: a registry on the loopback address answers at once.
func quick() Options { return Options{Delay: time.Millisecond} }

// A server is an in-process registry that notes what it is asked, and may
// treat a request itself.
type server struct {
	*httptest.Server
	registry http.Handler
	treat    func(w http.ResponseWriter, r *http.Request) bool // nil, or true when done

	lock  sync.Mutex
	asked []string
}

func newServer(t *testing.T, treat func(http.ResponseWriter, *http.Request) bool) *server {
	t.Helper()
	s := &server{registry: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))), treat: treat}
	s.Server = httptest.NewUnstartedServer(s)
	s.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
	s.lock.Unlock()
	if s.treat == nil || !s.treat(w, r) {
		s.registry.ServeHTTP(w, r)
	}
}

// requests returns those that contain a text, and forgets all.
func (s *server) requests(text string) (found []string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, a := range s.asked {
		if strings.Contains(a, text) {
			found = append(found, a)
		}
	}
	s.asked = nil
	return found
}

func (s *server) host() string { return s.Listener.Addr().String() }

// dockerRegistry starts the registry that Debian has, on a folder.
func dockerRegistry(t *testing.T, env ...string) (host string) {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " + dir + "/data}}\nhttp: {addr: " + host + "}\n"
	if err := os.WriteFile(config, []byte(text+strings.Join(env, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(program, "serve", config)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("docker-registry: %s", out.Bytes())
		}
	})
	for range 200 {
		if c, err := net.Dial("tcp", host); err == nil {
			c.Close()
			return host
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("docker-registry does not answer: %s", out.Bytes())
	return ""
}

// same fails the test unless two files have the same content.
func same(t *testing.T, got, want string) {
	t.Helper()
	g, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) {
		t.Errorf("%s has %d bytes that are not the %d of %s", got, len(g), len(w), want)
	}
	if _, err := os.Stat(got + ".part"); err == nil {
		t.Errorf("%s.part was left behind", got)
	}
}

// places are where images can go; each runs the same tests.
var places = map[string]func(t *testing.T) (ref string){
	"in-process registry": func(t *testing.T) string { return newServer(t, nil).host() + "/os/kedge" },
	"docker-registry":     func(t *testing.T) string { return dockerRegistry(t) + "/os/kedge" },
	"folder":              func(t *testing.T) string { return "oci:" + t.TempDir() + "/stick" },
	"archive":             func(t *testing.T) string { return "oci-archive:" + t.TempDir() + "/stick.tar" },
}

func TestPushAndPull(t *testing.T) {
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			ctx, repo, both := t.Context(), place(t), images(t, "arm64", "amd64")
			var moved, size int64
			o := quick()
			o.Progress = func(d, s int64) { moved, size = d, s }
			index, err := Push(ctx, repo+":v1", both, o)
			if err != nil || moved != 600_001 || size != moved {
				t.Fatalf("Push = %q, %v; progress ended at %d of %d bytes", index, err, moved, size)
			}
			if again, err := Push(ctx, repo+":v1", both, quick()); err != nil || again != index {
				t.Errorf("second Push = %q, %v; want %q", again, err, index)
			}
			for _, i := range both {
				for _, ref := range []string{repo + ":v1", repo + "@" + index, repo + ":v1@" + index} {
					file := filepath.Join(t.TempDir(), "pulled.iso")
					moved = 0
					got, err := Pull(ctx, ref, i.Arch, file, o)
					if err != nil || got != index || moved != size {
						t.Fatalf("Pull(%s) = %q, %v; want %q; progress ended at %d of %d bytes", ref, got, err, index, moved, size)
					}
					same(t, file, i.File)
				}
			}
			file := filepath.Join(t.TempDir(), "none")
			_, err = Pull(ctx, repo+":v1", "riscv64", file, quick())
			if !errors.Is(err, ErrArch) || !strings.Contains(err.Error(), "amd64, arm64") {
				t.Errorf("Pull for riscv64 = %v, want ErrArch with those there are", err)
			}
			if _, err = Pull(ctx, repo+":v2", "amd64", file, quick()); !errors.Is(err, ErrNotFound) {
				t.Errorf("Pull of a missing tag = %v, want ErrNotFound", err)
			}
			if left, _ := filepath.Glob(file + "*"); left != nil {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestOneArchitecture(t *testing.T) {
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			repo, one := place(t), images(t, "arm64")
			digest, err := Push(t.Context(), repo+":v1", one, quick())
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "pulled.iso")
			if got, err := Pull(t.Context(), repo+":v1", "arm64", file, quick()); err != nil || got != digest {
				t.Errorf("Pull = %q, %v; want %q", got, err, digest)
			}
			same(t, file, one[0].File)
			_, err = Pull(t.Context(), repo+":v1", "amd64", file, quick())
			if !errors.Is(err, ErrArch) || !strings.Contains(err.Error(), "there is arm64") {
				t.Errorf("Pull for amd64 = %v, want ErrArch with arm64", err)
			}
		})
	}
}

// The digests of layer and index stand for all that is written: they must not
// change unless we mean it.
func TestWhatIsWritten(t *testing.T) {
	dir := t.TempDir()
	b, err := assemble(t.Context(), images(t, "amd64", "arm64"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Push(t.Context(), "oci:"+dir, images(t, "amd64", "arm64"), quick()); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, bl := range b.blobs {
		raw, err := os.ReadFile(filepath.Join(dir, blobFile(bl.Digest)))
		if err != nil {
			t.Fatal(err)
		}
		if bl.file != "" {
			raw = []byte("an OS image")
		}
		got.WriteString(string(bl.MediaType) + " " + bl.Digest.Hex[:8] + "\n" + indent(t, raw) + "\n")
	}
	index, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	got.WriteString(indexFile + "\n" + indent(t, index) + "\n")
	golden := filepath.Join("testdata", "layout.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got.String() != string(want) {
		t.Errorf("written (%v; -update writes %s anew):\n%s", err, golden, got.String())
	}
}

func indent(t *testing.T, raw []byte) string {
	t.Helper()
	var b bytes.Buffer
	if raw[0] != '{' {
		return string(raw)
	}
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWhatIsThereIsNotSentAgain(t *testing.T) {
	s := newServer(t, nil)
	both := images(t, "amd64", "arm64")
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", both[:1], quick()); err != nil {
		t.Fatal(err)
	}
	if sent := s.requests("PATCH"); len(sent) != 2 {
		t.Errorf("first Push sent %q, want image and config", sent)
	}
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", both, quick()); err != nil {
		t.Fatal(err)
	}
	if sent := s.requests("PATCH"); len(sent) != 2 {
		t.Errorf("second Push sent %q, want image and config of arm64", sent)
	}
	if _, err := Push(t.Context(), s.host()+"/kedge:v2", both, quick()); err != nil {
		t.Fatal(err)
	}
	if sent := s.requests("PATCH"); len(sent) != 0 {
		t.Errorf("Push of another tag sent %q, want nothing", sent)
	}
}

// A folder holds several releases; a tag moves.
func TestFolderOfReleases(t *testing.T) {
	stick := "oci:" + filepath.Join(t.TempDir(), "stick")
	first, second := images(t, "amd64"), images(t, "amd64", "arm64")[1:]
	second[0].Release.Version = "0.2.0"
	old, err := Push(t.Context(), stick, first, quick())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(t.Context(), stick, "amd64", filepath.Join(t.TempDir(), "f"), quick()); err != nil {
		t.Errorf("Pull of the only release = %v", err)
	}
	digest, err := Push(t.Context(), stick, second, quick())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f")
	_, err = Pull(t.Context(), stick, "arm64", file, quick())
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"0.1.0" "0.2.0"`) {
		t.Errorf("Pull of one of two = %v, want ErrNotFound with both tags", err)
	}
	if got, err := Pull(t.Context(), stick+":0.2.0", "arm64", file, quick()); err != nil || got != digest {
		t.Errorf("Pull of 0.2.0 = %q, %v; want %q", got, err, digest)
	}
	same(t, file, second[0].File)
	if got, err := Push(t.Context(), stick+":0.1.0", second, quick()); err != nil || got != digest {
		t.Errorf("Push = %q, %v; want %q", got, err, digest)
	}
	if got, err := Pull(t.Context(), stick+":0.1.0", "arm64", file, quick()); err != nil || got != digest {
		t.Errorf("Pull after the tag moved = %q, %v; want %q", got, err, digest)
	}
	if got, err := Pull(t.Context(), stick+"@"+old, "amd64", file, quick()); err != nil || got != old {
		t.Errorf("Pull by digest = %q, %v; want %q", got, err, old)
	}
}

func TestPushRefuses(t *testing.T) {
	one := images(t, "amd64")
	gone := []Image{{File: filepath.Join(t.TempDir(), "gone"), Arch: "amd64"}}
	for _, c := range []struct {
		name, ref string
		images    []Image
		want      string
	}{
		{"digest", "oci:d@sha256:" + strings.Repeat("0", 64), one, "name a tag"},
		{"no images", "oci:d", nil, "no images"},
		{"twice the same", "oci:d", append(one, one...), "two images for amd64"},
		{"no file", "oci:d", gone, "no such file"},
		{"no path", "oci::v1", one, "no path"},
		{"bad name", "127.0.0.1:1/UPPER:v1", one, "read reference"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if _, err := Push(t.Context(), c.ref, c.images, quick()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Push = %v, want %q", err, c.want)
			}
			if left, _ := filepath.Glob("*"); left != nil {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// Bad bytes on a stick are found, and written anew by the next Push.
func TestDamagedFolder(t *testing.T) {
	dir, one := t.TempDir(), images(t, "amd64")
	if _, err := Push(t.Context(), "oci:"+dir, one, quick()); err != nil {
		t.Fatal(err)
	}
	b, err := assemble(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	for _, bl := range b.blobs {
		path := filepath.Join(dir, blobFile(bl.Digest))
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{"changed": append(bytes.Clone(good[:len(good)-1]), '?'), "short": good[1:]} {
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "f")
			if _, err := Pull(t.Context(), "oci:"+dir, "amd64", file, quick()); !errors.Is(err, ErrDigest) {
				t.Errorf("%s %s: Pull = %v, want ErrDigest", bl.MediaType, name, err)
			}
			if left, _ := filepath.Glob(file + "*"); left != nil {
				t.Errorf("left behind: %q", left)
			}
		}
		if _, err := Push(t.Context(), "oci:"+dir, one, quick()); err != nil {
			t.Fatal(err)
		}
		if mended, err := os.ReadFile(path); err != nil || !bytes.Equal(mended, good) {
			t.Errorf("%s was not written anew: %v", bl.MediaType, err)
		}
	}
}

// Images are streamed: what is allocated does not grow with them.
func TestNoImageInMemory(t *testing.T) {
	const size = 64 << 20
	iso := filepath.Join(t.TempDir(), "large.iso")
	if err := os.WriteFile(iso, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(iso, size); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docker-registry", "folder", "archive"} {
		t.Run(name, func(t *testing.T) {
			ref := places[name](t) + ":v1"
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := Push(t.Context(), ref, []Image{{File: iso, Arch: "amd64"}}, quick()); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "f")
			if _, err := Pull(t.Context(), ref, "amd64", file, quick()); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > size/4 {
				t.Errorf("%d bytes were allocated to move an image of %d", got, size)
			}
		})
	}
}

// skopeo is a foreign judge: it copies what we wrote, and we read what it wrote.
func TestSkopeo(t *testing.T) {
	program, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	both, host := images(t, "amd64", "arm64"), dockerRegistry(t)
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	want, err := Push(t.Context(), "oci:"+dir+"/a:v1", both, quick())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Push(t.Context(), "oci-archive:"+dir+"/a.tar:v1", both, quick()); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"oci:" + dir + "/a:v1", "docker://" + host + "/kedge:v1"},
		{"oci-archive:" + dir + "/a.tar:v1", "docker://" + host + "/kedge:v2"},
		{"docker://" + host + "/kedge:v1", "oci:" + dir + "/b:v3"},
		{"docker://" + host + "/kedge:v1", "oci-archive:" + dir + "/b.tar:v3"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, "--policy", policy, "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", c[0], c[1])
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("skopeo copy %s %s: %v: %s", c[0], c[1], err, out)
		}
		for _, i := range both {
			file := filepath.Join(dir, "pulled.iso")
			got, err := Pull(t.Context(), strings.TrimPrefix(c[1], "docker://"), i.Arch, file, quick())
			if err != nil || got != want {
				t.Fatalf("Pull(%s) = %q, %v; want %q", c[1], got, err, want)
			}
			same(t, file, i.File)
		}
	}
}
