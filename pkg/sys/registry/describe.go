package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Describe asks what a reference stands for, without the OS image itself: its
// digest, of an index or of an image, and what its annotations say. An image
// that was published before an annotation was known lacks that.
//
// The error wraps ErrNotFound or ErrUnauthorized, or says that this is no Kedge
// image.
func Describe(ctx context.Context, ref string, o Options) (digest string, r Release, err error) {
	o = o.filled(30 * time.Second)
	sources, err := open(ref, o)
	if err != nil {
		return "", Release{}, fmt.Errorf("look up %s: %w", ref, err)
	}
	var mirrors string
	for i, s := range sources {
		ask, last := o, i == len(sources)-1
		if !last {
			ask.Tries = 1
		}
		err = ask.again(ctx, func() (_ bool, err error) {
			digest, r, err = describeOne(ctx, s)
			return false, err
		})
		s.close()
		if err == nil {
			return digest, r, nil
		}
		if ctx.Err() != nil {
			break
		}
		if !last {
			mirrors += fmt.Sprintf(" (mirror %s: %v)", s, err)
		}
	}
	return "", Release{}, fmt.Errorf("look up %s: %w%s", ref, err, mirrors)
}

func describeOne(ctx context.Context, s source) (string, Release, error) {
	raw, err := s.manifest(ctx, "")
	if err != nil {
		return "", Release{}, err
	}
	digest := describe("", raw).Digest.String()
	top, err := decode(raw)
	if err != nil {
		return "", Release{}, err
	}
	image := top
	if top.index() {
		i := slices.IndexFunc(top.Manifests, func(d v1.Descriptor) bool { return d.Platform != nil && d.Platform.OS == "linux" })
		if i < 0 {
			return "", Release{}, final{errors.New("not a Kedge image: the index has none for linux")}
		}
		if raw, err = s.manifest(ctx, top.Manifests[i].Digest.String()); err != nil {
			return "", Release{}, err
		}
		if image, err = decode(raw); err != nil {
			return "", Release{}, err
		}
	}
	if _, err := onlyLayer(image); err != nil {
		return "", Release{}, err
	}
	return digest, released(top.Annotations), nil
}

// released reads annotations.
func released(notes map[string]string) Release {
	return Release{
		Version: notes[versionAnnotation], ID: notes[IDAnnotation], Name: notes[titleAnnotation], Created: notes[createdAnnotation],
		Kind: notes[kindAnnotation], Kubernetes: notes[kubernetesAnnotation], UpgradeFrom: notes[upgradeFromAnnotation],
	}
}
