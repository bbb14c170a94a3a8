package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// makePackage lets dpkg-deb make a package of one file.
func makePackage(t *testing.T, compression string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"DEBIAN/control":      "Package: sample\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a sample\n of two lines\n",
		"usr/share/sample/hi": "hello\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "sample.deb")
	if b, err := exec.Command("dpkg-deb", "--root-owner-group", "-Z"+compression, "-b", dir, out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadWhatDpkgWrites(t *testing.T) {
	for _, compression := range []string{"xz", "gzip", "zstd", "none"} {
		t.Run(compression, func(t *testing.T) {
			found := map[string]string{}
			control, err := Read(bytes.NewReader(makePackage(t, compression)), func(data io.Reader) error {
				for r := tar.NewReader(data); ; {
					h, err := r.Next()
					if err == io.EOF {
						return nil
					}
					if err != nil {
						return err
					}
					b, err := io.ReadAll(r)
					if err != nil {
						return err
					}
					found[h.Name] = string(b)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if control["Package"] != "sample" || control["Version"] != "1:2.0-1" || control["Description"] != "a sample\nof two lines" {
				t.Errorf("control = %q", control)
			}
			if found["./usr/share/sample/hi"] != "hello\n" {
				t.Errorf("files = %q", found)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	whole := makePackage(t, "gzip")
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"another format": []byte("PK\x03\x04 this is a zip file and no package"),
		"cut header":     whole[:40],
		"cut data":       whole[:len(whole)-20],
		"other version":  bytes.Replace(whole, []byte("2.0\n"), []byte("3.0\n"), 1),
		"empty archive":  []byte("!<arch>\n"),
	} {
		_, err := Read(bytes.NewReader(b), func(data io.Reader) error {
			_, err := io.Copy(io.Discard, data)
			return err
		})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if name != "cut data" && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error = %v, want ErrFormat", name, err)
		}
	}
}

func TestParseControl(t *testing.T) {
	if _, err := ParseControl(" continues nothing\n"); !errors.Is(err, ErrFormat) {
		t.Errorf("error = %v, want ErrFormat", err)
	}
	if _, err := ParseControl("no colon\n"); !errors.Is(err, ErrFormat) {
		t.Errorf("error = %v, want ErrFormat", err)
	}
	c, err := ParseControl("Depends: a (>= 1:2),\n b\nEmpty:\n")
	if err != nil || c["Depends"] != "a (>= 1:2),\nb" || c["Empty"] != "" {
		t.Errorf("ParseControl = %q, %v", c, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n"))
	f.Add([]byte(strings.Repeat("!<arch>\n", 20)))
	f.Fuzz(func(t *testing.T, b []byte) {
		control, err := Read(bytes.NewReader(b), func(data io.Reader) error {
			_, err := io.CopyN(io.Discard, data, 1<<20)
			if err == io.EOF {
				err = nil
			}
			return err
		})
		if err == nil && control == nil {
			t.Error("neither control fields nor an error")
		}
	})
}
