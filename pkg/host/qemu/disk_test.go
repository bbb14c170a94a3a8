package qemu

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParseDisk(t *testing.T) {
	for _, c := range []struct {
		in, file string
		size     int64
		ok       bool
	}{
		{"a.img", "a.img", 0, true},
		{"a.img:8G", "a.img", 8 << 30, true},
		{"dir:x/a.img:512M", "dir:x/a.img", 512 << 20, true},
		{"a.img:1048576", "a.img", 1 << 20, true},
		{"a.img:", "", 0, false},
		{"a.img:8T", "", 0, false},
		{"a.img:-1G", "", 0, false},
		{":1G", "", 0, false},
	} {
		file, size, err := ParseDisk(c.in)
		if file != c.file || size != c.size || (err == nil) != c.ok {
			t.Errorf("ParseDisk(%q) = %q, %d, %v", c.in, file, size, err)
		}
	}
}

func TestOpenDiskKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.img")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDisk(t.Context(), path+":1M", true); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); string(b) != "mine" || err != nil {
		t.Errorf("the disk is now %d bytes, %v", len(b), err)
	}
}
