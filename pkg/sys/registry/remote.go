package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// manifestTypes is what a manifest may be asked for as.
var manifestTypes = strings.Join([]string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1),
	string(types.DockerManifestList), string(types.DockerManifestSchema2),
}, ", ")

// A repository of a registry is a source.
type repository struct {
	ref    name.Reference
	origin string // the registry that this one is a mirror of; "" if it is none
	auth   authn.Authenticator
	wire   *wire
	client *http.Client // nil until the registry has answered once
}

func newRepository(r reference, origin string, a Access, o Options) (*repository, error) {
	w, err := newWire(a, r.name.Context().RegistryStr(), o)
	if err != nil {
		return nil, err
	}
	return &repository{ref: r.name, origin: origin, auth: user(a), wire: w}, nil
}

func user(a Access) authn.Authenticator {
	if a.Username == "" {
		return authn.Anonymous
	}
	return &authn.Basic{Username: a.Username, Password: a.Password}
}

func (r *repository) String() string { return r.ref.Context().RegistryStr() }
func (r *repository) close()         { r.wire.inner.CloseIdleConnections() }

// get asks for a thing of the repository, such as manifests/v1. The status of
// the answer is 200 or 206.
func (r *repository) get(ctx context.Context, what string, header http.Header) (*http.Response, error) {
	if err := r.connect(ctx); err != nil {
		return nil, r.wire.explain(err)
	}
	repo := r.ref.Context()
	u := url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: "/v2/" + repo.RepositoryStr() + "/" + what}
	if r.origin != "" {
		u.RawQuery = url.Values{"ns": {r.origin}}.Encode() // as containerd tells mirrors of several registries
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, final{err}
	}
	req.Header = header
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, r.wire.explain(err)
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		resp.Body.Close()
		return nil, r.wire.explain(err)
	}
	return resp, nil
}

// connect learns which scheme and which sign-in the registry wants.
func (r *repository) connect(ctx context.Context) error {
	if r.client != nil {
		return nil
	}
	repo := r.ref.Context()
	t, err := transport.NewWithContext(ctx, repo.Registry, r.auth, transport.NewUserAgent(r.wire, "kedge"), []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return err
	}
	r.client = &http.Client{Transport: t, CheckRedirect: redirect}
	return nil
}

// redirect lets a registry send us to where it keeps its blobs, but not to this
// machine or its link, where others trust whoever can ask.
func redirect(to *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return final{errors.New("registry redirects in circles")}
	}
	host := to.URL.Hostname()
	ip := net.ParseIP(host)
	if !loopback(via[0].URL.Hostname()) && (loopback(host) || ip != nil && (ip.IsLinkLocalUnicast() || ip.IsUnspecified())) {
		return final{fmt.Errorf("registry redirects to %s", host)}
	}
	return nil
}

func (r *repository) manifest(ctx context.Context, digest string) ([]byte, error) {
	id := digest
	if id == "" {
		id = r.ref.Identifier()
	}
	resp, err := r.get(ctx, "manifests/"+id, http.Header{"Accept": {manifestTypes}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := readSmall(resp.Body, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if _, err := v1.NewHash(id); err == nil { // not a tag
		if err := check(raw, id); err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
	}
	return raw, nil
}

func (r *repository) blob(ctx context.Context, d v1.Descriptor, from int64) (io.ReadCloser, error) {
	resp, err := r.bytes(ctx, d, from, d.Size-from)
	if err != nil {
		return nil, err
	}
	skip, err := begin(resp, d.Size, from)
	if err == nil {
		_, err = io.CopyN(io.Discard, resp.Body, skip)
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

// bytes asks for a blob, or for some of it. Some registries take no range without
// an end.
func (r *repository) bytes(ctx context.Context, d v1.Descriptor, from, size int64) (*http.Response, error) {
	header := http.Header{}
	if from > 0 || size < d.Size {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+size-1))
	}
	return r.get(ctx, "blobs/"+d.Digest.String(), header)
}

// begin looks at the head of an answer to a request for the bytes of a blob
// from an offset on, and returns how many bytes come before: servers may send
// all.
func begin(resp *http.Response, size, from int64) (skip int64, err error) {
	if resp.StatusCode == http.StatusOK {
		if n := resp.ContentLength; n >= 0 && n != size {
			return 0, fmt.Errorf("%w: got %d bytes, want %d", ErrDigest, n, size)
		}
		return from, nil
	}
	var start, end int64
	var total string
	text := resp.Header.Get("Content-Range")
	if _, err := fmt.Sscanf(text, "bytes %d-%d/%s", &start, &end, &total); err != nil || start != from {
		return 0, fmt.Errorf("registry sent range %q, asked from %d", text, from)
	}
	if total != "*" && total != fmt.Sprint(size) {
		return 0, fmt.Errorf("%w: got %s bytes, want %d", ErrDigest, total, size)
	}
	return 0, nil
}

// upload puts a bundle into a registry.
func upload(ctx context.Context, r reference, b *bundle, o Options) error {
	w, err := newWire(o.Access, r.name.Context().RegistryStr(), o)
	if err != nil {
		return err
	}
	defer w.inner.CloseIdleConnections()
	return o.again(ctx, func() (bool, error) {
		updates := make(chan v1.Update, 16)
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			for u := range updates {
				if u.Error == nil {
					o.Progress(min(u.Complete, b.size), b.size)
				}
			}
		}()
		err := remote.Push(r.name, b.content, append(pushOptions(ctx, w, o), remote.WithProgress(updates))...)
		<-heard
		if err == nil {
			o.Progress(b.size, b.size)
		}
		return false, w.explain(err)
	})
}

// pushOptions are those of whatever is written.
func pushOptions(ctx context.Context, w *wire, o Options) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(w), remote.WithAuth(user(o.Access)), remote.WithUserAgent("kedge"), remote.WithJobs(1),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), // again tries again
	}
}
