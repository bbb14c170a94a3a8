package resolve

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/kedgeos/kedge/pkg/api/channel"
	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/format/registries"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// push puts an image into a registry of its own and returns its reference.
func push(t *testing.T, r registry.Release) (ref, digest string) {
	t.Helper()
	_, ref, digest = serve(t, r)
	return ref, digest
}

// serve is push that also returns what answers for the registry.
func serve(t *testing.T, r registry.Release) (h http.Handler, ref, digest string) {
	t.Helper()
	h = ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, []byte("an image"), 0o644); err != nil {
		t.Fatal(err)
	}
	ref = s.Listener.Addr().String() + "/kedge:v2"
	digest, err := registry.Push(t.Context(), ref, []registry.Image{{File: file, Arch: "amd64", Release: r}}, registry.Options{Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return h, ref, digest
}

func system(image string) *v1alpha1.Plan {
	return &v1alpha1.Plan{Spec: v1alpha1.PlanSpec{OS: &v1alpha1.OSRelease{Image: image}}}
}

func kube(image, version string) *v1alpha1.Plan {
	return &v1alpha1.Plan{Spec: v1alpha1.PlanSpec{Kubernetes: &v1alpha1.KubernetesRelease{Image: image, Version: version}}}
}

func TestImages(t *testing.T) {
	r := &Resolver{}
	ref, digest := push(t, registry.Release{Version: "2.0.0", Kubernetes: "v1.36.3", UpgradeFrom: ">=1.0.0"})
	got, err := r.Resolve(t.Context(), system(ref))
	if want := (v1alpha1.OSTarget{Image: ref, Digest: digest, Version: "2.0.0", KubernetesVersion: "v1.36.3", UpgradeFrom: ">=1.0.0"}); err != nil || *got.OS != want || got.Kubernetes != nil {
		t.Errorf("Resolve = %+v, %v; want %+v", got.OS, err, want)
	}
	alone, sum := push(t, registry.Release{Version: "1", Kind: "kubernetes", Kubernetes: "v1.36.3"})
	both := system(ref)
	both.Spec.Kubernetes = &v1alpha1.KubernetesRelease{Image: alone}
	got, err = r.Resolve(t.Context(), both)
	if want := (v1alpha1.KubernetesTarget{Image: alone, Digest: sum, Version: "v1.36.3"}); err != nil || got.OS == nil || *got.Kubernetes != want {
		t.Errorf("Resolve = %+v, %v; want %+v", got.Kubernetes, err, want)
	}
	if got, err = r.Resolve(t.Context(), kube(alone, "1.36.3")); err != nil || got.Kubernetes.Version != "1.36.3" {
		t.Errorf("Resolve = %+v, %v", got.Kubernetes, err)
	}
	silent, _ := push(t, registry.Release{Version: "1", Kind: "kubernetes"})
	odd, _ := push(t, registry.Release{Version: "1", Kind: "toaster"})
	for name, c := range map[string]struct {
		plan *v1alpha1.Plan
		want string
	}{
		"swapped":        {system(alone), "is Kubernetes alone: name it as kubernetes.image"},
		"swapped back":   {kube(ref, ""), "is a whole system: name it as os.image"},
		"another":        {kube(alone, "v1.37.0"), "is Kubernetes v1.36.3, and the plan says v1.37.0"},
		"no version":     {kube(silent, ""), "name its version in the plan"},
		"later kind":     {system(odd), "does not know: toaster"},
		"not there":      {system(ref + "x"), "not found"},
		"a folder":       {system("oci:/etc"), "name an image in a registry"},
		"no reference":   {system("UPPER:case"), "read reference"},
		"nobody answers": {system("127.0.0.1:1/kedge:v2"), "look up"},
	} {
		if _, err := r.Resolve(t.Context(), c.plan); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Resolve = %v, want %q", name, err, c.want)
		}
	}
}

// A registry that asks for a name and a password: the error says where they
// belong, and there they are found.
func TestPrivateRegistry(t *testing.T) {
	open, ref, _ := serve(t, registry.Release{Version: "2.0.0"})
	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "fleet" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		open.ServeHTTP(w, r)
	}))
	t.Cleanup(closed.Close)
	host := closed.Listener.Addr().String()
	_, name, _ := strings.Cut(ref, "/")
	p := system(host + "/" + name)
	r := &Resolver{}
	if _, err := r.Resolve(t.Context(), p); !errors.Is(err, registry.ErrUnauthorized) || !strings.Contains(err.Error(), "Secret upgrade-registries") {
		t.Errorf("without a name: %v", err)
	}
	r.Registries = func() (registries.File, error) {
		return registries.Parse([]byte("configs: {\"" + host + "\": {auth: {username: fleet, password: secret}}}"))
	}
	if got, err := r.Resolve(t.Context(), p); err != nil || got.OS.Version != "2.0.0" {
		t.Errorf("with it: %+v, %v", got.OS, err)
	}
}

