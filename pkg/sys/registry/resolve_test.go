package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func TestParse(t *testing.T) {
	for _, c := range []struct {
		ref  string
		want string // kind name scheme path tag digest
	}{
		{"registry.example/os/kedge:v1", "0 registry.example/os/kedge:v1 https  v1 "},
		{"registry.example/kedge", "0 registry.example/kedge:latest https  latest "},
		{"registry.example:5000/kedge:v1@sha256:" + zeros, "0 registry.example:5000/kedge@sha256:" + zeros + " https   sha256:" + zeros},
		{"localhost:5000/kedge:v1", "0 localhost:5000/kedge:v1 http  v1 "},
		{"127.0.0.2:5000/kedge:v1", "0 127.0.0.2:5000/kedge:v1 http  v1 "},
		{"[::1]:5000/kedge:v1", "0 [::1]:5000/kedge:v1 http  v1 "},
		{"oci:stick", "1   stick  "},
		{"oci:/media/usb:v1.4.0+2", "1   /media/usb v1.4.0+2 "},
		{"oci:/a:b/usb", "1   /a:b/usb  "},
		{"oci-archive:./usb.tar:v1@sha256:" + zeros, "2   ./usb.tar v1 sha256:" + zeros},
		{"oci:", "names no path"},
		{"oci:d@sha256:00", "read reference"},
		{"registry.example/BIG", "can only contain the characters"},
		{"registry.example/a", "must be between 2 and 255"},
	} {
		r, err := parse(c.ref, Access{})
		var name, scheme string
		if err == nil && r.name != nil {
			name, scheme = r.name.Name(), r.name.Context().Scheme()
		}
		if got := fmt.Sprint(r.kind, " ", name, " ", scheme, " ", r.path, " ", r.tag, " ", r.digest); err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("parse(%q) = %q, %v; want %q", c.ref, got, err, c.want)
		}
	}
	if r, err := parse("registry.example/kedge:v1", Access{Insecure: true}); err != nil || r.name.Context().Scheme() != "http" {
		t.Errorf("parse with Insecure = %+v, %v; want http", r, err)
	}
}

