package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"time"

	"github.com/kedgeos/kedge/pkg/api/channel"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// A Track is what one track of a channel is to name from now on. What is "" stays
// as it was.
type Track struct {
	Name       string
	OS         string // reference in a registry
	Kubernetes string // reference in a registry, or a version
	Expires    *time.Time
}

// ReadChannel reads the document of a channel. It is the author's own: its
// signature is not looked at.
func ReadChannel(file string) (channel.Document, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return channel.Document{}, err
	}
	d, err := channel.Decode(b)
	if err != nil {
		return d, fmt.Errorf("read %s: %w", file, err)
	}
	return d, nil
}

// SetTrack looks up what a track is to name, and writes and signs the document
// with the next serial number; a file that is not there is a channel's first. A
// power cut between document and signature leaves two that do not fit, which
// clusters refuse until it is done again.
func SetTrack(ctx context.Context, file string, t Track, key minisign.SecretKey, o registry.Options) (channel.Document, error) {
	d, err := ReadChannel(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if d.Tracks == nil {
		d.Tracks = map[string]channel.Track{}
	}
	track := d.Tracks[t.Name]
	if t.OS != "" {
		if track.OS, err = lookUp(ctx, t.OS, release.System, o); err != nil {
			return d, err
		}
	}
	switch {
	case t.Kubernetes == "":
	case version.MatchString(t.Kubernetes):
		track.Kubernetes = &channel.Release{Version: t.Kubernetes}
	default:
		if track.Kubernetes, err = lookUp(ctx, t.Kubernetes, release.Kubernetes, o); err != nil {
			return d, err
		}
	}
	d.Tracks[t.Name] = track
	d.Serial++
	if t.Expires != nil {
		d.Expires = t.Expires
	}
	text := d.Encode()
	if d, err = channel.Decode(text); err != nil {
		return d, err
	}
	signature, err := minisign.Sign(key, bytes.NewReader(text), fmt.Sprintf("%s %d", channel.Kind, d.Serial), "")
	if err != nil {
		return d, err
	}
	if err := atomicfile.WriteFile(file, text, 0o644); err != nil {
		return d, err
	}
	return d, atomicfile.WriteFile(file+channel.SignatureSuffix, signature, 0o644)
}

// version is how a version of Kubernetes looks, which no reference does.
var version = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`)

// lookUp asks a registry what a reference stands for.
func lookUp(ctx context.Context, ref string, kind release.Kind, o registry.Options) (*channel.Release, error) {
	if host, _, err := registry.Split(ref); err != nil {
		return nil, err
	} else if host == "" {
		return nil, fmt.Errorf("%s is on this disk: a channel names images in a registry", ref)
	}
	digest, found, err := registry.Describe(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	if release.Kind(found.Kind) != kind {
		return nil, fmt.Errorf("%s: %w", ref, release.ErrKind)
	}
	r := &channel.Release{Image: ref, Digest: digest, Version: found.Version, Kubernetes: found.Kubernetes, UpgradeFrom: found.UpgradeFrom}
	if kind == release.Kubernetes {
		r.Version, r.Kubernetes, r.UpgradeFrom = found.Kubernetes, "", ""
	}
	return r, nil
}
