package channel

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/format/minisign"
)

var digest = "sha256:" + strings.Repeat("a", 64)

func document() Document {
	return Document{Serial: 7, Tracks: map[string]Track{
		"stable": {OS: &Release{Image: "reg.example/kedge:v2", Digest: digest, Version: "2.0.0", Kubernetes: "v1.36.3"}},
		"lab":    {Kubernetes: &Release{Version: "v1.37.0"}},
	}}
}

func key(t *testing.T) minisign.SecretKey {
	t.Helper()
	k, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t *testing.T, k minisign.SecretKey, document []byte) []byte {
	t.Helper()
	s, err := minisign.Sign(k, bytes.NewReader(document), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpen(t *testing.T) {
	ours, theirs, now := key(t), key(t), time.Now()
	keys := []minisign.PublicKey{ours.Public()}
	raw := document().Encode()
	d, err := Open(raw, sign(t, ours, raw), keys, now)
	if err != nil || d.Serial != 7 || d.Tracks["stable"].OS.Digest != digest || d.Names() != "lab, stable" {
		t.Fatalf("Open = %+v, %v", d, err)
	}
	old := document()
	past := now.Add(-time.Hour)
	old.Expires = &past
	expired := old.Encode()
	for _, c := range []struct {
		name           string
		doc, signature []byte
		keys           []minisign.PublicKey
		want           error
	}{
		{"another's key", raw, sign(t, theirs, raw), keys, minisign.ErrUnknownKey},
		{"no key", raw, sign(t, ours, raw), nil, minisign.ErrUnknownKey},
		{"changed", bytes.Replace(raw, []byte("2.0.0"), []byte("1.0.0"), 1), sign(t, ours, raw), keys, minisign.ErrSignature},
		{"a page of a hotel", []byte("<html>"), []byte("<html>"), keys, minisign.ErrFormat},
		{"expired", expired, sign(t, ours, expired), keys, ErrExpired},
		{"another thing that was signed", []byte(`{"kind":"kedge key list"}`), sign(t, ours, []byte(`{"kind":"kedge key list"}`)), keys, ErrDocument},
	} {
		if _, err := Open(c.doc, c.signature, c.keys, now); !errors.Is(err, c.want) {
			t.Errorf("%s: Open = %v, want %v", c.name, err, c.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(*Document)
		want   string
	}{
		{func(d *Document) { d.Serial = 0 }, "serial 0"},
		{func(d *Document) { d.Tracks["stable"].OS.Digest = "" }, "an image and a digest"},
		{func(d *Document) { d.Tracks["stable"].OS.Digest = "sha256:" + strings.Repeat("A", 64) }, "64 hexadecimal digits"},
		{func(d *Document) { d.Tracks["stable"].OS.Version = "" }, "a version is wanted"},
		{func(d *Document) { d.Tracks["lab"].Kubernetes.Image = "reg.example/k8s" }, "go together"},
		{func(d *Document) { d.Tracks["none"] = Track{} }, "names nothing"},
	} {
		d := document()
		c.change(&d)
		if _, err := Decode(d.Encode()); !errors.Is(err, ErrDocument) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Decode = %v, want %q", err, c.want)
		}
	}
	for text, want := range map[string]string{
		`{"kind":"kedge channel","schema":2,"serial":1,"tracks":{}}`:                               "schema 2",
		`{"kind":"kedge channel","schema":1,"serial":1,"tracks":{},"more":1}`:                      "unknown field",
		`{"kind":"kedge channel","schema":1,"serial":1,"tracks":{}} {}`:                            "something follows",
		`{"kind":"kedge channel","schema":1,"serial":1,"tracks":{"a":{"os":{"image":"","x":""}}}}`: "unknown field",
	} {
		if _, err := Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Decode(%s) = %v, want %q", text, err, want)
		}
	}
}
