package build

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/verity"
)

// A site is a small world to build in: a recipe, its lock, and a mirror that
// serves its packages.
type site struct {
	dir    string // holds images/small.yaml and what it names
	mirror string // folder that the server shows as /debian
	server *httptest.Server
	lock   Lock
}

const smallRecipe = `name: small
debian: {suite: trixie, components: [main]}
kernel: {package: "linux-image-{arch}", modules: kernel/modules, initrd: kernel/initrd, strip: true}
packages: {base: [sample, part]}
only: {part: [/usr/bin/part]}
programs:
  - {name: hello, module: hello, destination: /usr/sbin/init, initrd: /init, links: {/usr/bin/hello: ../sbin/init}}
images:
  - {name: "kedge.local/hello:1", file: /usr/share/kedge/images/hello.tar, program: hello, path: /bin/hello, entrypoint: [/bin/hello], user: "65535:65535"}
overlays: [overlay]
folders: [/proc, /sys]
links: {/etc/mtab: /proc/mounts}
modes: {/etc/secret: "0600", /usr/bin/sample: "4755"}
prune: [usr/share/doc]
outputs: [netboot, sbom]
`

var smallFiles = map[string]string{
	"images/small.yaml":   smallRecipe,
	"kernel/modules":      "+ fs\n- fs/left\n",
	"kernel/initrd":       "+ fs/one\n",
	"hello/go.mod":        "module example.org/hello\n\ngo 1.26.0\n",
	"hello/main.go":       "package main\n\nfunc main() { println(\"hello\") }\n",
	"overlay/etc/secret":  "hush\n",
	"overlay/etc/sample/": "",
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(file, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func runTool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), mirror: t.TempDir()}
	writeFiles(t, s.dir, smallFiles)
	s.server = httptest.NewServer(http.StripPrefix("/debian", http.FileServer(http.Dir(s.mirror))))
	t.Cleanup(s.server.Close)
	s.lock = Lock{Suite: "trixie", Arch: runtime.GOARCH, Date: time.Unix(1_700_000_000, 0).UTC(), Kernel: "linux-image-6.0-test"}
	s.publish(t, "sample", map[string]string{"usr/bin/sample": "#!/bin/sh\n", "usr/share/doc/sample/copyright": "all wrongs reserved\n", "etc/sample/conf": "x\n"})
	s.publish(t, "part", map[string]string{"usr/bin/part": "part\n", "usr/bin/rest": "rest\n"})
	s.publish(t, "linux-image-6.0-test", s.kernelFiles(t))
	return s
}

// kernelFiles returns the files of a kernel package: modules that are good
// enough for depmod.
func (s *site) kernelFiles(t *testing.T) map[string]string {
	t.Helper()
	folder := "usr/lib/modules/6.0-test/"
	files := map[string]string{
		"boot/vmlinuz-6.0-test":            "not much of a kernel\n",
		folder + "modules.builtin":         "",
		folder + "modules.builtin.modinfo": "",
		folder + "modules.order":           "kernel/fs/one.ko\nkernel/fs/two.ko\nkernel/lib/three.ko\nkernel/fs/left.ko\n",
	}
	for name, info := range map[string]string{
		"fs/one":    `depends=three\0alias=pci:v00001234d*sv*sd*bc*sc*i*\0`,
		"fs/two":    `depends=\0softdep=pre: four\0`,
		"fs/left":   `depends=\0`,
		"lib/three": `depends=\0`,
		"lib/four":  `depends=\0`,
	} {
		module := filepath.Base(name)
		source := filepath.Join(t.TempDir(), module+".s")
		text := fmt.Sprintf(".section .modinfo,\"a\"\n.ascii \"name=%s\\0%s\"\n.section .note.GNU-stack,\"\",%%progbits\n", module, info)
		writeFiles(t, filepath.Dir(source), map[string]string{filepath.Base(source): text})
		object := strings.TrimSuffix(source, ".s") + ".ko"
		runTool(t, "gcc", "-c", "-o", object, source)
		runTool(t, "xz", "-k", object)
		b, err := os.ReadFile(object + ".xz")
		if err != nil {
			t.Fatal(err)
		}
		files[folder+"kernel/"+name+".ko.xz"] = string(b)
	}
	return files
}

// publish puts a package on the mirror and into the lock.
func (s *site) publish(t *testing.T, name string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	writeFiles(t, dir, files)
	writeFiles(t, dir, map[string]string{"DEBIAN/control": fmt.Sprintf("Package: %s\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: sample\n", name)})
	file := filepath.Join(s.mirror, "pool", name+".deb")
	writeFiles(t, s.mirror, map[string]string{"pool/": ""})
	runTool(t, "dpkg-deb", "--root-owner-group", "-Zgzip", "-b", dir, file)
	size, sum, err := digest(file)
	if err != nil {
		t.Fatal(err)
	}
	s.lock.Packages = append(s.lock.Packages, Locked{name, "1.0", sum, size, archiveMain, "pool/" + name + ".deb"})
	writeFiles(t, s.dir, map[string]string{"images/small." + runtime.GOARCH + ".lock": string(s.lock.Encode())})
}

