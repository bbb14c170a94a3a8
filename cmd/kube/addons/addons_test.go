package addons

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/cmd/kube/args"
)

func server(t *testing.T) args.Config {
	c := args.Config{Role: args.Server, DataDir: t.TempDir(), ServiceCIDR: "10.96.0.0/16", ClusterDomain: "edge.local"}
	c.Defaults("node1", net.IPv4(192, 0, 2, 7))
	return c
}

func TestBundled(t *testing.T) {
	c := server(t)
	disabled, err := Bundled(c)
	if err != nil || len(disabled) != 0 {
		t.Fatalf("Bundled = %q, %v", disabled, err)
	}
	names, err := manifests(c.ManifestsDir())
	if want := []string{"coredns.yaml", "upgrade-controller.yaml"}; err != nil || !slices.Equal(names, want) {
		t.Fatalf("manifests = %q, %v, want %q", names, err, want)
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(c.ManifestsDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		objects, err := decode(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, o := range objects {
			if o.GetName() == "" || o.GetAPIVersion() == "" {
				t.Errorf("%s: an object has no name or version: %v", name, o)
			}
		}
		if strings.Contains(string(data), "@") {
			t.Errorf("%s: a value was not filled in", name)
		}
	}
}

func TestBundledFollowsTheCluster(t *testing.T) {
	c := server(t)
	if _, err := Bundled(c); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, words := range map[string][]string{
		"coredns.yaml":            {"clusterIP: 10.96.0.10", "kubernetes edge.local", CoreDNSImage},
		"upgrade-controller.yaml": {`path: "` + self + `"`, `image: "kedge.local/pause:v1"`, args.Version},
	} {
		data, err := os.ReadFile(filepath.Join(c.ManifestsDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range words {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s has no %q", name, want)
			}
		}
	}
}

func TestBundledDisabled(t *testing.T) {
	c := server(t)
	if _, err := Bundled(c); err != nil {
		t.Fatal(err)
	}
	c.Disable = []string{"coredns", "traefik", "upgrade-controller"}
	disabled, err := Bundled(c)
	if err != nil || !slices.Equal(disabled, []string{"coredns.yaml", "upgrade-controller.yaml"}) {
		t.Errorf("Bundled = %q, %v", disabled, err)
	}
	if names, err := manifests(c.ManifestsDir()); err != nil || len(names) > 0 {
		t.Errorf("manifests = %q, %v, want none", names, err)
	}
}

func TestManifests(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.yml", "c.json", "d.txt", "skipped.yaml", "skipped.yaml.skip", "sub/e.yaml"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, err := manifests(dir)
	if want := []string{"a.yml", "b.yaml", "c.json", "sub/e.yaml"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("manifests = %q, %v, want %q", names, err, want)
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"comments and empty documents", "# a comment\n---\n---\n# another\n", nil},
		{"two documents", "kind: A\napiVersion: v1\nmetadata: {name: a}\n---\nkind: B\napiVersion: v1\nmetadata: {name: b}\n", []string{"A/a", "B/b"}},
		{"a leading mark", "---\nkind: A\napiVersion: v1\nmetadata: {name: a}\n", []string{"A/a"}},
		{"JSON", `{"kind":"A","apiVersion":"v1","metadata":{"name":"a"}}`, []string{"A/a"}},
		{"a list", "kind: List\napiVersion: v1\nitems:\n- {kind: A, apiVersion: v1, metadata: {name: a}}\n- {kind: B, apiVersion: v1, metadata: {name: b}}\n", []string{"A/a", "B/b"}},
		{"Windows line ends", "kind: A\r\napiVersion: v1\r\nmetadata:\r\n  name: a\r\n", []string{"A/a"}},
	} {
		objects, err := decode([]byte(tt.text))
		var got []string
		for _, o := range objects {
			got = append(got, o.GetKind()+"/"+o.GetName())
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: decode = %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, text := range []string{"kind: [", "metadata: {name: a}\n", "just text\n", "{\"kind\": \"A\""} {
		if objects, err := decode([]byte(text)); err == nil {
			t.Errorf("decode(%q) = %v, want an error", text, objects)
		}
	}
}
