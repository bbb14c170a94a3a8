package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kedge": main, "make-image": makeImage})
}

// TestStories runs the commands as a user meets them.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:       "testdata",
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"cluster": clusterCommand},
		Condition: condition,
	})
}

// makeImage writes a small image whose manifest vouches for one file.
func makeImage() {
	if err := writeImage(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func writeImage(to string) error {
	folder, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	area, err := isoimage.EncodeEmbed(nil)
	if err != nil {
		return err
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: "0.1.0", Arch: "amd64", Kernel: "6.12", Files: []release.File{{Path: release.RootPath, SHA256: empty}}}
	m.ID = m.ComputeID()
	for name, data := range map[string][]byte{
		release.ManifestPath: m.Encode(), release.SignaturePath: make([]byte, release.SignatureSize), release.RootPath: nil,
		strings.TrimPrefix(isoimage.EmbedPath, "/"): area,
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "-o", to, folder).CombinedOutput()
	if err != nil {
		return fmt.Errorf("xorriso: %w: %s", err, out)
	}
	return nil
}
