package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kedgeos/kedge/pkg/api/release"
)

// A bundle is all that a Push puts somewhere.
type bundle struct {
	root    v1.Descriptor
	content remote.Taggable // what root describes: an image or an index
	blobs   []blob          // what is referred to stands before what refers
	size    int64           // of the OS images
	version string
}

// A blob is a file, or a few bytes.
type blob struct {
	v1.Descriptor
	file  string
	bytes []byte
}

func (b blob) open() (io.ReadCloser, error) {
	if b.file != "" {
		return os.Open(b.file)
	}
	return io.NopCloser(bytes.NewReader(b.bytes)), nil
}

// assemble makes the OCI images, and an index when there are several.
func assemble(ctx context.Context, images []Image) (*bundle, error) {
	if len(images) == 0 {
		return nil, errors.New("no images")
	}
	images = slices.Clone(images)
	slices.SortFunc(images, func(a, b Image) int { return cmp.Compare(a.Arch, b.Arch) })
	b := &bundle{version: images[0].Release.Version}
	var members []mutate.IndexAddendum
	for i, image := range images {
		if i > 0 && images[i-1].Arch == image.Arch {
			return nil, fmt.Errorf("two images for %s: %s and %s", image.Arch, images[i-1].File, image.File)
		}
		img, err := b.add(ctx, image)
		if err != nil {
			return nil, err
		}
		members = append(members, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: image.Arch}}})
	}
	if len(members) == 1 {
		return b, nil
	}
	return b, b.addIndex(members, images[0].Release)
}

// add makes the OCI image of an OS image.
func (b *bundle) add(ctx context.Context, i Image) (v1.Image, error) {
	l, err := newLayer(ctx, i.File)
	if err != nil {
		return nil, err
	}
	config := configFile(i)
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), config)
	if err != nil {
		return nil, err
	}
	how := v1.History{Created: config.Created, CreatedBy: "kedge push", EmptyLayer: true}
	if img, err = mutate.Append(mutate.ConfigMediaType(img, types.OCIConfigJSON), mutate.Addendum{Layer: l, History: how}); err != nil {
		return nil, err
	}
	// To a container runtime the OS image is no layer: it unpacks nothing.
	config.History = []v1.History{how}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, err
	}
	notes := i.Release.annotations()
	if i.Release.ID != "" {
		notes[IDAnnotation] = i.Release.ID
	}
	img = unlisted{mutate.Annotations(img, notes).(v1.Image), l}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	b.blobs = append(b.blobs, blob{Descriptor: l.about, file: l.file}, small(types.OCIConfigJSON, raw))
	b.size += l.about.Size
	return img, b.end(img, types.OCIManifestSchema1)
}

// job is what runs in a container of an image: the program of the machine that
// it is to upgrade, whose root is mounted at /host. That is how the jobs of
// rancher/system-upgrade-controller mount it.
var job = []string{"/host/usr/bin/kedge", "upgrade", "job"}

// unlisted is an image with a layer that its configuration does not know.
type unlisted struct {
	v1.Image
	layer v1.Layer
}

// Layers implements v1.Image.
func (u unlisted) Layers() ([]v1.Layer, error) { return []v1.Layer{u.layer}, nil }

// configFile is the OCI configuration of an image, without the layer.
func configFile(i Image) *v1.ConfigFile {
	c := &v1.ConfigFile{OS: "linux", Architecture: i.Arch, RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}}}
	c.Config.Entrypoint = job
	if i.Release.Kind == string(release.Kubernetes) {
		c.Config.Entrypoint = append(slices.Clone(job), "--kubernetes")
	}
	if t, err := time.Parse(time.RFC3339, i.Release.Created); err == nil {
		c.Created = v1.Time{Time: t.UTC()}
	}
	return c
}

// addIndex makes the index over the images so far. It is written as skopeo would
// write it, which keeps its digest through copies.
func (b *bundle) addIndex(members []mutate.IndexAddendum, r Release) error {
	type member struct {
		MediaType types.MediaType `json:"mediaType"`
		Digest    v1.Hash         `json:"digest"`
		Size      int64           `json:"size"`
		Platform  *v1.Platform    `json:"platform"`
	}
	var all []member
	for _, m := range members {
		d, err := partial.Descriptor(m.Add)
		if err != nil {
			return err
		}
		all = append(all, member{d.MediaType, d.Digest, d.Size, m.Platform})
	}
	raw, err := json.Marshal(struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     types.MediaType   `json:"mediaType"`
		Manifests     []member          `json:"manifests"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}{2, types.OCIImageIndex, all, r.annotations()})
	if err != nil {
		return err
	}
	parts := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), members...)
	return b.end(written{parts, raw}, types.OCIImageIndex)
}

// written is an index in the form we wrote.
type written struct {
	index
	raw []byte
}

type index = v1.ImageIndex // which has a method of its own name

var _ v1.ImageIndex = written{}

// RawManifest implements v1.ImageIndex, as do the others.
func (w written) RawManifest() ([]byte, error) { return w.raw, nil }
func (w written) Digest() (v1.Hash, error)     { return describe("", w.raw).Digest, nil }
func (w written) Size() (int64, error)         { return int64(len(w.raw)), nil }

// end makes an image or index the root; what was it before becomes a part.
func (b *bundle) end(t remote.Taggable, kind types.MediaType) error {
	raw, err := t.RawManifest()
	if err != nil {
		return err
	}
	m := small(kind, raw)
	b.root, b.content, b.blobs = m.Descriptor, t, append(b.blobs, m)
	return nil
}

// annotations are those that images for all architectures share.
func (r Release) annotations() map[string]string {
	notes := map[string]string{}
	for key, value := range map[string]string{
		versionAnnotation: r.Version, titleAnnotation: r.Name, createdAnnotation: r.Created,
		kindAnnotation: r.Kind, kubernetesAnnotation: r.Kubernetes, upgradeFromAnnotation: r.UpgradeFrom,
	} {
		if value != "" {
			notes[key] = value
		}
	}
	return notes
}

func small(kind types.MediaType, b []byte) blob {
	return blob{Descriptor: describe(kind, b), bytes: b}
}

func describe(kind types.MediaType, b []byte) v1.Descriptor {
	sum := sha256.Sum256(b)
	return v1.Descriptor{MediaType: kind, Size: int64(len(b)), Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
}

// A layer is an OS image as a layer: a file, neither packed nor held in memory.
// It implements v1.Layer.
type layer struct {
	about v1.Descriptor
	file  string
}

func newLayer(ctx context.Context, file string) (*layer, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := copyBytes(ctx, h, f, nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return &layer{v1.Descriptor{MediaType: LayerType, Size: n, Digest: hexHash(h)}, file}, nil
}

func hexHash(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

func (l *layer) Digest() (v1.Hash, error)             { return l.about.Digest, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.about.Digest, nil }
func (l *layer) Size() (int64, error)                 { return l.about.Size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return l.about.MediaType, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return os.Open(l.file) }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.file) }

// copyBytes copies until the end, a million bytes at a time; moved, if not nil,
// hears of each piece.
func copyBytes(ctx context.Context, to io.Writer, from io.Reader, moved func(int64)) (n int64, err error) {
	for chunk := make([]byte, 1<<20); ; {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		got, err := from.Read(chunk)
		if _, err := to.Write(chunk[:got]); err != nil {
			return n, err
		}
		n += int64(got)
		if moved != nil {
			moved(int64(got))
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
