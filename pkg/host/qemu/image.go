package qemu

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
)

// ReadManifest reads the release manifest inside an image.
func ReadManifest(image string) (release.Manifest, error) {
	var b strings.Builder
	if err := extract(image, release.ManifestPath, &b); err != nil {
		return release.Manifest{}, err
	}
	m, err := release.Decode([]byte(b.String()))
	if err != nil {
		return m, fmt.Errorf("read %s: %w", image, err)
	}
	return m, nil
}

// extract copies one file of an image to w.
func extract(image, path string, w io.Writer) error {
	f, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	at, err := isoimage.Find(f, info.Size(), "/"+path)
	if err != nil {
		return fmt.Errorf("read %s: %w", image, err)
	}
	_, err = io.Copy(w, io.NewSectionReader(f, at.Offset, at.Size))
	return err
}

// extractFile copies one file of an image into a folder and returns its path.
func extractFile(image, path, dir string) (string, error) {
	name := filepath.Join(dir, filepath.Base(path))
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	if err := extract(image, path, f); err != nil {
		f.Close()
		return "", err
	}
	return name, f.Close()
}

// commandLine is the kernel command line of a direct boot: what the image's own
// boot loader says, with more behind it. A mode in more takes the place of live,
// as does one for machines without state.
func commandLine(m release.Manifest, more string) string {
	serial := "ttyS0,115200"
	if m.Arch == "arm64" {
		serial = "ttyAMA0,115200"
	}
	line := "kedge.id=" + m.ID + " panic=10 quiet loglevel=4 console=tty0 console=" + serial
	_, mode := cmdline.Get(cmdline.Parse(more), "kedge.mode")
	_, fallback := cmdline.Get(cmdline.Parse(more), "kedge.fallback_mode")
	if !mode && !fallback {
		line += " kedge.mode=live"
	}
	return strings.TrimSpace(line + " " + more)
}

// CopyFile makes a private copy that may be written to.
func CopyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return w.Close()
}
