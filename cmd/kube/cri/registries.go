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
	"gopkg.in/yaml.v3"
)

// registries is /etc/rancher/k3s/registries.yaml, with k3s's keys.
type registries struct {
	Mirrors map[string]struct {
		Endpoint []string          `yaml:"endpoint"`
		Rewrite  map[string]string `yaml:"rewrite"`
	} `yaml:"mirrors"`
	Configs map[string]struct {
		Auth struct {
			Username, Password, Auth string
		} `yaml:"auth"`
		TLS struct {
			CAFile             string `yaml:"ca_file"`
			CertFile           string `yaml:"cert_file"`
			KeyFile            string `yaml:"key_file"`
			InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
		} `yaml:"tls"`
	} `yaml:"configs"`
}

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
// containerd's "_default".
func hostsFiles(data []byte) (map[string]string, error) {
	var r registries
	if err := yaml.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name := range r.Configs {
		if _, ok := r.Mirrors[name]; !ok && name != "*" {
			out[name] = r.host("https://"+name, nil)
		}
	}
	for name, mirror := range r.Mirrors {
		var text strings.Builder
		for _, endpoint := range mirror.Endpoint {
			if !strings.Contains(endpoint, "://") {
				endpoint = "https://" + endpoint
			}
			if u, err := url.Parse(endpoint); err != nil || u.Host == "" {
				return nil, fmt.Errorf("mirrors.%s: endpoint %q is not a URL", name, endpoint)
			}
			text.WriteString(r.host(endpoint, mirror.Rewrite))
		}
		if name == "*" {
			name = "_default"
		}
		out[name] = text.String()
	}
	return out, nil
}

// host returns the section of one endpoint, with the credentials that configs
// gives for its host.
func (r registries) host(endpoint string, rewrite map[string]string) string {
	u, _ := url.Parse(endpoint)
	conf, ok := r.Configs[u.Host]
	if !ok {
		conf = r.Configs["*"]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", endpoint)
	if conf.TLS.CAFile != "" {
		fmt.Fprintf(&b, "  ca = %q\n", conf.TLS.CAFile)
	}
	if conf.TLS.CertFile != "" {
		fmt.Fprintf(&b, "  client = [[%q, %q]]\n", conf.TLS.CertFile, conf.TLS.KeyFile)
	}
	if conf.TLS.InsecureSkipVerify {
		b.WriteString("  skip_verify = true\n")
	}
	if header := authorization(conf.Auth.Username, conf.Auth.Password, conf.Auth.Auth); header != "" {
		fmt.Fprintf(&b, "  [host.%q.header]\n    authorization = %q\n", endpoint, header)
	}
	for from, to := range rewrite {
		fmt.Fprintf(&b, "  # rewrite %q to %q is not supported by this containerd\n", from, to)
	}
	return b.String()
}

// authorization returns the HTTP header for user and password, or for their
// ready encoded form.
func authorization(user, password, encoded string) string {
	if encoded == "" && user != "" {
		encoded = base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	}
	if encoded == "" {
		return ""
	}
	return "Basic " + encoded
}
