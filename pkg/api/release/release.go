// Package release describes one release of Kedge: what is in it, and the ID by
// which an image, its kernel command line and its root file system know that
// they belong together.
//
// Sizes are bytes, digests are SHA-256 in lower-case hex.
package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Version of this tree; the builder sets it with -X.
var Version = "0.1.0"

// VolumeID is the ISO 9660 volume identifier of every image.
const VolumeID = "KEDGE_OS"

// Where things stand in an image.
const (
	KernelPath   = "boot/vmlinuz"
	InitrdPath   = "boot/initrd"
	RootPath     = "kedge/root.squashfs"
	VerityPath   = "kedge/root.verity" // hash tree over RootPath, without a superblock
	ImagesPath   = "kedge/images"
	ManifestPath = "kedge/release.json"

	// SignaturePath is where the manifest's signature stands: a minisign file in
	// an area of SignatureSize bytes that is filled up with zero bytes, so that an
	// image can be signed in place.
	SignaturePath = ManifestPath + ".minisig"
	SignatureSize = 2048
)

// MarkerPath returns the file by which GRUB finds the image it was started from.
func MarkerPath(id string) string { return "boot/kedge-" + id }

// ErrManifest means that a manifest cannot be trusted to describe an image.
var ErrManifest = errors.New("bad release manifest")

// Schema is the number of the form of a whole system's manifest.
const Schema = 1

// A File is one file of the image that the manifest vouches for. Path has no
// leading slash.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Manifest is the content of release.json.
type Manifest struct {
	Schema     int    `json:"schema"`
	Kind       Kind   `json:"kind,omitempty"`
	Name       string `json:"name"`
	Version    string `json:"version"`
	Arch       string `json:"arch"`
	Kubernetes string `json:"kubernetes,omitempty"`
	Kernel     string `json:"kernel"`
	ID         string `json:"id"`
	Files      []File `json:"files"`
	Loaders    []File `json:"loaders,omitempty"` // the boot loader's; the ID does not depend on them, some carry it

	UpgradeFrom string  `json:"upgrade_from,omitempty"` // Constraint of the versions that it may follow
	Verity      *Verity `json:"verity,omitempty"`       // nil: the root is mounted as it is
}

// ComputeID returns the ID for the manifest's version, architecture, files and
// hash tree: the first 16 hex digits of a digest over them, the files in order
// of path. A manifest without a hash tree has the ID that it always had.
func (m Manifest) ComputeID() string {
	files := slices.Clone(m.Files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	h := sha256.New()
	fmt.Fprintf(h, "version %s\narch %s\n", m.Version, m.Arch)
	for _, f := range files {
		fmt.Fprintf(h, "%s %s\n", f.SHA256, f.Path)
	}
	if v := m.Verity; v != nil {
		fmt.Fprintf(h, "verity %s %s %d %d %s\n", v.RootHash, v.Salt, v.DataBlockSize, v.HashBlockSize, v.Path)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// File returns the entry for path.
func (m Manifest) File(path string) (File, bool) {
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Path == path })
	if i < 0 {
		return File{}, false
	}
	return m.Files[i], true
}

// all returns every file that the manifest vouches for.
func (m Manifest) all() []File { return append(slices.Clone(m.Files), m.Loaders...) }

// Encode returns the manifest as it is written.
func (m Manifest) Encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // people read >=0.1.0 there
	if err := e.Encode(m); err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	return b.Bytes()
}

// Decode reads a manifest and checks that its ID fits its content. Fields that
// this program does not know are those of a later release, which a machine must
// be able to take: what it must not take has another Schema. The error wraps
// ErrManifest.
func Decode(b []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, m.check()
}

func (m Manifest) check() error {
	if err := m.checkKind(); err != nil {
		return err
	}
	for _, f := range m.all() {
		sum, err := hex.DecodeString(f.SHA256)
		if err != nil || len(sum) != sha256.Size || f.Size < 0 {
			return fmt.Errorf("%w: %s has no sound digest or size", ErrManifest, f.Path)
		}
		if path.Clean("/"+f.Path) != "/"+f.Path {
			return fmt.Errorf("%w: path %q", ErrManifest, f.Path)
		}
	}
	if err := m.Verity.check(m); err != nil {
		return err
	}
	if id := m.ComputeID(); m.ID != id {
		return fmt.Errorf("%w: id %s does not fit its content, which has %s", ErrManifest, m.ID, id)
	}
	return nil
}
