package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// root stands for the root file system in the images of these tests.
var root = bytes.Repeat([]byte("root "), 1000)

// image makes a small image, its date fixed.
func image(t *testing.T, version, arch string, config []byte) string {
	t.Helper()
	folder, to := t.TempDir(), filepath.Join(t.TempDir(), version+"-"+arch+".iso")
	area, err := isoimage.EncodeEmbed(config)
	if err != nil {
		t.Fatal(err)
	}
	const sum = "e539364e5709cad32007d2e93f61f71845e89c5c8e3a8a4a12be13d66bad1005"
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: version, Arch: arch, Kernel: "6.12", Kubernetes: "v1.36.3", UpgradeFrom: ">=1.0.0", Files: []release.File{{Path: release.RootPath, Size: int64(len(root)), SHA256: sum}}}
	m.ID = m.ComputeID()
	for name, data := range map[string][]byte{release.ManifestPath: m.Encode(), release.RootPath: root, strings.TrimPrefix(isoimage.EmbedPath, "/"): area} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "--modification-date=2026112022474300", "-o", to, folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v: %s", err, out)
	}
	return to
}

// recorder notes what is shown.
type recorder struct{ text []string }

func (r *recorder) Bytes(done, total int64) {
	if done > total {
		r.text = append(r.text, "too much")
	}
}
func (r *recorder) Done(s string) { r.text = append(r.text, s) }

func (r *recorder) options() Options {
	return Options{
		Step: func(s string) Step { r.text = append(r.text, s+":"); return r },
		Warn: func(s string) { r.text = append(r.text, "warning: "+s) },
	}
}

func TestPush(t *testing.T) {
	dir := t.TempDir()
	amd64, arm64 := image(t, "1.4.0", "amd64", nil), image(t, "1.4.0", "arm64", []byte("hostname: a\n"))
	var r recorder
	digest, err := Push(t.Context(), "oci:"+dir, []string{amd64, arm64}, r.options())
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Join(r.text, "\n")
	for _, want := range []string{"check 1.4.0-amd64.iso:\nkedge 1.4.0 amd64\ncheck", "kedge 1.4.0 arm64\nwarning: " + arm64 + " has a configuration", "push:\n"} {
		if !strings.Contains(shown, want) {
			t.Errorf("shown:\n%s\nwant %q", shown, want)
		}
	}
	if strings.Contains(shown, "too much") || strings.Count(shown, "warning") != 1 {
		t.Errorf("shown:\n%s", shown)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", strings.TrimPrefix(digest, "sha256:")))
	if err != nil {
		t.Fatal(err)
	}
	var index struct{ Annotations map[string]string }
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"version": "1.4.0", "title": "kedge", "created": "2026-11-20T22:47:43Z"} {
		if got := index.Annotations["org.opencontainers.image."+key]; got != want {
			t.Errorf("annotation %s = %q, want %q", key, got, want)
		}
	}
	for key, want := range map[string]string{"kubernetes": "v1.36.3", "upgrade-from": ">=1.0.0"} {
		if got := index.Annotations["org.kedgeos.release."+key]; got != want {
			t.Errorf("annotation %s = %q, want %q", key, got, want)
		}
	}
	file := filepath.Join(t.TempDir(), "pulled.iso")
	if got, err := registry.Pull(t.Context(), "oci:"+dir+":1.4.0", "arm64", file, registry.Options{}); err != nil || got != digest {
		t.Fatalf("Pull = %q, %v; want %q", got, err, digest)
	}
	if again, err := Push(t.Context(), "oci:"+t.TempDir(), []string{file, amd64}, Options{}); err != nil || again != digest {
		t.Errorf("Push of what was pulled = %q, %v; want %q", again, err, digest)
	}
}

func TestPushRefuses(t *testing.T) {
	amd64 := image(t, "1.4.0", "amd64", nil)
	whole, err := os.ReadFile(amd64)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(name string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	damaged := changed("damaged.iso", bytes.Replace(whole, root, bytes.ToUpper(root), 1))
	for _, c := range []struct {
		name  string
		files []string
		want  error
		text  string
	}{
		{"versions", []string{amd64, image(t, "1.5.0", "arm64", nil)}, ErrMixed, "1.4.0-amd64.iso is kedge 1.4.0, "},
		{"architectures", []string{amd64, amd64}, ErrMixed, "both for amd64"},
		{"damaged", []string{amd64, damaged}, release.ErrDamaged, "damaged.iso: verify /kedge/root.squashfs"},
		{"cut short", []string{changed("short.iso", whole[:len(whole)/2])}, isoimage.ErrTruncated, "short.iso"},
		{"no image", []string{changed("text", []byte("text"))}, isoimage.ErrFormat, "open image"},
		{"no file", []string{"gone.iso"}, os.ErrNotExist, "gone.iso"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "stick")
			_, err := Push(t.Context(), "oci:"+dir, c.files, Options{})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("Push = %v, want %v with %q", err, c.want, c.text)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("something was written")
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Push(ctx, "oci:"+t.TempDir(), []string{amd64}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Push = %v, want context.Canceled", err)
	}
}

func TestCreated(t *testing.T) {
	for _, c := range []struct{ date, want string }{
		{"2026112022474300\x00", "2026-11-20T22:47:43Z"},
		{"2026112022474300\x04", "2026-11-20T21:47:43Z"},
		{"2026112022474300\xfc", "2026-11-20T23:47:43Z"},
		{"0000000000000000\x00", ""},
		{"", ""},
	} {
		b := append(make([]byte, 16*2048+813), c.date...)
		if got := created(bytes.NewReader(b)); got != c.want {
			t.Errorf("created(%q) = %q, want %q", c.date, got, c.want)
		}
	}
}

func TestAgreeOnKubernetes(t *testing.T) {
	images := []registry.Image{
		{File: "a.iso", Arch: "amd64", Release: registry.Release{Version: "1", Kubernetes: "v1.36.3"}},
		{File: "b.iso", Arch: "arm64", Release: registry.Release{Version: "1", Kubernetes: "v1.35.2"}},
	}
	if err := agree(images); !errors.Is(err, ErrMixed) || !strings.Contains(err.Error(), `"v1.36.3"`) {
		t.Errorf("agree = %v, want %v", err, ErrMixed)
	}
}
