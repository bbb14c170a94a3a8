// Package resolve finds what a plan means: the digest and the versions behind the
// images that it names, or what its channel's signed document says.
//
// It remembers nothing: that a tag is looked up once, and that a channel does
// not go back, is for Decide to hold.
package resolve

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/channel"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/format/registries"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// A Resolver looks things up.
type Resolver struct {
	// Keys returns those by which channels may be signed.
	Keys func() ([]minisign.PublicKey, error)
	// ConfigMap returns the entries of one.
	ConfigMap func(ctx context.Context, namespace, name string) (map[string]string, error)
	// Registries returns how registries are spoken to; nil for all by HTTPS. Read
	// reads the files that it names; nil for those here.
	Registries func() (registries.File, error)
	Read       func(path string) ([]byte, error)
	Now        func() time.Time
}

// Needed tells whether a plan's target has to be looked up: one that names only
// a version of Kubernetes is its own target.
func Needed(p *v1alpha1.Plan) bool {
	s := &p.Spec
	return s.Channel != nil || s.OS != nil || s.Kubernetes != nil && s.Kubernetes.Image != ""
}

// Pinned tells whether the status of a plan still says what its images were
// found to be.
func Pinned(p *v1alpha1.Plan) bool {
	s, t := &p.Spec, p.Status.Target
	if s.Channel != nil || t == nil || (t.OS != nil) != (s.OS != nil) || (t.Kubernetes != nil) != (s.Kubernetes != nil) {
		return false
	}
	return (s.OS == nil || s.OS.Image == t.OS.Image) && (s.Kubernetes == nil || s.Kubernetes.Image == t.Kubernetes.Image)
}

// Resolve looks up what a plan means.
func (r *Resolver) Resolve(ctx context.Context, p *v1alpha1.Plan) (v1alpha1.Target, error) {
	if c := p.Spec.Channel; c != nil {
		return r.channel(ctx, c)
	}
	var t v1alpha1.Target
	if o := p.Spec.OS; o != nil {
		digest, found, err := r.describe(ctx, o.Image, release.System)
		if err != nil {
			return t, err
		}
		t.OS = &v1alpha1.OSTarget{Image: o.Image, Digest: digest, Version: found.Version, KubernetesVersion: found.Kubernetes, UpgradeFrom: found.UpgradeFrom}
	}
	k := p.Spec.Kubernetes
	if k == nil {
		return t, nil
	}
	t.Kubernetes = &v1alpha1.KubernetesTarget{Version: k.Version, Image: k.Image}
	if k.Image == "" {
		return t, nil
	}
	digest, found, err := r.describe(ctx, k.Image, release.Kubernetes)
	if err != nil {
		return t, err
	}
	t.Kubernetes.Digest = digest
	switch {
	case found.Kubernetes == "" && k.Version == "":
		return t, fmt.Errorf("%s does not say which Kubernetes it is: name its version in the plan", k.Image)
	case found.Kubernetes != "" && k.Version != "" && plain(found.Kubernetes) != plain(k.Version):
		return t, fmt.Errorf("%s is Kubernetes %s, and the plan says %s", k.Image, found.Kubernetes, k.Version)
	}
	t.Kubernetes.Version = cmp.Or(k.Version, found.Kubernetes)
	return t, nil
}

// plain is a version without what tags of images may not have.
func plain(v string) string { return strings.ReplaceAll(strings.TrimPrefix(v, "v"), "+", "-") }

func (r *Resolver) describe(ctx context.Context, image string, kind release.Kind) (string, registry.Release, error) {
	host, _, err := registry.Split(image)
	if err == nil && host == "" {
		err = fmt.Errorf("%s is on the disk of one machine: name an image in a registry", image)
	}
	if err != nil {
		return "", registry.Release{}, err
	}
	o, err := r.options(image)
	if err != nil {
		return "", registry.Release{}, err
	}
	digest, found, err := registry.Describe(ctx, image, o)
	if err != nil {
		return "", registry.Release{}, hinted(err)
	}
	if release.Kind(found.Kind) != kind {
		what := map[release.Kind]string{release.System: "a whole system: name it as os.image", release.Kubernetes: "Kubernetes alone: name it as kubernetes.image"}
		return "", registry.Release{}, fmt.Errorf("%s is %s", image, cmp.Or(what[release.Kind(found.Kind)], "of a kind that this program does not know: "+found.Kind))
	}
	return digest, found, nil
}

