package isoimage

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// makeImage lets xorriso make an image with files of the given content.
func makeImage(t testing.TB, files map[string]string, flags ...string) []byte {
	t.Helper()
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "image.iso")
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := append([]string{"-as", "mkisofs", "-quiet", "-V", "SAMPLE", "-o", out}, flags...)
	if b, err := exec.Command("xorriso", append(args, dir)...).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// crowd is enough files to fill several sectors of a folder.
func crowd() map[string]string {
	files := map[string]string{"kedge/config": "here it is", "kedge/root.squashfs": "root", "empty": ""}
	for i := range 200 {
		files["many/"+strings.Repeat("x", 20)+string(rune('a'+i%26))+string(rune('a'+i/26))+".Txt"] = string(rune('A' + i%26))
	}
	return files
}

func TestFindWhatXorrisoWrites(t *testing.T) {
	for _, flags := range [][]string{{"-R", "-J"}, {"-r"}} {
		files := crowd()
		image := makeImage(t, files, flags...)
		for name, text := range files {
			at, err := Find(bytes.NewReader(image), int64(len(image)), "/"+name)
			if err != nil {
				t.Fatalf("Find(%s): %v", name, err)
			}
			if got := string(image[at.Offset : at.Offset+at.Size]); got != text {
				t.Errorf("%s holds %q, want %q", name, got, text)
			}
		}
	}
}

func TestFindPlainNames(t *testing.T) {
	image := makeImage(t, map[string]string{"kedge/config": "plain"}, "-iso-level", "3")
	at, err := Find(bytes.NewReader(image), int64(len(image)), EmbedPath)
	if err != nil || string(image[at.Offset:at.Offset+at.Size]) != "plain" {
		t.Errorf("Find = %+v, %v", at, err)
	}
}

func TestReadVolume(t *testing.T) {
	image := makeImage(t, crowd(), "-R")
	v, err := ReadVolume(bytes.NewReader(image))
	if err != nil || v.ID != "SAMPLE" || v.Size > int64(len(image)) || v.Size < sector*20 {
		t.Errorf("ReadVolume = %+v, %v", v, err)
	}
}

func TestFindRefuses(t *testing.T) {
	image := makeImage(t, crowd(), "-R")
	large := makeImage(t, map[string]string{"kedge/config": strings.Repeat("c", 1<<20)}, "-R")
	for _, c := range []struct {
		name  string
		image []byte
		path  string
		want  error
	}{
		{"absent file", image, "/kedge/nothing", fs.ErrNotExist},
		{"absent folder", image, "/nothing/config", fs.ErrNotExist},
		{"file as folder", image, "/kedge/config/deeper", fs.ErrNotExist},
		{"another format", bytes.Repeat([]byte("PK\x03\x04"), 20000), "/kedge/config", ErrFormat},
		{"nothing", nil, "/kedge/config", ErrFormat},
		{"cut file", large[:len(large)-900<<10], "/kedge/config", ErrTruncated},
		{"cut folder", image[:40<<10], "/kedge/config", ErrTruncated},
	} {
		if _, err := Find(bytes.NewReader(c.image), int64(len(c.image)), c.path); !errors.Is(err, c.want) {
			t.Errorf("%s: error = %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := Find(bytes.NewReader(image), int64(len(image)), "/kedge"); err == nil {
		t.Error("a folder passes as a file")
	}
}

func TestEmbed(t *testing.T) {
	for _, config := range []string{"", "hostname: edge\n", strings.Repeat("#", EmbedMax), "binary \x00\n\n"} {
		area, err := EncodeEmbed([]byte(config))
		if err != nil {
			t.Fatal(err)
		}
		if len(area) != EmbedSize {
			t.Errorf("area has %d bytes", len(area))
		}
		if got, err := DecodeEmbed(area); err != nil || string(got) != config {
			t.Errorf("DecodeEmbed = %.20q, %v, want %.20q", got, err, config)
		}
	}
	empty, _ := EncodeEmbed(nil)
	head := "KEDGE-EMBED 1 0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
	if !strings.HasPrefix(string(empty), head) {
		t.Errorf("empty area begins with %.100q", empty)
	}
	if _, err := EncodeEmbed(make([]byte, EmbedMax+1)); !errors.Is(err, ErrEmbedTooLarge) {
		t.Errorf("error = %v, want ErrEmbedTooLarge", err)
	}
}

func TestDecodeEmbedRefuses(t *testing.T) {
	good, _ := EncodeEmbed([]byte("hostname: edge\n"))
	flipped := bytes.Clone(good)
	flipped[90] ^= 1
	for name, area := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, EmbedSize), "cut": good[:90], "flipped bit": flipped,
		"too long":    []byte("KEDGE-EMBED 1 99 00\n"),
		"negative":    []byte("KEDGE-EMBED 1 -1 00\n"),
		"no digest":   []byte("KEDGE-EMBED 1 0\n"),
		"no line end": []byte("KEDGE-EMBED 1 0 00"),
	} {
		if _, err := DecodeEmbed(area); !errors.Is(err, ErrEmbedDamaged) {
			t.Errorf("%s: error = %v, want ErrEmbedDamaged", name, err)
		}
	}
}

func FuzzFind(f *testing.F) {
	image := makeImage(f, map[string]string{"kedge/config": "x"}, "-R")
	f.Add(image[descriptor:min(len(image), descriptor+16*sector)], EmbedPath)
	f.Add([]byte{1, 'C', 'D', '0', '0', '1'}, "/")
	f.Fuzz(func(t *testing.T, tail []byte, path string) {
		image := append(make([]byte, descriptor), tail...)
		at, err := Find(bytes.NewReader(image), int64(len(image)), path)
		if err == nil && (at.Offset < 0 || at.Size < 0 || at.Offset+at.Size > int64(len(image))) {
			t.Errorf("Find(%q) = %+v in an image of %d bytes", path, at, len(image))
		}
	})
}

func FuzzDecodeEmbed(f *testing.F) {
	good, _ := EncodeEmbed([]byte("a: b\n"))
	f.Add(good[:200])
	f.Fuzz(func(t *testing.T, area []byte) {
		config, err := DecodeEmbed(area)
		if err != nil || len(config) > EmbedMax {
			return
		}
		again, err := EncodeEmbed(config)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeEmbed(again); err != nil || !bytes.Equal(got, config) {
			t.Errorf("config of %d bytes comes back as %d, %v", len(config), len(got), err)
		}
	})
}