func TestPinned(t *testing.T) {
	p := system("reg/kedge:v2")
	if Pinned(p) || !Needed(p) {
		t.Error("a plan without a status needs to be looked up")
	}
	p.Status.Target = &v1alpha1.Target{OS: &v1alpha1.OSTarget{Image: "reg/kedge:v2", Digest: "sha256:1"}}
	if !Pinned(p) {
		t.Error("what was found is looked up again")
	}
	p.Spec.OS.Image = "reg/kedge:v3"
	if Pinned(p) {
		t.Error("another image is not looked up")
	}
	if Needed(kube("", "v1.36.3")) {
		t.Error("a version has to be looked up")
	}
}

func TestChannel(t *testing.T) {
	key, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := "sha256:" + strings.Repeat("a", 64)
	doc := channel.Document{Serial: 7, Tracks: map[string]channel.Track{"stable": {
		OS:         &channel.Release{Image: "reg/kedge:v2", Digest: digest, Version: "2.0.0", Kubernetes: "v1.36.3"},
		Kubernetes: &channel.Release{Version: "v1.37.0"},
	}}}.Encode()
	signature, err := minisign.Sign(key, bytes.NewReader(doc), "", "")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/kedge":
			_, _ = w.Write(doc)
		case "/kedge.minisig":
			if q.URL.RawQuery != "token=1" {
				w.WriteHeader(http.StatusForbidden)
			}
			_, _ = w.Write(signature)
		case "/moved":
			http.Redirect(w, q, "/kedge", http.StatusFound)
		case "/hotel", "/hotel.minisig":
			_, _ = w.Write([]byte("<html>sign in"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	keys := []minisign.PublicKey{key.Public()}
	r := &Resolver{
		Keys: func() ([]minisign.PublicKey, error) { return keys, nil },
		ConfigMap: func(_ context.Context, namespace, name string) (map[string]string, error) {
			if name != "releases" {
				return nil, errors.New("forbidden")
			}
			return map[string]string{"channel": string(doc), "channel.minisig": string(signature), "alone": string(doc)}, nil
		},
		Now: time.Now,
	}
	at := func(c v1alpha1.Channel) *v1alpha1.Plan {
		return &v1alpha1.Plan{Spec: v1alpha1.PlanSpec{Channel: &c}}
	}
	inMap := func(name, key string) *v1alpha1.ConfigMapKey {
		return &v1alpha1.ConfigMapKey{Namespace: "edge", Name: name, Key: key}
	}
	for _, c := range []v1alpha1.Channel{{URL: s.URL + "/kedge?token=1"}, {ConfigMap: inMap("releases", ""), Track: "stable"}} {
		got, err := r.Resolve(t.Context(), at(c))
		if err != nil || got.Serial != 7 || got.OS.Digest != digest || got.OS.KubernetesVersion != "v1.36.3" || got.Kubernetes.Version != "v1.37.0" {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
	for _, c := range []struct {
		channel v1alpha1.Channel
		want    string
	}{
		{v1alpha1.Channel{URL: s.URL + "/moved"}, "it sends us to " + s.URL + "/kedge"},
		{v1alpha1.Channel{URL: s.URL + "/hotel"}, "read signature"},
		{v1alpha1.Channel{URL: s.URL + "/none"}, "404"},
		{v1alpha1.Channel{URL: s.URL + "/kedge?token=1", Track: "lab"}, `no track "lab", but stable`},
		{v1alpha1.Channel{ConfigMap: inMap("other", "")}, "read ConfigMap edge/other: forbidden"},
		{v1alpha1.Channel{ConfigMap: inMap("releases", "alone")}, "has no entry alone.minisig"},
	} {
		if _, err := r.Resolve(t.Context(), at(c.channel)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.channel, err, c.want)
		}
	}
	keys = nil
	if _, err := r.Resolve(t.Context(), at(v1alpha1.Channel{URL: s.URL + "/kedge?token=1"})); err == nil || !strings.Contains(err.Error(), "upgrade-keys") {
		t.Errorf("without keys: %v", err)
	}
}
