package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Bounds of what is read into memory, in bytes. OCI distribution 1.1 wants
// registries to take manifests of 4 MiB.
const (
	maxManifest = 4 << 20
	maxConfig   = 1 << 20
)

// A source has the manifests and blobs of one reference.
type source interface {
	fmt.Stringer
	// manifest returns the manifest of a digest, and with "" what the reference
	// names. What has a digest was checked against it.
	manifest(ctx context.Context, digest string) ([]byte, error)
	// blob returns the bytes of a blob from an offset on.
	blob(ctx context.Context, d v1.Descriptor, from int64) (io.ReadCloser, error)
	close()
}

// A document is a manifest or an index.
type document struct {
	SchemaVersion int
	MediaType     types.MediaType
	Manifests     []v1.Descriptor
	Config        v1.Descriptor
	Layers        []v1.Descriptor
	Annotations   map[string]string
	ArtifactType  types.MediaType
	Subject       *v1.Descriptor
}

func (d document) index() bool { return d.MediaType.IsIndex() || len(d.Manifests) > 0 }

// decode reads a manifest or an index. What could be both is refused: readers
// would differ in what they see.
func decode(raw []byte) (document, error) {
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, final{fmt.Errorf("read manifest: %w", err)}
	}
	if d.SchemaVersion != 2 || d.index() && (len(d.Layers) > 0 || d.Config.Size > 0 || d.MediaType.IsImage()) {
		return d, final{errors.New("read manifest: neither an OCI image nor an index")}
	}
	return d, nil
}

// pick returns the member of an index for an architecture. The error wraps
// ErrArch and names those that are there.
func pick(index document, arch string) (v1.Descriptor, error) {
	var there []string
	for _, m := range index.Manifests {
		if m.Platform == nil || m.Platform.OS != "linux" {
			continue
		}
		if m.Platform.Architecture == arch {
			return m, nil
		}
		there = append(there, m.Platform.Architecture)
	}
	return v1.Descriptor{}, noArch(arch, there...)
}

func noArch(want string, there ...string) error {
	if len(there) == 0 {
		return fmt.Errorf("%w: want %q, there is none at all", ErrArch, want)
	}
	return fmt.Errorf("%w: want %q, there is %s", ErrArch, want, strings.Join(there, ", "))
}

// onlyLayer returns the layer that is the OS image.
func onlyLayer(image document) (v1.Descriptor, error) {
	switch {
	case image.index():
		return v1.Descriptor{}, final{errors.New("an index inside an index is not a Kedge image")}
	case len(image.Layers) != 1:
		return v1.Descriptor{}, final{fmt.Errorf("not a Kedge image: it has %d layers", len(image.Layers))}
	case image.Layers[0].MediaType != LayerType:
		return v1.Descriptor{}, final{fmt.Errorf("not a Kedge image: its layer is %s", image.Layers[0].MediaType)}
	case image.Layers[0].Size <= 0 || image.Layers[0].Digest.Algorithm != "sha256":
		return v1.Descriptor{}, final{errors.New("not a Kedge image: its layer has no sound size and digest")}
	}
	return image.Layers[0], nil
}

// A target is what a reference stands for.
type target struct {
	digest v1.Hash       // of the manifest or index that was named
	image  v1.Descriptor // the manifest for the architecture
	layer  v1.Descriptor // the OS image
}

// resolve finds the OS image for an architecture.
func resolve(ctx context.Context, s source, arch string) (target, error) {
	raw, err := s.manifest(ctx, "")
	if err != nil {
		return target{}, err
	}
	t := target{image: describe(types.OCIManifestSchema1, raw)}
	t.digest = t.image.Digest
	image, err := decode(raw)
	if err != nil {
		return t, err
	}
	if !image.index() {
		if t.layer, err = onlyLayer(image); err != nil {
			return t, err
		}
		return t, checkArch(ctx, s, image.Config, arch)
	}
	member, err := pick(image, arch)
	if err != nil {
		return t, err
	}
	if raw, err = s.manifest(ctx, member.Digest.String()); err != nil {
		return t, err
	}
	if image, err = decode(raw); err != nil {
		return t, err
	}
	t.image = describe(types.OCIManifestSchema1, raw)
	t.layer, err = onlyLayer(image)
	return t, err
}

// checkArch reads the configuration of an image that stands alone.
func checkArch(ctx context.Context, s source, config v1.Descriptor, arch string) error {
	r, err := s.blob(ctx, config, 0)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	defer r.Close()
	raw, err := readSmall(r, maxConfig)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	if err := check(raw, config.Digest.String()); err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	var c struct{ OS, Architecture string }
	if err := json.Unmarshal(raw, &c); err != nil {
		return final{fmt.Errorf("read config: %w", err)}
	}
	if c.OS != "linux" || c.Architecture != arch {
		return noArch(arch, c.Architecture)
	}
	return nil
}

// readSmall reads all of r, and fails when that is more than limit bytes.
func readSmall(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = final{fmt.Errorf("more than %d bytes", limit)}
	}
	return b, err
}

// check compares content with its digest. The error wraps ErrDigest.
func check(content []byte, digest string) error {
	if got := describe("", content).Digest.String(); got != digest {
		return fmt.Errorf("%w: got %s, want %s", ErrDigest, got, digest)
	}
	return nil
}
