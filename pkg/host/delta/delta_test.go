package delta

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/chunk"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/host/embed"
	"github.com/kedgeos/kedge/pkg/host/sign"
)

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	mathrand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// makeImage packs files of the root, as the builder does.
func makeImage(t *testing.T, root map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"root/etc/empty": nil})
	write(t, filepath.Join(dir, "root"), root)
	if err := os.MkdirAll(filepath.Join(dir, "tree/kedge"), 0o755); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(dir, "tree", release.RootPath)
	tool(t, "mksquashfs", filepath.Join(dir, "root"), packed, "-quiet", "-no-progress", "-comp", "zstd", "-b", "1M", "-all-time", "1", "-mkfs-time", "1")
	content, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: "1.0.0", Arch: "amd64", Kernel: "6.12",
		Files: []release.File{{Path: release.RootPath, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}}}
	m.ID = m.ComputeID()
	area, err := isoimage.EncodeEmbed(nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tree"), map[string][]byte{
		release.ManifestPath: m.Encode(), release.SignaturePath: make([]byte, release.SignatureSize), isoimage.EmbedPath[1:]: area,
	})
	tool(t, "xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "-o", filepath.Join(dir, "image.iso"), filepath.Join(dir, "tree"))
	return filepath.Join(dir, "image.iso")
}

func TestCompare(t *testing.T) {
	files := map[string][]byte{"usr/bin/kube": noise(6<<20, 1), "usr/bin/kedge": noise(2<<20, 2), "etc/a": noise(5000, 3), "etc/b": noise(6000, 4)}
	old := makeImage(t, files)
	files["usr/bin/kedge"] = noise(2<<20, 5)
	after := makeImage(t, files)
	known, err := Read(old)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Compare(known, after)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Parts) == 0 || r.Parts[0].Name != release.RootPath+": usr/bin/kedge" || r.Parts[0].Fetch < 2<<20-200<<10 || r.Parts[0].Size != 2<<20 {
		t.Errorf("parts %+v, want usr/bin/kedge first", r.Parts)
	}
	var sum int64
	for _, p := range r.Parts {
		if sum += p.Fetch; p.Fetch > p.Size {
			t.Errorf("part %+v", p)
		}
	}
	if sum != r.Fetch || r.Percent() < 20 || r.Percent() > 40 {
		t.Errorf("%d bytes are fetched, %.1f %%; the parts add up to %d", r.Fetch, r.Percent(), sum)
	}
	same, err := Compare(known, old)
	if err != nil || same.Missing != 1 || same.Fetch != release.SignatureSize {
		t.Errorf("the same image again: %+v, %v, want its signature only", same, err)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "nothing.iso")); err == nil {
		t.Error("an image that is not there can be read")
	}
}

// TestIndexStaysRight changes an image as "kedge sign" and "kedge embed" do.
func TestIndexStaysRight(t *testing.T) {
	image := makeImage(t, map[string][]byte{"usr/bin/kedge": noise(2<<20, 1)})
	index := func() []byte {
		var b bytes.Buffer
		if err := WriteIndex(image, &b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	before := index()
	unchanged, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	key, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := sign.Sign(t.Context(), image, key); err != nil {
		t.Fatal(err)
	}
	if _, err := embed.Set(image, "config.yaml", []byte("hostname: "+strings.Repeat("a", 60)+"\n"), true); err != nil {
		t.Fatal(err)
	}
	changed, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(unchanged, changed) || !bytes.Equal(before, index()) {
		t.Error("the index is another once the image is signed and configured")
	}
	x, err := chunk.Decode(before)
	if err != nil {
		t.Fatal(err)
	}
	at := int64(0)
	for i, c := range x.Chunks {
		if data := changed[at : at+c.Size]; c.Kind == chunk.Fixed && chunk.SumOf(data) != c.Sum {
			t.Errorf("chunk %d is wrong", i)
		}
		at += c.Size
	}
}
