package registry

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/registries"
)

func TestOptionsFor(t *testing.T) {
	f, err := registries.Parse([]byte(`
mirrors:
  registry.example:
    endpoint: ["https://harbor.example/v2/proxy", "http://plain.example:5000"]
    rewrite: {"^os/(.*)": "images/$1"}
  "own.example:5000":
    endpoint: ["http://own.example:5000"]
configs:
  harbor.example:
    auth: {username: u, password: p}
    tls: {ca_file: /ca, cert_file: /cert, key_file: /key}
  registry.example:
    auth: {username: r, password: q}
  gone.example:
    tls: {ca_file: /gone}
`))
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) ([]byte, error) {
		if name == "/gone" {
			return nil, fs.ErrNotExist
		}
		return []byte("content of " + name), nil
	}
	for ref, want := range map[string]string{
		"registry.example/os/kedge:v1": "user r:q; harbor.example/proxy images/kedge user u:p content of /ca content of /cert content of /key; plain.example:5000 images/kedge plain",
		"own.example:5000/kedge":       " plain",
		"other.example/kedge":          "",
		"oci:/srv":                     "",
	} {
		o, err := OptionsFor(ref, f, read)
		got := show(o.Access)
		for _, m := range o.Mirrors {
			got += "; " + m.Name + " " + m.Repository + show(m.Access)
		}
		if err != nil || strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("OptionsFor(%s) = %s, %v", ref, got, err)
		}
	}
	if _, err := OptionsFor("gone.example/kedge", f, read); err == nil || !strings.Contains(err.Error(), "configs: gone.example: tls: ca_file") {
		t.Errorf("OptionsFor with a file that is gone = %v", err)
	}
	if _, err := OptionsFor("registry.example/UPPER", f, read); err == nil {
		t.Error("a bad reference is taken")
	}
}

func show(a Access) (text string) {
	if a.Username != "" {
		text += " user " + a.Username + ":" + a.Password
	}
	for _, b := range [][]byte{a.CA, a.Certificate, a.Key} {
		if b != nil {
			text += " " + string(b)
		}
	}
	if a.Insecure {
		text += " plain"
	}
	if a.SkipVerify {
		text += " any certificate"
	}
	return text
}
