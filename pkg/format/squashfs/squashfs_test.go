package squashfs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makeImage lets mksquashfs pack files; each has so many bytes of noise.
func makeImage(t testing.TB, files map[string]int, flags ...string) []byte {
	t.Helper()
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "image.squashfs")
	seed := uint16(0)
	for name, size := range files {
		seed++
		b := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	args := append([]string{dir, out, "-quiet", "-no-progress"}, flags...)
	if !slices.Contains(flags, "-comp") {
		args = append(args, "-comp", "zstd")
	}
	if b, err := exec.Command("mksquashfs", args...).CombinedOutput(); err != nil {
		t.Fatalf("mksquashfs: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func crowd() map[string]int {
	files := map[string]int{"usr/bin/large": 3_000_000, "usr/bin/exact": 1 << 20, "etc/small": 100, "etc/empty": 0, "usr/lib/deep/er/file": 200_000}
	for i := range 1500 {
		files[fmt.Sprintf("many/file-%04d", i)] = i % 700
	}
	return files
}

func TestMap(t *testing.T) {
	for _, flags := range [][]string{{"-b", "1M", "-exports"}, {"-b", "128K"}, {"-b", "1M", "-no-fragments"}, {"-b", "4K", "-tailends", "-no-exports"}, {"-b", "1M", "-noI", "-noD", "-noF"}} {
		files := crowd()
		image := makeImage(t, files, flags...)
		list, err := Map(bytes.NewReader(image))
		if err != nil {
			t.Fatalf("%v: %v", flags, err)
		}
		found, end := map[string]bool{}, int64(0)
		for _, e := range list {
			if e.Offset < end {
				t.Errorf("%v: %q at %d lies over what ends at %d", flags, e.Files, e.Offset, end)
			}
			if e.Size <= 0 || e.Offset+e.Size > int64(len(image)) || (len(e.Files) == 0) == (e.Table == "") {
				t.Errorf("%v: extent %+v", flags, e)
			}
			end = e.Offset + e.Size
			for _, name := range e.Files {
				found[name] = true
			}
		}
		for name, size := range files {
			if size > 0 && !found[name] {
				t.Errorf("%v: %s lies nowhere", flags, name)
			}
		}
		if found["link"] || found["etc/empty"] {
			t.Errorf("%v: what has no bytes lies somewhere", flags)
		}
		// Noise is not packed: a large file stands there as it is.
		at := slices.IndexFunc(list, func(e Extent) bool { return len(e.Files) > 0 && e.Files[0] == "usr/bin/exact" })
		if at < 0 || list[at].Size < 1<<20 {
			t.Errorf("%v: usr/bin/exact is at %d", flags, at)
		}
	}
}

func TestMapRefuses(t *testing.T) {
	good := makeImage(t, crowd(), "-b", "1M")
	for name, image := range map[string][]byte{
		"nothing": nil, "another file": bytes.Repeat([]byte("hsq"), 100), "zeros": make([]byte, 4096),
		"gzip": makeImage(t, map[string]int{"a": 5}, "-comp", "gzip"), "cut": good[:len(good)/2],
	} {
		if _, err := Map(bytes.NewReader(image)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error %v, want ErrFormat", name, err)
		}
	}
}

func FuzzMap(f *testing.F) {
	files := map[string]int{}
	for i := range 20 {
		files[strings.Repeat("d/", i%4)+fmt.Sprint(i)] = 10 * i
	}
	f.Add(makeImage(f, files, "-b", "4K"))
	f.Add(makeImage(f, files, "-b", "4K", "-noI", "-noF"))
	f.Fuzz(func(t *testing.T, image []byte) {
		if _, err := Map(bytes.NewReader(image)); err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("error %v does not wrap ErrFormat", err)
		}
	})
}
