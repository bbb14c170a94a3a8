package cri

import (
	"flag"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/pkg/format/registries"
	"github.com/pelletier/go-toml/v2"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", file, text)
	}
}

func node() args.Config {
	var c args.Config
	c.Defaults("node1", net.IPv4(192, 0, 2, 7))
	return c
}

func TestConfig(t *testing.T) {
	text := Config(node(), "/usr/libexec/cni", false)
	golden(t, "config.toml", text)
	var doc map[string]any
	if err := toml.Unmarshal([]byte(text), &doc); err != nil {
		t.Errorf("config.toml: %v", err)
	}
}

func TestHostsFiles(t *testing.T) {
	hosts, err := hostsFiles([]byte(`
mirrors:
  docker.io:
    endpoint:
    - https://mirror.example:5000
    - second.example
  "*":
    endpoint: ["http://fallback.example"]
configs:
  mirror.example:5000:
    auth: {username: robot, password: s3cret}
    tls: {ca_file: /etc/ca.pem, cert_file: /etc/c.pem, key_file: /etc/k.pem}
  alone.example:
    tls: {insecure_skip_verify: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		all.WriteString("# " + name + "\n" + hosts[name])
		var doc map[string]any
		if err := toml.Unmarshal([]byte(hosts[name]), &doc); err != nil {
			t.Errorf("hosts.toml of %s: %v", name, err)
		}
	}
	golden(t, "hosts.txt", all.String())
}

func TestHostsFilesErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"mirrors: {docker.io: {endpoint: [\"https://\"]}}", "docker.io"},
		{"mirrors: [", "yaml"},
	} {
		if _, err := hostsFiles([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("hostsFiles(%q) = %v, want an error with %q", tt.text, err, tt.want)
		}
	}
}

func TestRegistries(t *testing.T) {
	c := node()
	c.DataDir = t.TempDir()
	c.PrivateRegistry = filepath.Join(c.DataDir, "registries.yaml")
	if err := Registries(c); err != nil {
		t.Errorf("Registries without a file: %v", err)
	}
	if err := os.WriteFile(c.PrivateRegistry, []byte(`mirrors: {docker.io: {endpoint: ["https://mirror.example"]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Registries(c); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(RegistriesDir(c), "docker.io", "hosts.toml")
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("%s may hold a password and has mode %v", file, st.Mode())
	}
}

func TestAuthorization(t *testing.T) {
	for _, tt := range []struct{ user, password, encoded, want string }{
		{"", "", "", ""},
		{"robot", "s3cret", "", "Basic cm9ib3Q6czNjcmV0"},
		{"", "", "cm9ib3Q6czNjcmV0", "Basic cm9ib3Q6czNjcmV0"},
	} {
		if got := authorization(registries.Auth{Username: tt.user, Password: tt.password, Auth: tt.encoded}); got != tt.want {
			t.Errorf("authorization(%q, %q, %q) = %q, want %q", tt.user, tt.password, tt.encoded, got, tt.want)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.tar", "a.tar.zst", "c.tar.gz", "d.tgz", "README", "e.tar.part"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, f := range files([]string{filepath.Join(dir, "absent"), dir}) {
		got = append(got, filepath.Base(f))
	}
	if want := []string{"a.tar.zst", "b.tar", "c.tar.gz", "d.tgz"}; !slices.Equal(got, want) {
		t.Errorf("files = %q, want %q", got, want)
	}
}

func TestBadRegistries(t *testing.T) {
	for _, text := range []string{"mirrors: [", "mirrors: {a.example: {endpoint: ['http://']}}"} {
		if files, err := hostsFiles([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, files)
		}
	}
}
