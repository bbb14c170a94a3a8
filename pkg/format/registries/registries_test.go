package registries

import (
	"fmt"
	"strings"
	"testing"
)

const sample = `
mirrors:
  docker.io:
    endpoint:
      - "https://mirror.example:5000"
      - http://plain.example
    rewrite:
      "^rancher/(.*)": "mirrorproject/rancher-images/$1"
      "^rancher/k3s$": "k3s"
  registry.example:
    endpoint: ["https://harbor.example/v2/proxy/", "bare.example"]
  "own.example:5000":
    endpoint: ["http://own.example:5000"]
  "*":
    endpoint: ["https://all.example"]
configs:
  "mirror.example:5000":
    auth: {username: u, password: p}
    tls: {ca_file: /etc/ca.pem, cert_file: /etc/c.pem, key_file: /etc/k.pem}
  docker.io:
    auth: {auth: dTpw}
  "*":
    tls: {insecure_skip_verify: true}
something: newer
`

func TestEndpoints(t *testing.T) {
	f, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ registry, repository, want string }{
		{"docker.io", "library/busybox", "mirror.example:5000//library/busybox u=u ca=/etc/ca.pem, plain.example//library/busybox plain skip"},
		{"index.docker.io", "rancher/shell", "mirror.example:5000//mirrorproject/rancher-images/shell u=u ca=/etc/ca.pem, plain.example//mirrorproject/rancher-images/shell plain skip"},
		{"docker.io", "rancher/k3s", "mirror.example:5000//mirrorproject/rancher-images/k3s u=u ca=/etc/ca.pem, plain.example//mirrorproject/rancher-images/k3s plain skip"},
		{"registry.example", "os/kedge", "harbor.example/proxy/os/kedge skip, bare.example//os/kedge skip"},
		{"own.example:5000", "kedge", "own.example:5000//kedge plain skip"},
		{"other.example", "kedge", "all.example//kedge skip"},
	} {
		var got []string
		for _, e := range f.Endpoints(c.registry, c.repository) {
			text := e.Host + "/" + e.Prefix + "/" + e.Repository
			if e.Plain {
				text += " plain"
			}
			if e.Config.Auth.Username != "" {
				text += " u=" + e.Config.Auth.Username + " ca=" + e.Config.TLS.CAFile
			}
			if e.Config.TLS.InsecureSkipVerify {
				text += " skip"
			}
			got = append(got, text)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("Endpoints(%s, %s) = %s, want %s", c.registry, c.repository, strings.Join(got, ", "), c.want)
		}
	}
	if name, password, err := f.Config("index.docker.io").Auth.User(); name+":"+password != "u:p" || err != nil {
		t.Errorf("user of Docker's = %s, %s, %v", name, password, err)
	}
	if e := (File{}).Endpoints("a", "b"); len(e) != 0 {
		t.Errorf("an empty file has %v", e)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"mirrors: [":                                           "line 1",
		"mirrors: {a: {endpoint: [ftp://x]}}":                  `mirrors: a: endpoint "ftp://x" is no http or https URL`,
		"mirrors: {a: {endpoint: [https:///v2]}}":              "is no http or https URL",
		"mirrors: {a: {endpoint: [https://x/artifactory/v2]}}": "a path begins with /v2",
		"mirrors: {a: {rewrite: {'(': x}}}":                    "mirrors: a: rewrite",
		"configs: {a: {auth: {auth: '%'}}}":                    "configs: a: auth: auth is not",
		"configs: {a: {auth: {identity_token: x}}}":            "identity_token is not supported",
		"configs: {a: {tls: {cert_file: x}}}":                  "cert_file and key_file belong together",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Parse(%s) = %v, want %q", text, err, says)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("mirrors: {'*': {endpoint: ['//', 'http://a/v2/../b']}}")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse([]byte(text))
		if err != nil {
			return
		}
		for name := range file.Mirrors {
			for _, e := range file.Endpoints(name, "os/kedge") {
				if e.Host == "" || strings.HasPrefix(e.Prefix, "/") {
					t.Errorf("%s: %s", name, fmt.Sprint(e))
				}
			}
		}
	})
}
