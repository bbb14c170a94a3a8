package cri

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/pkg/format/registries"
)

// Registries turns the user's registries.yaml into containerd's hosts.toml
// files. Without the file there are none.
func Registries(c args.Config) error {
	data, err := os.ReadFile(c.PrivateRegistry)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	hosts, err := hostsFiles(data)
	if err != nil {
		return fmt.Errorf("%s: %w", c.PrivateRegistry, err)
	}
	for registry, text := range hosts {
		dir := filepath.Join(RegistriesDir(c), registry)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// hostsFiles returns the text of hosts.toml for each registry; "*" becomes
// containerd's "_default". It takes more than our own client of registries does:
// containerd says itself what it cannot do.
func hostsFiles(data []byte) (map[string]string, error) {
	f, err := registries.Decode(data)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name := range f.Configs {
		if _, ok := f.Mirrors[name]; !ok && name != "*" {
			out[name] = section("https://"+name, f.Config(name), nil)
		}
	}
	for name, mirror := range f.Mirrors {
		var text strings.Builder
		for _, endpoint := range mirror.Endpoints {
			if !strings.Contains(endpoint, "://") {
				endpoint = "https://" + endpoint
			}
			u, err := url.Parse(endpoint)
			if err != nil || u.Host == "" {
				return nil, fmt.Errorf("mirrors.%s: endpoint %q is not a URL", name, endpoint)
			}
			text.WriteString(section(endpoint, f.Config(u.Host), mirror.Rewrite))
		}
		if name == "*" {
			name = "_default"
		}
		out[name] = text.String()
	}
	return out, nil
}

// section returns the section of one endpoint.
func section(endpoint string, c registries.Config, rewrite map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", endpoint)
	if c.TLS.CAFile != "" {
		fmt.Fprintf(&b, "  ca = %q\n", c.TLS.CAFile)
	}
	if c.TLS.CertFile != "" {
		fmt.Fprintf(&b, "  client = [[%q, %q]]\n", c.TLS.CertFile, c.TLS.KeyFile)
	}
	if c.TLS.InsecureSkipVerify {
		b.WriteString("  skip_verify = true\n")
	}
	if header := authorization(c.Auth); header != "" {
		fmt.Fprintf(&b, "  [host.%q.header]\n    authorization = %q\n", endpoint, header)
	}
	for from, to := range rewrite {
		fmt.Fprintf(&b, "  # rewrite %q to %q is not supported by this containerd\n", from, to)
	}
	return b.String()
}

// authorization returns the HTTP header for user and password, or for their
// ready encoded form.
func authorization(a registries.Auth) string {
	encoded := a.Auth
	if encoded == "" && a.Username != "" {
		encoded = base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	}
	if encoded == "" {
		return ""
	}
	return "Basic " + encoded
}
