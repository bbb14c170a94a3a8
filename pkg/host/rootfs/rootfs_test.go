package rootfs

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tarFile writes a tar file as dpkg would: with a leading "./" and owners.
func tarFile(t *testing.T, headers ...*tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := h.PAXRecords["test.body"]
		h.PAXRecords, h.Size = nil, int64(len(body))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "layer.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func body(text string) map[string]string { return map[string]string{"test.body": text} }

func list(t *testing.T, tree *Tree) string {
	t.Helper()
	var b bytes.Buffer
	if err := tree.WriteTar(&b, time.Unix(1_700_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tar", "-tv", "--numeric-owner", "--full-time")
	cmd.Stdin = &b
	cmd.Env = []string{"TZ=UTC", "LC_ALL=C", "PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if f[3] != "2023-11-14" || f[4] != "22:13:20" {
			t.Errorf("%q has another time", line)
		}
		lines = append(lines, strings.Join(append(f[:3:3], f[5:]...), " "))
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestLayers(t *testing.T) {
	tree := New()
	file := tarFile(t,
		&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		&tar.Header{Typeflag: tar.TypeDir, Name: "./bin/", Mode: 0o755},
		&tar.Header{Typeflag: tar.TypeReg, Name: "./bin/sudo", Mode: 0o4755, PAXRecords: body("sudo")},
		&tar.Header{Typeflag: tar.TypeReg, Name: "./lib/x/libone.so.1", Uid: 7, Gid: 8, PAXRecords: body("one")},
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "./lib64", Linkname: "usr/lib64"},
		&tar.Header{Typeflag: tar.TypeLink, Name: "./usr/bin/sudoedit", Linkname: "./bin/sudo"},
	)
	if err := tree.AddTar(file, "one", nil); err != nil {
		t.Fatal(err)
	}
	overlay := t.TempDir()
	old := syscall.Umask(0o077)
	err := os.WriteFile(filepath.Join(overlay, "script"), []byte("#!"), 0o700)
	if err == nil {
		err = os.Mkdir(filepath.Join(overlay, "etc"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(overlay, "etc/conf"), []byte("conf"), 0o600)
	}
	if err == nil {
		err = os.Symlink("../run/x", filepath.Join(overlay, "etc/link"))
	}
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.AddDir(overlay, "overlay", nil); err != nil {
		t.Fatal(err)
	}
	want := `lrwxrwxrwx 0/0 0 bin -> usr/bin
drwxr-xr-x 0/0 0 etc/
-rw-r--r-- 0/0 4 etc/conf
lrwxrwxrwx 0/0 0 etc/link -> ../run/x
lrwxrwxrwx 0/0 0 lib -> usr/lib
lrwxrwxrwx 0/0 0 lib64 -> usr/lib64
lrwxrwxrwx 0/0 0 sbin -> usr/sbin
-rwxr-xr-x 0/0 2 script
drwxr-xr-x 0/0 0 usr/
drwxr-xr-x 0/0 0 usr/bin/
-rwsr-xr-x 0/0 4 usr/bin/sudo
-rwsr-xr-x 0/0 4 usr/bin/sudoedit
drwxr-xr-x 0/0 0 usr/lib/
drwxr-xr-x 0/0 0 usr/lib/x/
-rw-r--r-- 7/8 3 usr/lib/x/libone.so.1
drwxr-xr-x 0/0 0 usr/lib64/
drwxr-xr-x 0/0 0 usr/sbin/
`
	if got := list(t, tree); got != want {
		t.Errorf("tree is\n%swant\n%s", got, want)
	}
	e, _ := tree.Get("/lib/x/libone.so.1")
	if b, err := e.Content.Read(); err != nil || string(b) != "one" {
		t.Errorf("content = %q, %v", b, err)
	}
}

func TestPutRefuses(t *testing.T) {
	tree := New()
	if err := tree.File("a/b", 0o644, Bytes(nil), "x"); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]Entry{
		"a":     {Mode: 0o644},
		"a/b/c": {Mode: 0o644},
		"lib":   {Mode: 0o644},
	} {
		if err := tree.Put(name, e); err == nil {
			t.Errorf("Put(%s) takes what cannot be", name)
		}
	}
	odd := tarFile(t, &tar.Header{Typeflag: tar.TypeFifo, Name: "pipe"})
	if err := tree.AddTar(odd, "x", nil); err == nil {
		t.Error("a pipe is taken")
	}
	stray := tarFile(t, &tar.Header{Typeflag: tar.TypeLink, Name: "hard", Linkname: "nowhere"})
	if err := tree.AddTar(stray, "x", nil); err == nil {
		t.Error("a hard link to nothing is taken")
	}
}

func TestRemove(t *testing.T) {
	tree := New()
	for _, p := range []string{"usr/share/doc/a/copyright", "usr/share/doc/b", "usr/share/docbook"} {
		if err := tree.File(p, 0o644, Bytes([]byte("12345")), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if n := tree.Remove(func(p string, _ Entry) bool { return p == "usr/share/doc" }); n != 10 {
		t.Errorf("Remove = %d bytes, want 10", n)
	}
	if _, ok := tree.Get("usr/share/docbook"); !ok || strings.Contains(strings.Join(tree.Paths(), " "), "share/doc/") {
		t.Errorf("left are %q", tree.Paths())
	}
}

func TestResolve(t *testing.T) {
	tree := New()
	for name, target := range map[string]string{"usr/bin/sh": "bash", "loop": "loop", "etc/alt": "/usr/bin", "up": "../../usr/bin/bash"} {
		if err := tree.Symlink(name, target, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.File("usr/bin/bash", 0o755, Bytes(nil), "x"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/bin/sh": "usr/bin/bash", "etc/alt/sh": "usr/bin/bash", "up": "usr/bin/bash", "loop": "", "nothing": "", "bin/nothing": "",
	} {
		if got, err := tree.Resolve(name); got != want || (err != nil) != (want == "") {
			t.Errorf("Resolve(%s) = %q, %v, want %q", name, got, err, want)
		}
	}
}

// TestMissingLibraries asks for the libraries of a real program.
func TestMissingLibraries(t *testing.T) {
	program, err := exec.LookPath("tar")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	tree := New()
	if err := tree.File("usr/bin/tar", 0o755, Bytes(b), "x"); err != nil {
		t.Fatal(err)
	}
	missing, err := tree.MissingLibraries()
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, m := range missing {
		text += m.String() + "\n"
		if err := tree.File(filepath.Join("usr/lib/x86_64-linux-gnu", filepath.Base(m.Library)), 0o644, Bytes(nil), "y"); err != nil {
			t.Fatal(err)
		}
		if filepath.IsAbs(m.Library) {
			if err := tree.File(m.Library, 0o755, Bytes(nil), "y"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !strings.Contains(text, "libc.so.6 is needed by usr/bin/tar") || !strings.Contains(text, "/ld-linux") {
		t.Errorf("missing are %q", text)
	}
	if missing, err = tree.MissingLibraries(); err != nil || len(missing) > 0 {
		t.Errorf("still missing are %v, %v", missing, err)
	}
}

func TestDigestSeesEverything(t *testing.T) {
	base := func() *Tree {
		tree := New()
		if err := tree.Put("a", Entry{Mode: 0o644, Content: Bytes([]byte("one"))}); err != nil {
			t.Fatal(err)
		}
		return tree
	}
	want, err := base().Digest()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := base().Digest(); again != want {
		t.Error("two trees of the same files differ")
	}
	for name, e := range map[string]Entry{
		"content": {Mode: 0o644, Content: Bytes([]byte("two"))},
		"mode":    {Mode: 0o644 | fs.ModeSetuid, Content: Bytes([]byte("one"))},
		"owner":   {Mode: 0o644, UID: 1, Content: Bytes([]byte("one"))},
		"type":    {Mode: 0o644 | fs.ModeSymlink, Link: "one"},
	} {
		tree := base()
		if err := tree.Put("a", e); err != nil {
			t.Fatal(err)
		}
		if got, _ := tree.Digest(); got == want {
			t.Errorf("another %s is not seen", name)
		}
	}
}

func TestExtract(t *testing.T) {
	tree := New()
	if err := tree.File("usr/bin/x", 0o4755, Bytes([]byte("x")), "x"); err != nil {
		t.Fatal(err)
	}
	if err := tree.File("etc/y", 0o640, Bytes([]byte("y")), "x"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := tree.Extract(dir, func(p string) bool { return !strings.HasPrefix(p, "etc") }); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "bin/x")); err != nil || string(b) != "x" {
		t.Errorf("bin/x = %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "etc/y")); err == nil {
		t.Error("what was not wanted is there")
	}
}
