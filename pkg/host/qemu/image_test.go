package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

func TestCommandLine(t *testing.T) {
	for _, c := range []struct{ arch, more, want string }{
		{"amd64", "", "kedge.id=0123456789abcdef panic=10 quiet loglevel=4 console=tty0 console=ttyS0,115200 kedge.mode=live"},
		{"arm64", "kedge.mode=disk x", "kedge.id=0123456789abcdef panic=10 quiet loglevel=4 console=tty0 console=ttyAMA0,115200 kedge.mode=disk x"},
		{"amd64", "kedge.fallback_mode=install", "kedge.id=0123456789abcdef panic=10 quiet loglevel=4 console=tty0 console=ttyS0,115200 kedge.fallback_mode=install"},
	} {
		if got := commandLine(release.Manifest{ID: "0123456789abcdef", Arch: c.arch}, c.more); got != c.want {
			t.Errorf("commandLine(%s, %q) = %q, want %q", c.arch, c.more, got, c.want)
		}
	}
}

// TestReadManifest reads an image that xorriso wrote.
func TestReadManifest(t *testing.T) {
	tree, image := t.TempDir(), filepath.Join(t.TempDir(), "kedge.iso")
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: "1.2.3", Arch: "arm64"}
	m.ID = m.ComputeID()
	for path, content := range map[string]string{release.ManifestPath: string(m.Encode()), release.KernelPath: "kernel"} {
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := (process.Tool{Path: "xorrisofs", Args: []string{"-quiet", "-R", "-o", image, tree}}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadManifest(image); err != nil || got.Arch != "arm64" || got.ID != m.ID {
		t.Errorf("ReadManifest = %+v, %v", got, err)
	}
	kernel, err := extractFile(image, release.KernelPath, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(kernel); string(b) != "kernel" || err != nil {
		t.Errorf("the kernel is %q, %v", b, err)
	}
	if _, err := extractFile(image, release.InitrdPath, t.TempDir()); err == nil || !strings.Contains(err.Error(), "boot/initrd") {
		t.Errorf("a file that is not there: %v", err)
	}
}
