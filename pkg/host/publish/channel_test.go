package publish

import (
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/kedgeos/kedge/pkg/api/channel"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/host/sign"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

func TestSetTrack(t *testing.T) {
	s := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer s.Close()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, []byte("an image"), 0o644); err != nil {
		t.Fatal(err)
	}
	push := func(tag string, r registry.Release) (ref, digest string) {
		ref = s.Listener.Addr().String() + "/kedge:" + tag
		digest, err := registry.Push(t.Context(), ref, []registry.Image{{File: image, Arch: "amd64", Release: r}}, registry.Options{Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		return ref, digest
	}
	system, digest := push("v2", registry.Release{Version: "2.0.0", Kubernetes: "v1.36.3", UpgradeFrom: ">=1.0.0"})
	alone, sum := push("v1.37.0", registry.Release{Version: "1.37.0", Kind: "kubernetes", Kubernetes: "v1.37.0"})

	if _, err := sign.NewKey(filepath.Join(dir, "ours"), nil); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "ours.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := minisign.ParseSecretKey(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "channel.json")
	set := func(track Track) error {
		_, err := SetTrack(t.Context(), file, track, key, registry.Options{Tries: 1})
		return err
	}
	day := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, track := range []Track{
		{Name: "stable", OS: system, Kubernetes: "v1.36.4", Expires: &day},
		{Name: "stable", Kubernetes: alone}, {Name: "next", OS: system},
	} {
		if err := set(track); err != nil {
			t.Fatal(err)
		}
	}
	// What is refused changes nothing.
	for name, track := range map[string]Track{
		"of another kind": {Name: "stable", OS: alone}, "on the disk": {Name: "stable", OS: "oci:/srv/x"},
		"not there": {Name: "stable", OS: system + "-x"}, "nothing": {Name: "empty"},
	} {
		if err := set(track); err == nil {
			t.Errorf("%s: it is taken", name)
		} else if name == "of another kind" && !errors.Is(err, release.ErrKind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	document, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := os.ReadFile(file + channel.SignatureSuffix)
	if err != nil {
		t.Fatal(err)
	}
	d, err := channel.Open(document, signature, []minisign.PublicKey{key.Public()}, time.Now())
	if err != nil || d.Serial != 3 || d.Names() != "next, stable" || !d.Expires.Equal(day) {
		t.Fatalf("the channel is %+v, %v", d, err)
	}
	stable := d.Tracks["stable"]
	if want := (channel.Release{Image: system, Digest: digest, Version: "2.0.0", Kubernetes: "v1.36.3", UpgradeFrom: ">=1.0.0"}); *stable.OS != want {
		t.Errorf("stable: os is %+v, want %+v", *stable.OS, want)
	}
	if want := (channel.Release{Image: alone, Digest: sum, Version: "v1.37.0"}); *stable.Kubernetes != want {
		t.Errorf("stable: kubernetes is %+v, want %+v", *stable.Kubernetes, want)
	}
}
