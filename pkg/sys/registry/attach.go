package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ChunksType is the media type of a chunk index (pkg/api/chunk), and of the
// artifact that it is attached as.
const ChunksType types.MediaType = "application/vnd.kedge.chunks.v1"

// emptyType is the media type of the configuration of what needs none.
const emptyType types.MediaType = "application/vnd.oci.empty.v1+json"

// maxReferrers is how many manifests are looked into for one that is wanted.
const maxReferrers = 16

// Attach puts content of a kind beside the image for an architecture that a
// reference of a registry stands for: an artifact that refers to that image, which
// itself stays as it is. What is there already is not sent again.
//
// The error wraps ErrNotFound, ErrArch or ErrUnauthorized, or is the registry's
// when it takes no artifacts.
func Attach(ctx context.Context, ref, arch string, kind types.MediaType, content []byte, o Options) error {
	r, err := parse(ref, o.Access)
	if err != nil {
		return err
	}
	if r.kind != inRegistry {
		return fmt.Errorf("attach to %s: it is in no registry", ref)
	}
	o = o.filled(5 * time.Minute)
	s, err := newRepository(r, "", o.Access, o)
	if err != nil {
		return fmt.Errorf("attach to %s: %w", ref, err)
	}
	defer s.close()
	err = o.again(ctx, func() (bool, error) {
		t, err := resolve(ctx, s, arch)
		if err != nil {
			return false, err
		}
		return false, s.wire.explain(s.attach(ctx, t.image, kind, content, o))
	})
	if err != nil {
		return fmt.Errorf("attach to %s: %w", ref, err)
	}
	return nil
}

// attach writes the artifact and what it is made of. Where the registry does not
// list what refers to a manifest, the tag that stands in for the list is written
// too.
func (r *repository) attach(ctx context.Context, subject v1.Descriptor, kind types.MediaType, content []byte, o Options) error {
	p, err := remote.NewPusher(pushOptions(ctx, r.wire, o)...)
	if err != nil {
		return err
	}
	repo := r.ref.Context()
	nothing := []byte("{}")
	for _, l := range []v1.Layer{static.NewLayer(nothing, emptyType), static.NewLayer(content, kind)} {
		if err := p.Upload(ctx, repo, l); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: string(kind),
		Config: describe(emptyType, nothing), Layers: []v1.Descriptor{describe(kind, content)}, Subject: &subject,
	})
	if err != nil {
		return err
	}
	return p.Put(ctx, repo.Digest(describe("", raw).Digest.String()), artifact{raw})
}

// An artifact is a manifest in the form we wrote.
type artifact struct{ raw []byte }

func (a artifact) RawManifest() ([]byte, error)        { return a.raw, nil }
func (a artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// attached returns what of a kind is attached to an image, at most limit bytes.
// The error wraps ErrNotFound when there is nothing.
func (r *repository) attached(ctx context.Context, subject v1.Hash, kind types.MediaType, limit int64) ([]byte, error) {
	none := fmt.Errorf("%w: nothing of type %s refers to %s", ErrNotFound, kind, subject)
	var trouble error
	for _, list := range []func(context.Context, v1.Hash) ([]byte, error){r.referrers, r.standIn} {
		raw, err := list(ctx, subject)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, ErrNotFound): // it knows no such list
			continue
		case err != nil:
			trouble = err
			continue
		}
		b, err := r.choose(ctx, raw, subject, kind, limit)
		if b != nil || err != nil {
			return b, err
		}
	}
	if trouble != nil {
		return nil, trouble
	}
	return nil, none
}

// referrers asks the registry what refers to an image.
func (r *repository) referrers(ctx context.Context, subject v1.Hash) ([]byte, error) {
	resp, err := r.get(ctx, "referrers/"+subject.String(), http.Header{"Accept": {string(types.OCIImageIndex)}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if is := resp.Header.Get("Content-Type"); !strings.HasPrefix(is, string(types.OCIImageIndex)) {
		return nil, fmt.Errorf("%w: a page of type %q instead of referrers", ErrNotFound, is)
	}
	return readSmall(resp.Body, maxManifest)
}

// standIn reads the tag that has the same list where the registry makes none.
func (r *repository) standIn(ctx context.Context, subject v1.Hash) ([]byte, error) {
	return r.manifest(ctx, subject.Algorithm+"-"+subject.Hex)
}

// choose finds the content of a kind in a list of what refers to an image; nil if
// there is none.
func (r *repository) choose(ctx context.Context, list []byte, subject v1.Hash, kind types.MediaType, limit int64) ([]byte, error) {
	index, err := decode(list)
	if err != nil {
		return nil, err
	}
	looked := 0
	for _, d := range index.Manifests {
		// Some registries tell the type of the configuration, or nothing.
		if is := types.MediaType(d.ArtifactType); is != kind && is != emptyType && is != "" {
			continue
		}
		if looked++; looked > maxReferrers {
			break
		}
		raw, err := r.manifest(ctx, d.Digest.String())
		if err != nil {
			return nil, err
		}
		m, err := decode(raw)
		if err != nil || m.ArtifactType != kind || m.Subject == nil || m.Subject.Digest != subject || len(m.Layers) != 1 {
			continue
		}
		l := m.Layers[0]
		if l.MediaType != kind || l.Size <= 0 || l.Size > limit {
			return nil, final{fmt.Errorf("what is attached is %s of %d bytes, want %s of at most %d", l.MediaType, l.Size, kind, limit)}
		}
		return r.small(ctx, l)
	}
	return nil, nil
}

// small reads a whole blob.
func (r *repository) small(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	body, err := r.blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := readSmall(body, d.Size)
	if err != nil {
		return nil, err
	}
	return b, check(b, d.Digest.String())
}
