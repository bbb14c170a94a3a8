package release

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/minisign"
)

// makeISO packs files into an image, as the builder does, and returns its bytes.
func makeISO(t *testing.T, volume string, files map[string][]byte) []byte {
	t.Helper()
	folder := t.TempDir()
	for name, data := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(t.TempDir(), "image.iso")
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", volume, "-o", image, folder).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// contents are the files of a sound image, with a signature for a manifest alone
// when there is a key.
func contents(t *testing.T, key *minisign.SecretKey) map[string][]byte {
	t.Helper()
	vouched := map[string][]byte{KernelPath: []byte("kernel"), RootPath: bytes.Repeat([]byte("root"), 1<<20), CoreImagePath: []byte("core")}
	m := Manifest{Schema: Schema, Name: "kedge", Version: "0.1.0", Arch: "amd64", Kernel: "6.12"}
	file := func(name string) File {
		sum := sha256.Sum256(vouched[name])
		return File{name, int64(len(vouched[name])), hex.EncodeToString(sum[:])}
	}
	m.Files, m.Loaders = []File{file(KernelPath), file(RootPath)}, []File{file(CoreImagePath)}
	m.ID = m.ComputeID()
	area, err := isoimage.EncodeEmbed([]byte("hostname: a\n"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{ManifestPath: m.Encode(), SignaturePath: make([]byte, SignatureSize), isoimage.EmbedPath[1:]: area}
	if key != nil {
		signature, err := minisign.Sign(*key, bytes.NewReader(m.Encode()), "kedge 0.1.0", "")
		if err != nil {
			t.Fatal(err)
		}
		copy(files[SignaturePath], signature)
	}
	for name, data := range vouched {
		files[name] = data
	}
	return files
}

// signed returns an image whose signature vouches for all of it.
func signed(t *testing.T, key minisign.SecretKey) []byte {
	t.Helper()
	b := makeISO(t, VolumeID, contents(t, nil))
	i := open(t, b)
	whole, err := i.Whole(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := i.File(ManifestPath)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := minisign.Sign(key, manifest, "kedge 0.1.0 "+whole.String(), "")
	if err != nil {
		t.Fatal(err)
	}
	at, err := i.Extent(SignaturePath)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[at.Offset:], signature)
	return b
}

func open(t *testing.T, b []byte) *Image {
	t.Helper()
	i, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestOpen(t *testing.T) {
	sound := contents(t, nil)
	b := makeISO(t, VolumeID, sound)
	i := open(t, append(b, make([]byte, 4096)...)) // a medium is larger
	if i.Manifest.Version != "0.1.0" || i.Size > int64(len(b)) {
		t.Errorf("image of %d bytes has version %q and %d bytes", len(b), i.Manifest.Version, i.Size)
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"nothing":        {make([]byte, 1<<20), isoimage.ErrFormat},
		"another system": {makeISO(t, "DEBIAN", sound), isoimage.ErrFormat},
		"cut short":      {b[:i.Size-1], isoimage.ErrTruncated},
		"no manifest":    {makeISO(t, VolumeID, map[string][]byte{"a": nil}), os.ErrNotExist},
		"a bad manifest": {makeISO(t, VolumeID, map[string][]byte{ManifestPath: []byte("{}")}), ErrManifest},
		"a huge one":     {makeISO(t, VolumeID, map[string][]byte{ManifestPath: make([]byte, maxManifest+1)}), ErrManifest},
	} {
		if _, err := Open(bytes.NewReader(c.bytes), int64(len(c.bytes))); !errors.Is(err, c.want) {
			t.Errorf("%s: Open = %v, want %v", name, err, c.want)
		}
	}
}

func TestVerify(t *testing.T) {
	b := makeISO(t, VolumeID, contents(t, nil))
	i, read := open(t, b), int64(0)
	if err := i.Verify(context.Background(), func(n int64) { read += n }); err != nil || read != i.Total() {
		t.Errorf("Verify = %v after %d bytes of %d", err, read, i.Total())
	}
	for _, name := range []string{KernelPath, RootPath, CoreImagePath} {
		at, err := isoimage.Find(bytes.NewReader(b), int64(len(b)), "/"+name)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(b)
		flipped[at.Offset+at.Size/2] ^= 1
		if err := open(t, flipped).Verify(context.Background(), nil); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("a flipped bit in %s: Verify = %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := i.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify of nobody's interest = %v", err)
	}
}

func TestVerifySignature(t *testing.T) {
	key, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := []minisign.PublicKey{key.Public()}, []minisign.PublicKey{other.Public()}
	b := signed(t, key)
	if comment, err := open(t, b).VerifySignature(append(theirs, ours...)); err != nil || comment != "kedge 0.1.0" {
		t.Errorf("VerifySignature = %q, %v", comment, err)
	}
	if _, err := open(t, b).VerifySignature(theirs); !errors.Is(err, minisign.ErrUnknownKey) {
		t.Errorf("a stranger's: %v", err)
	}
	if _, err := open(t, b).VerifySignature(nil); !errors.Is(err, minisign.ErrUnknownKey) {
		t.Errorf("nobody is trusted: %v", err)
	}
	if _, err := open(t, makeISO(t, VolumeID, contents(t, nil))).VerifySignature(ours); !errors.Is(err, ErrUnsigned) {
		t.Errorf("unsigned: %v", err)
	}
	// A signature for the manifest alone or for another one, and one without a place.
	alone := contents(t, &key)
	if _, err := open(t, makeISO(t, VolumeID, alone)).VerifySignature(ours); !errors.Is(err, ErrPartial) {
		t.Errorf("of the manifest alone: %v", err)
	}
	moved := contents(t, nil)
	moved[SignaturePath] = alone[SignaturePath]
	m, err := Decode(moved[ManifestPath])
	if err != nil {
		t.Fatal(err)
	}
	m.Kernel = "6.13"
	moved[ManifestPath] = m.Encode()
	if _, err := open(t, makeISO(t, VolumeID, moved)).VerifySignature(ours); !errors.Is(err, minisign.ErrSignature) {
		t.Errorf("another's signature: %v", err)
	}
	delete(alone, SignaturePath)
	if _, err := open(t, makeISO(t, VolumeID, alone)).VerifySignature(ours); !errors.Is(err, ErrUnsigned) {
		t.Errorf("no place for a signature: %v", err)
	}
}

// fickle answers a second reading of a place with other bytes.
type fickle struct {
	first, second []byte
	at            int64 // where they differ
	seen          bool
}

func (f *fickle) ReadAt(b []byte, at int64) (int, error) {
	data := f.first
	if f.seen {
		data = f.second
	}
	f.seen = f.seen || at <= f.at && f.at < at+int64(len(b))
	return bytes.NewReader(data).ReadAt(b, at)
}

// A medium that shows the signed manifest only when the signature is checked.
func TestSignatureIsOfWhatWasRead(t *testing.T) {
	key, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := signed(t, key)
	at := bytes.Index(signed, []byte(`"kernel": "6.12"`)) + len(`"kernel": "6.1`)
	forged := bytes.Clone(signed)
	forged[at] = '3'
	i, err := Open(&fickle{first: forged, second: signed, at: int64(at)}, int64(len(signed)))
	if err != nil || i.Manifest.Kernel != "6.13" {
		t.Fatalf("Open = %v, kernel %q", err, i.Manifest.Kernel)
	}
	if _, err := i.VerifySignature([]minisign.PublicKey{key.Public()}); !errors.Is(err, minisign.ErrSignature) {
		t.Errorf("the signature of another manifest is taken: %v", err)
	}
}

func TestSetEmbedded(t *testing.T) {
	b := makeISO(t, VolumeID, contents(t, nil))
	i := open(t, b)
	area, err := isoimage.EncodeEmbed([]byte("hostname: carried\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := i.SetEmbedded(area[1:]); err == nil {
		t.Error("an area of another size is taken")
	}
	if err := i.SetEmbedded(area); err != nil {
		t.Fatal(err)
	}
	copied, err := io.ReadAll(i.Reader())
	if err != nil {
		t.Fatal(err)
	}
	now := open(t, copied)
	got, err := now.Embedded()
	if err != nil || !bytes.Equal(got, area) {
		t.Errorf("the copy has another area, %v", err)
	}
	if err := now.Verify(context.Background(), nil); err != nil {
		t.Errorf("the copy is damaged: %v", err)
	}
	// Read in pieces of any size, it is the same.
	for _, size := range []int{1000, 4096, 300000} {
		piecewise, r := []byte(nil), i.Reader()
		for buffer := make([]byte, size); ; {
			n, err := r.Read(buffer)
			piecewise = append(piecewise, buffer[:n]...)
			if err != nil {
				break
			}
		}
		if !bytes.Equal(piecewise, copied) {
			t.Errorf("read in pieces of %d bytes it differs", size)
		}
	}
}

// TestWithhold: without what is withheld there is no image; with it, the same.
func TestWithhold(t *testing.T) {
	i := open(t, makeISO(t, VolumeID, contents(t, nil)))
	rest, at, withheld, err := i.Withhold()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(rest.Reader())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, isoimage.ErrFormat) {
		t.Errorf("Open without it = %v", err)
	}
	copy(b[at:], withheld)
	whole, err := io.ReadAll(i.Reader())
	if err != nil || !bytes.Equal(b, whole) {
		t.Errorf("with it, the image is another one; %v", err)
	}
}

// TestSignatureIsOfTheWhole: other readers than we follow other rules in folders
// and descriptors, so that no byte of them may change; the configuration may.
func TestSignatureIsOfTheWhole(t *testing.T) {
	key, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := signed(t, key)
	v, err := isoimage.ReadVolume(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	area, err := open(t, b).Extent(isoimage.EmbedPath[1:])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		at   int64
		want error
	}{
		{"the configuration", area.Offset + 70, nil},
		{"before the first descriptor", 100, ErrDamaged},
		{"a descriptor", isoimage.VolumeOffset + 200, ErrDamaged},
		{"what tells GRUB that there are long names", int64(bytes.Index(b, []byte("SP\x07\x01\xbe\xef"))), ErrDamaged},
		{"the end", v.Size - 1, ErrDamaged},
	} {
		changed := bytes.Clone(b)
		changed[c.at] ^= 1
		i := open(t, changed)
		if _, err := i.VerifySignature([]minisign.PublicKey{key.Public()}); err != nil {
			t.Errorf("%s: VerifySignature = %v", c.name, err)
		}
		read := int64(0)
		if err := i.Verify(t.Context(), func(n int64) { read += n }); !errors.Is(err, c.want) || read != i.Total() {
			t.Errorf("%s: Verify = %v after %d of %d bytes, want %v", c.name, err, read, i.Total(), c.want)
		}
		// A copy is held to the same.
		again := open(t, b)
		again.Expect(i)
		if err := again.Verify(t.Context(), nil); err != nil {
			t.Errorf("%s: the sound image: %v", c.name, err)
		}
	}
}

func TestParseWhole(t *testing.T) {
	sum := strings.Repeat("0f", 32)
	w, err := ParseWhole("kedge 0.1.0 amd64 id 1 sha256 " + sum + " without 4096+2048,10240+262144")
	if err != nil || w.String() != "sha256 "+sum+" without 4096+2048,10240+262144" {
		t.Errorf("ParseWhole = %v, %v", w, err)
	}
	for _, comment := range []string{"", "kedge 0.1.0", "sha256 " + sum, "sha256 " + sum[2:] + " without 1+2", "sha256 " + sum + " without 1+2 ", "sha256 " + sum + " without -1+2",
		"sha256 " + sum + " without 1234567890123+2", "xsha256 " + sum + " without 1+2"} {
		if _, err := ParseWhole(comment); !errors.Is(err, ErrPartial) {
			t.Errorf("ParseWhole(%q) = %v", comment, err)
		}
	}
}
