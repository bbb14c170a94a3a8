package boot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/verity"
	"github.com/kedgeos/kedge/pkg/sys/devmapper"
)

// verified is a manifest of a root of 300 blocks.
func verified() release.Manifest {
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: "0.1.0", Arch: "amd64", Kernel: "6.12"}
	for path, size := range map[string]int64{release.RootPath: 300 * 4096, release.VerityPath: 4 * 4096} {
		m.Files = append(m.Files, release.File{Path: path, Size: size, SHA256: strings.Repeat("0", 64)})
	}
	m.Verity = &release.Verity{Path: release.VerityPath, RootHash: strings.Repeat("ab", 32), Salt: "0123", DataBlockSize: 4096, HashBlockSize: 4096}
	m.ID = m.ComputeID()
	return m
}

func TestVerityTarget(t *testing.T) {
	got, err := verityTarget(verified(), "/dev/loop0", "/dev/loop1")
	want := devmapper.Target{Sectors: 2400, Type: "verity", Params: "1 /dev/loop0 /dev/loop1 4096 4096 300 0 sha256 " + strings.Repeat("ab", 32) + " 0123"}
	if err != nil || got != want {
		t.Errorf("verityTarget = %+v, %v, want %+v", got, err, want)
	}
	for want, change := range map[string]func(*release.Manifest){
		"blocks of 1024 and 4096": func(m *release.Manifest) { m.Verity.DataBlockSize = 1024 },
		"blocks of 4096 and 512":  func(m *release.Manifest) { m.Verity.HashBlockSize = 512 },
		`root hash "abcd"`:        func(m *release.Manifest) { m.Verity.RootHash = "abcd" },
		`salt "- 1 x"`:            func(m *release.Manifest) { m.Verity.Salt = "- 1 x" },
		"4097 bytes":              func(m *release.Manifest) { resize(m, release.RootPath, 4097) },
		"0 bytes are not":         func(m *release.Manifest) { resize(m, release.RootPath, 0) },
		"a hash tree of 4096":     func(m *release.Manifest) { resize(m, release.VerityPath, 4096) },
	} {
		m := verified()
		change(&m)
		if got, err := verityTarget(m, "a", "b"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("verityTarget = %+v, %v, want an error with %q", got, err, want)
		}
	}
}

func resize(m *release.Manifest, path string, size int64) {
	for i := range m.Files {
		if m.Files[i].Path == path {
			m.Files[i].Size = size
		}
	}
}

// TestMountImageRefuses holds what comes before anything is attached: only the
// manifest that the kernel command line names is believed.
func TestMountImageRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := mountImage(dir, "0"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a manifest: %v", err)
	}
	file := filepath.Join(dir, release.ManifestPath)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	m := verified()
	for name, c := range map[string]struct{ text, id, want string }{
		"of another release":  {string(m.Encode()), "0123456789abcdef", "it is of the release " + m.ID + ", not 0123456789abcdef"},
		"a changed hash":      {strings.Replace(string(m.Encode()), "abab", "abac", 1), m.ID, "does not fit its content"},
		"a root that is gone": {string(m.Encode()), m.ID, release.RootPath},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := mountImage(dir, c.id); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestDamageText(t *testing.T) {
	blocks := []verity.Block{{Number: 7}, {Number: 3, Tree: true}, {Number: 8}, {Number: 9}, {Number: 10}}
	for _, c := range []struct {
		r          Record
		blocks     int
		text, mend string
	}{
		{Record{Slot: "a", Medium: "/dev/vda3"}, 1, "root file system of slot a is damaged (block 7)", `"kedge upgrade apply IMAGE" writes slot b, or install again`},
		{Record{Slot: "b"}, 2, "root file system of slot b is damaged (block 7, block 3 of the hash tree)", `"kedge upgrade apply IMAGE" writes slot a, or install again`},
		{Record{Medium: "/dev/sr0"}, 5, "root file system of the medium /dev/sr0 is damaged (block 7, block 3 of the hash tree, block 8, 2 more)", "write the medium anew, or take another"},
		{Record{Medium: "/dev/sr0"}, 0, "root file system of the medium /dev/sr0 is damaged", "write the medium anew, or take another"},
	} {
		if c.r.Mend() != "" {
			t.Errorf("a whole root is mended: %q", c.r.Mend())
		}
		c.r.Damage = damageText(c.r, blocks[:c.blocks])
		if c.r.Damage != c.text || c.r.Mend() != c.mend {
			t.Errorf("told %q and %q, want %q and %q", c.r.Damage, c.r.Mend(), c.text, c.mend)
		}
	}
}
