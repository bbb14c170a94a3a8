package registry

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	all := images(t, "amd64", "arm64")
	for i := range all {
		all[i].Release.Kubernetes, all[i].Release.UpgradeFrom = "v1.36.3", ">=0.1.0"
	}
	for name, some := range map[string][]Image{"index": all, "image": all[:1]} {
		s := newServer(t, nil)
		ref := s.host() + "/kedge:v1"
		want, err := Push(t.Context(), ref, some, quick())
		if err != nil {
			t.Fatal(err)
		}
		s.requests("")
		for _, ref := range []string{ref, s.host() + "/kedge@" + want} {
			digest, r, err := Describe(t.Context(), ref, quick())
			if err != nil || digest != want || r.Version != "0.1.0" || r.Name != "kedge" || r.Kubernetes != "v1.36.3" || r.UpgradeFrom != ">=0.1.0" || r.Kind != "" {
				t.Errorf("%s: Describe(%s) = %s, %+v, %v", name, ref, digest, r, err)
			}
		}
		if asked := s.requests("/blobs/"); len(asked) > 0 {
			t.Errorf("%s: it asked for %q", name, asked)
		}
	}
}

func TestDescribeRefuses(t *testing.T) {
	body := ""
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) bool {
		if body == "" || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		_, _ = w.Write([]byte(body))
		return true
	})
	o := quick()
	o.Tries = 1
	if _, _, err := Describe(t.Context(), s.host()+"/kedge:v1", o); !errors.Is(err, ErrNotFound) {
		t.Errorf("Describe of nothing = %v", err)
	}
	for text, want := range map[string]string{
		`{"schemaVersion":2,"layers":[]}`: "0 layers",
		`{"schemaVersion":2,"manifests":[{"digest":"sha256:` + zeros + `","size":2,"platform":{"os":"windows","architecture":"amd64"}}]}`: "none for linux",
		`<html>`: "read manifest",
	} {
		body = text
		if _, _, err := Describe(t.Context(), s.host()+"/kedge:v1", o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Describe of %s = %v, want %q", text, err, want)
		}
	}
}