func TestOn(t *testing.T) {
	for _, c := range []struct{ ref, mirror, want string }{
		{"docker.io/kedge:v1", "mirror.example", "mirror.example/library/kedge:v1"},
		{"registry.example/os/kedge:v1", "mirror.example:5000/proxy/", "mirror.example:5000/proxy/os/kedge:v1"},
		{"registry.example/kedge@sha256:" + zeros, "mirror.example", "mirror.example/kedge@sha256:" + zeros},
	} {
		r, err := parse(c.ref, Access{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.on(Mirror{Name: c.mirror}); err != nil || got.name.Name() != c.want {
			t.Errorf("%s on %s = %v, %v; want %s", c.ref, c.mirror, got.name, err, c.want)
		}
	}
}

func TestDecode(t *testing.T) {
	const (
		l    = `{"mediaType":"application/vnd.kedge.image.v1","size":9,"digest":"sha256:` + zeros + `"}`
		conf = `"config":{"size":2,"digest":"sha256:` + zeros + `"}`
		sub  = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":5,"digest":"sha256:` + zeros + `","platform":{"os":"linux","architecture":"amd64"}}`
	)
	for _, c := range []struct{ name, raw, want string }{
		{"image", `{"schemaVersion":2,` + conf + `,"layers":[` + l + `]}`, "image 9"},
		{"index", `{"schemaVersion":2,"manifests":[` + sub + `]}`, "index 5"},
		{"both", `{"schemaVersion":2,` + conf + `,"layers":[` + l + `],"manifests":[` + sub + `]}`, "neither"},
		{"index said to be an image", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[` + sub + `]}`, "neither"},
		{"image said to be an index", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",` + conf + `,"layers":[` + l + `]}`, "neither"},
		{"old schema", `{"schemaVersion":1,"layers":[` + l + `]}`, "neither"},
		{"no JSON", `<html>`, "read manifest"},
		{"bad digest", `{"schemaVersion":2,"layers":[{"digest":"sha256:../../x"}]}`, "read manifest"},
		{"no layer", `{"schemaVersion":2,` + conf + `}`, "0 layers"},
		{"two layers", `{"schemaVersion":2,"layers":[` + l + `,` + l + `]}`, "2 layers"},
		{"a container image", `{"schemaVersion":2,"layers":[` + strings.Replace(l, "kedge.image.v1", "oci.image.layer.v1.tar", 1) + `]}`, "its layer is application/vnd.oci.image.layer.v1.tar"},
		{"no size", `{"schemaVersion":2,"layers":[` + strings.Replace(l, "9", "0", 1) + `]}`, "no sound size"},
		{"windows", `{"schemaVersion":2,"manifests":[` + strings.Replace(sub, "linux", "windows", 1) + `]}`, "none at all"},
		{"other", `{"schemaVersion":2,"manifests":[` + strings.Replace(sub, "amd64", "s390x", 1) + `]}`, `want "amd64", there is s390x`},
		{"no platform", `{"schemaVersion":2,"manifests":[{"size":5,"digest":"sha256:` + zeros + `"}]}`, "none at all"},
	} {
		if got := decoded(c.raw); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// decoded tells in words what decode, pick and onlyLayer make of a manifest.
func decoded(raw string) string {
	d, err := decode([]byte(raw))
	if err != nil {
		return err.Error()
	}
	if d.index() {
		m, err := pick(d, "amd64")
		return fmt.Sprint("index ", m.Size, " ", err)
	}
	l, err := onlyLayer(d)
	return fmt.Sprint("image ", l.Size, " ", err)
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.kedge.image.v1","size":9,"digest":"sha256:` + zeros + `"}]}`)
	f.Add(`{"schemaVersion":2,"manifests":[{"platform":{"os":"linux","architecture":"amd64"}}]}`)
	f.Fuzz(func(t *testing.T, raw string) { _ = decoded(raw) })
}

func TestBegin(t *testing.T) {
	for _, c := range []struct {
		status int
		length int64
		text   string // Content-Range
		skip   int64
		want   error
	}{
		{200, 100, "", 40, nil},
		{200, -1, "", 40, nil},
		{200, 99, "", 0, ErrDigest},
		{206, 60, "bytes 40-99/100", 0, nil},
		{206, 60, "bytes 40-99/*", 0, nil},
		{206, 60, "bytes 40-99/101", 0, ErrDigest},
		{206, 60, "bytes 0-99/100", 0, errAny},
		{206, 60, "", 0, errAny},
	} {
		resp := &http.Response{StatusCode: c.status, ContentLength: c.length, Header: http.Header{"Content-Range": {c.text}}}
		skip, err := begin(resp, 100, 40)
		if skip != c.skip || c.want == errAny && err == nil || c.want != errAny && !errors.Is(err, c.want) {
			t.Errorf("begin(%d, %d, %q) = %d, %v; want %d, %v", c.status, c.length, c.text, skip, err, c.skip, c.want)
		}
	}
}

func TestMerge(t *testing.T) {
	entry := func(tag, hex string) v1.Descriptor {
		d := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: hex}}
		if tag != "" {
			d.Annotations = map[string]string{tagAnnotation: tag}
		}
		return d
	}
	for _, c := range []struct {
		there []v1.Descriptor
		add   v1.Descriptor
		want  string
	}{
		{nil, entry("v1", "a"), "v1:a"},
		{[]v1.Descriptor{entry("v1", "a")}, entry("v2", "b"), "v1:a v2:b"},
		{[]v1.Descriptor{entry("v1", "a"), entry("v2", "b")}, entry("v1", "c"), "v2:b v1:c"},
		{[]v1.Descriptor{entry("", "a"), entry("v2", "b")}, entry("", "c"), "v2:b :c"},
	} {
		var got []string
		for _, e := range merge(v1.IndexManifest{Manifests: c.there}, c.add).Manifests {
			got = append(got, e.Annotations[tagAnnotation]+":"+e.Digest.Hex)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("merge = %q, want %q", got, c.want)
		}
	}
}

func TestPlainHTTPNeedsLeave(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	for _, c := range []struct {
		url      string
		insecure bool
		refused  bool
	}{
		{"http://192.0.2.1/", false, true},
		{"http://127.0.0.1.example/", false, true},
		{s.URL, false, false},
		{s.URL, true, false},
	} {
		w, err := newWire(Access{Insecure: c.insecure}, "registry.example", Options{Stall: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: w}).Get(c.url)
		if refused := err != nil && strings.Contains(err.Error(), "not allowed"); refused != c.refused {
			t.Errorf("GET %s with insecure %v = %v, want refused %v", c.url, c.insecure, err, c.refused)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
}

func TestRedirect(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"https://registry.example/a", "https://cdn.example/a", true},
		{"https://registry.example/a", "https://10.1.2.3/a", true},
		{"https://registry.example/a", "https://127.0.0.1/a", false},
		{"https://registry.example/a", "https://localhost/a", false},
		{"https://registry.example/a", "https://169.254.169.254/a", false},
		{"https://registry.example/a", "https://[fe80::1]/a", false},
		{"http://127.0.0.1:5000/a", "http://127.0.0.1:9000/a", true},
	} {
		from, to := request(t, c.from), request(t, c.to)
		if err := redirect(to, []*http.Request{from}); (err == nil) != c.ok {
			t.Errorf("redirect from %s to %s = %v, want ok %v", c.from, c.to, err, c.ok)
		}
	}
	if err := redirect(request(t, "https://a.example"), make([]*http.Request, 10)); err == nil {
		t.Error("the eleventh request was let through")
	}
}

func request(t *testing.T, to string) *http.Request {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Request{URL: u}
}

func TestAnnotationsAreOptional(t *testing.T) {
	b, err := assemble(t.Context(), []Image{{File: write(t, "f", 10, 1), Arch: "amd64"}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.content.RawManifest()
	var m v1.Manifest
	if err != nil || json.Unmarshal(raw, &m) != nil || len(m.Annotations) != 0 {
		t.Errorf("manifest = %s, %v; want no annotations", raw, err)
	}
}