func (s *site) options(t *testing.T) Options {
	return Options{
		Recipe: filepath.Join(s.dir, "images/small.yaml"), Arch: runtime.GOARCH, Output: filepath.Join(t.TempDir(), "dist"),
		Cache: t.TempDir(), Mirror: s.server.URL + "/debian", Compression: "fast",
	}
}

func mustBuild(t *testing.T, o Options) Result {
	t.Helper()
	r, err := Build(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestBuild lets outside tools judge what a small recipe yields.
func TestBuild(t *testing.T) {
	s := newSite(t)
	o := s.options(t)
	r := mustBuild(t, o)
	prefix := filepath.Join(o.Output, "small-"+release.Version+"-"+o.Arch)
	var listing []string
	for line := range strings.Lines(runTool(t, "unsquashfs", "-lln", prefix+"-root.squashfs")) {
		f := strings.Fields(line)
		table := len(f) > 5 && strings.Contains(f[5], "/modules.") // which of them there are is depmod's business
		if len(f) > 5 && strings.HasPrefix(f[5], "squashfs-root") && !table {
			listing = append(listing, strings.Join(append([]string{f[0], f[1]}, f[5:]...), " "))
		}
	}
	golden(t, "root.txt", strings.Join(listing, "\n")+"\n")
	var names strings.Builder
	for rest := runTool(t, "zstd", "-dc", prefix+"-initrd"); rest != ""; {
		cmd := exec.Command("cpio", "-it", "--quiet")
		cmd.Stdin = strings.NewReader(rest)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("cpio: %v", err)
		}
		names.Write(out)
		names.WriteString("-- end of an archive\n")
		_, rest, _ = strings.Cut(rest, "TRAILER!!!")
		rest = strings.TrimLeft(rest, "\x00")
	}
	golden(t, "initrd.txt", names.String())
	cmd := exec.Command("sha256sum", "--quiet", "-c", sumsFile)
	cmd.Dir = o.Output
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	if r.Manifest.ID != r.Manifest.ComputeID() || r.Manifest.Kernel != "6.0-test" {
		t.Errorf("manifest = %+v", r.Manifest)
	}
	report, err := os.ReadFile(prefix + ".report.txt")
	if err != nil || !strings.Contains(string(report), "Kernel modules: 4 kept, 1 left out:\n  fs/left\n") {
		t.Errorf("report: %v\n%s", err, report)
	}
}

// TestVerity lets our reader and, where there is one, veritysetup judge the hash
// tree of a build.
func TestVerity(t *testing.T) {
	s := newSite(t)
	o := s.options(t)
	m := mustBuild(t, o).Manifest
	root := filepath.Join(o.Output, "small-"+release.Version+"-"+o.Arch+"-root.squashfs")
	trees, _ := filepath.Glob(filepath.Join(o.Cache, "made/verity-*"))
	listed, ok := m.File(release.VerityPath)
	if !ok || m.Verity == nil || m.Verity.Path != release.VerityPath || len(trees) != 1 {
		t.Fatalf("manifest = %+v, trees = %v", m, trees)
	}
	size, sum, err := digest(trees[0])
	if err != nil || size != listed.Size || sum != listed.SHA256 {
		t.Errorf("the tree has %d bytes and digest %s, %v; the manifest says %+v", size, sum, err, listed)
	}
	data, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := os.ReadFile(trees[0])
	if err != nil {
		t.Fatal(err)
	}
	salt, err := hex.DecodeString(m.Verity.Salt)
	if err != nil {
		t.Fatal(err)
	}
	var hash [32]byte
	if n, err := hex.Decode(hash[:], []byte(m.Verity.RootHash)); n != len(hash) || err != nil {
		t.Fatalf("root hash %q: %v", m.Verity.RootHash, err)
	}
	if err := verity.Verify(bytes.NewReader(data), int64(len(data)), bytes.NewReader(tree), hash, salt); err != nil {
		t.Error(err)
	}
	if tool := "/usr/sbin/veritysetup"; fileExists(tool) {
		runTool(t, tool, "verify", "--no-superblock", "--salt", m.Verity.Salt, "--data-block-size", fmt.Sprint(m.Verity.DataBlockSize),
			"--hash-block-size", fmt.Sprint(m.Verity.HashBlockSize), "--data-blocks", fmt.Sprint(len(data)/verity.BlockSize), root, trees[0], m.Verity.RootHash)
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestSameBytes builds twice: in other folders, with another umask, time zone
// and cache.
func TestSameBytes(t *testing.T) {
	one, two := newSite(t), newSite(t)
	two.lock = one.lock
	two.server.Close()
	a, b := one.options(t), two.options(t)
	b.Mirror = a.Mirror
	writeFiles(t, two.dir, map[string]string{"images/small." + b.Arch + ".lock": string(one.lock.Encode())})
	first := mustBuild(t, a)
	t.Setenv("TZ", "Asia/Tokyo")
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	second := mustBuild(t, b)
	for i, f := range first.Files {
		_, want, err := digest(f)
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := digest(second.Files[i])
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s differs between two builds", filepath.Base(f))
		}
	}
}

// TestWarm builds again with nothing on the mirror: all comes from the cache.
func TestWarm(t *testing.T) {
	s := newSite(t)
	o := s.options(t)
	mustBuild(t, o)
	s.server.Close()
	o.Offline = true
	mustBuild(t, o)
}

func TestBuildRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, s *site, o *Options)
		want   error
		text   string
	}{
		{"package gone", func(t *testing.T, s *site, _ *Options) {
			if err := os.Remove(filepath.Join(s.mirror, "pool/sample.deb")); err != nil {
				t.Fatal(err)
			}
		}, ErrGone, "fetch sample 1.0"},
		{"package changed", func(t *testing.T, s *site, _ *Options) {
			file := filepath.Join(s.mirror, "pool/sample.deb")
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)-1] ^= 1
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}, nil, "fetch sample 1.0: it is not the file that was locked"},
		{"offline", func(_ *testing.T, _ *site, o *Options) { o.Offline = true }, ErrOffline, "not in the cache"},
		{"no lock", func(t *testing.T, s *site, o *Options) {
			if err := os.Remove(filepath.Join(s.dir, "images/small."+o.Arch+".lock")); err != nil {
				t.Fatal(err)
			}
		}, ErrLock, "small." + runtime.GOARCH + ".lock"},
		{"lock of another recipe", func(t *testing.T, s *site, _ *Options) {
			writeFiles(t, s.dir, map[string]string{"images/small.yaml": strings.Replace(smallRecipe, "[sample, part]", "[sample, part, other]", 1)})
		}, ErrLock, "it has no other"},
		{"no program", func(t *testing.T, s *site, _ *Options) {
			if err := os.RemoveAll(filepath.Join(s.dir, "hello")); err != nil {
				t.Fatal(err)
			}
		}, os.ErrNotExist, "build program hello"},
		{"program does not compile", func(t *testing.T, s *site, _ *Options) {
			writeFiles(t, s.dir, map[string]string{"hello/main.go": "package main\n\nfunc main() { undefined() }\n"})
		}, nil, "undefined: undefined"},
		{"unknown architecture", func(_ *testing.T, _ *site, o *Options) { o.Arch = "riscv64" }, nil, `"riscv64" is none of amd64, arm64`},
		{"package without the file", func(t *testing.T, s *site, _ *Options) {
			writeFiles(t, s.dir, map[string]string{"images/small.yaml": strings.Replace(smallRecipe, "/usr/bin/part", "/usr/bin/gone", 1)})
		}, nil, "only: package part has no /usr/bin/gone"},
		{"program without the applet", func(t *testing.T, s *site, _ *Options) {
			writeFiles(t, s.dir, map[string]string{"images/small.yaml": smallRecipe + "applets: [{program: /usr/bin/sample, names: [ls]}]\n"})
		}, nil, "applets: /usr/bin/sample has no ls"},
		{"unknown key", func(t *testing.T, s *site, _ *Options) {
			writeFiles(t, s.dir, map[string]string{"images/small.yaml": smallRecipe + "pakages: {}\n"})
		}, nil, "field pakages not found"},
		{"library missing", func(t *testing.T, s *site, _ *Options) {
			tar, err := exec.LookPath("tar")
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(tar)
			if err != nil {
				t.Fatal(err)
			}
			writeFiles(t, s.dir, map[string]string{"overlay/usr/bin/prog": string(b)})
		}, nil, "libc.so.6 is needed by usr/bin/prog"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			o := s.options(t)
			c.change(t, s, &o)
			_, err := Build(context.Background(), o)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error = %v, want %q", err, c.text)
			}
			left, _ := filepath.Glob(filepath.Join(o.Output, "*"))
			hidden, _ := filepath.Glob(filepath.Join(o.Output, ".*"))
			if len(left)+len(hidden) > 0 {
				t.Errorf("left behind: %q %q", left, hidden)
			}
		})
	}
}

// TestFreshLockIfGone shows that a gone package leads to a new lock, which
// here fails for want of signatures: the mirror has no package lists.
func TestFreshLockIfGone(t *testing.T) {
	s := newSite(t)
	if err := os.Remove(filepath.Join(s.mirror, "pool/sample.deb")); err != nil {
		t.Fatal(err)
	}
	o := s.options(t)
	o.FreshLockIfGone = true
	seen := &warnings{}
	o.Progress = seen
	_, err := Build(context.Background(), o)
	if err == nil || !strings.Contains(err.Error(), "read the package lists of trixie") {
		t.Errorf("error = %v", err)
	}
	if len(seen.text) != 1 || !strings.Contains(seen.text[0], "sample") {
		t.Errorf("warnings = %q", seen.text)
	}
}

type warnings struct {
	Quiet
	text []string
}

func (w *warnings) Warn(text string) { w.text = append(w.text, text) }