// options are those by which an image is looked up. It is tried a second time
// only: whoever asks will ask again.
func (r *Resolver) options(image string) (o registry.Options, err error) {
	if r.Registries != nil {
		f, err := r.Registries()
		if err != nil {
			return o, err
		}
		if o, err = registry.OptionsFor(image, f, r.read); err != nil {
			return o, err
		}
	}
	o.Tries = 2
	return o, nil
}

func (r *Resolver) read(path string) ([]byte, error) {
	if r.Read != nil {
		return r.Read(path)
	}
	return os.ReadFile(path)
}

// hinted says where it belongs what is missing to speak to a registry.
func hinted(err error) error {
	what := ""
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		what = "as whom to ask"
	case errors.Is(err, http.ErrSchemeMismatch):
		what = "that it speaks plain HTTP, by an endpoint http://…"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		what = "which certificate to trust"
	default:
		return err
	}
	return fmt.Errorf("%w: the Secret upgrade-registries beside the controller can say %s, in a registries.yaml", err, what)
}

// channel reads the document of a channel.
func (r *Resolver) channel(ctx context.Context, c *v1alpha1.Channel) (v1alpha1.Target, error) {
	keys, err := r.Keys()
	if err != nil {
		return v1alpha1.Target{}, err
	}
	if len(keys) == 0 {
		return v1alpha1.Target{}, errors.New("no key is trusted to sign channels: put its .pub file into the ConfigMap upgrade-keys beside the controller")
	}
	var document, signature []byte
	if c.URL != "" {
		document, signature, err = download(ctx, c.URL)
	} else {
		document, signature, err = r.entries(ctx, c.ConfigMap)
	}
	if err != nil {
		return v1alpha1.Target{}, err
	}
	d, err := channel.Open(document, signature, keys, r.Now())
	if err != nil {
		return v1alpha1.Target{}, err
	}
	name := cmp.Or(c.Track, "stable")
	track, ok := d.Tracks[name]
	if !ok {
		return v1alpha1.Target{}, fmt.Errorf("the channel has no track %q, but %s", name, cmp.Or(d.Names(), "none at all"))
	}
	t := v1alpha1.Target{Serial: d.Serial}
	if o := track.OS; o != nil {
		t.OS = &v1alpha1.OSTarget{Image: o.Image, Digest: o.Digest, Version: o.Version, KubernetesVersion: o.Kubernetes, UpgradeFrom: o.UpgradeFrom}
	}
	if k := track.Kubernetes; k != nil {
		t.Kubernetes = &v1alpha1.KubernetesTarget{Version: k.Version, Image: k.Image, Digest: k.Digest}
	}
	return t, nil
}

// client follows nobody: a redirect is how captive portals answer, and a channel
// can as well say where it is.
var client = &http.Client{
	Timeout: time.Minute,
	CheckRedirect: func(to *http.Request, _ []*http.Request) error {
		return fmt.Errorf("%w: it sends us to %s: put that into the plan if it is meant", fetch.ErrStatus, to.URL.Redacted())
	},
}

func download(ctx context.Context, address string) (document, signature []byte, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	o := fetch.Options{Limit: channel.MaxSize, Tries: 2, Client: client}
	if document, err = fetch.Bytes(ctx, u.String(), o); err != nil {
		return nil, nil, err
	}
	u.Path, u.RawPath = u.Path+channel.SignatureSuffix, ""
	signature, err = fetch.Bytes(ctx, u.String(), o)
	return document, signature, err
}

func (r *Resolver) entries(ctx context.Context, at *v1alpha1.ConfigMapKey) (document, signature []byte, err error) {
	data, err := r.ConfigMap(ctx, at.Namespace, at.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("read ConfigMap %s/%s: %w", at.Namespace, at.Name, err)
	}
	key := cmp.Or(at.Key, "channel")
	for _, k := range []string{key, key + channel.SignatureSuffix} {
		if _, ok := data[k]; !ok {
			return nil, nil, fmt.Errorf("ConfigMap %s/%s has no entry %s", at.Namespace, at.Name, k)
		}
	}
	return []byte(data[key]), []byte(data[key+channel.SignatureSuffix]), nil
}
