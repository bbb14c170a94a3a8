package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest returns a SHA-256 over everything that WriteTar would write but the
// time.
func (t *Tree) Digest() (string, error) {
	h := sha256.New()
	for _, p := range t.Paths() {
		e := t.entries[p]
		fmt.Fprintf(h, "%q %o %d %d %q %d\n", p, e.Mode, e.UID, e.GID, e.Link, e.Content.Size)
		if e.Mode.IsRegular() {
			if err := copyContent(h, e.Content); err != nil {
				return "", fmt.Errorf("read %s: %w", p, err)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Size returns the sum of the sizes of all files, in bytes.
func (t *Tree) Size() (n int64) {
	for _, e := range t.entries {
		n += e.Content.Size
	}
	return n
}

// Sizes returns the sum of the sizes of files by the layer that brought them.
func (t *Tree) Sizes() map[string]int64 {
	sizes := map[string]int64{}
	for _, e := range t.entries {
		sizes[e.Layer] += e.Content.Size
	}
	return sizes
}
