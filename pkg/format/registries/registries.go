// Package registries reads registries.yaml, the file in which k3s is told of
// mirrors and private registries.
//
// It knows what the file says, not what is in the files that it names. Keys that
// it does not know are passed over: they are k3s's, and may be newer.
//
// Source: https://docs.k3s.io/installation/private-registry; of mirrors whose
// endpoint has a path, that this is the path of the API, as in containerd's
// override_path.
package registries

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Path is where k3s looks for the file.
const Path = "/etc/rancher/k3s/registries.yaml"

// A File is the content of registries.yaml; the zero value is that of an empty
// one.
type File struct {
	Mirrors map[string]Mirror `yaml:"mirrors"` // by registry; "*" stands for all others
	Configs map[string]Config `yaml:"configs"` // by host or host:port of an endpoint; "*" stands for all others
}

// A Mirror says where the images of a registry are asked for before it.
type Mirror struct {
	Endpoints []string          `yaml:"endpoint"`
	Rewrite   map[string]string `yaml:"rewrite"` // regular expression of the repository → what it is called there
}

// A Config says how a host is spoken to.
type Config struct {
	Auth Auth `yaml:"auth"`
	TLS  TLS  `yaml:"tls"`
}

// Auth is a user, or Auth, the base64 form of name:password.
type Auth struct {
	Username      string `yaml:"username"`
	Password      string `yaml:"password"`
	Auth          string `yaml:"auth"`
	IdentityToken string `yaml:"identity_token"`
}

// TLS names files with PEM certificates and keys.
type TLS struct {
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// Decode reads the file as it is; what it says may not be sound. The error tells
// the line.
func Decode(data []byte) (f File, err error) {
	err = yaml.Unmarshal(data, &f)
	return f, err
}

// Parse reads the file. The error tells the line, or the key that is not sound.
func Parse(data []byte) (File, error) {
	f, err := Decode(data)
	if err != nil {
		return File{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Mirrors)) {
		for _, e := range f.Mirrors[name].Endpoints {
			if _, err := parseEndpoint(e); err != nil {
				return File{}, fmt.Errorf("mirrors: %s: %w", name, err)
			}
		}
		for pattern := range f.Mirrors[name].Rewrite {
			if _, err := regexp.Compile(pattern); err != nil {
				return File{}, fmt.Errorf("mirrors: %s: rewrite: %w", name, err)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Configs)) {
		if _, _, err := f.Configs[name].Auth.User(); err != nil {
			return File{}, fmt.Errorf("configs: %s: auth: %w", name, err)
		}
		if t := f.Configs[name].TLS; (t.CertFile == "") != (t.KeyFile == "") {
			return File{}, fmt.Errorf("configs: %s: tls: cert_file and key_file belong together", name)
		}
	}
	return f, nil
}

// Files returns the files that are named, each once.
func (f File) Files() (files []string) {
	for _, c := range f.Configs {
		for _, file := range []string{c.TLS.CAFile, c.TLS.CertFile, c.TLS.KeyFile} {
			if file != "" {
				files = append(files, file)
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// SecretKey is the entry, in a Secret with this configuration, of registries.yaml
// or of a file that it names: the path, in letters that a key may have.
func SecretKey(path string) string {
	if path == Path {
		return "registries.yaml"
	}
	return "file-" + hex.EncodeToString([]byte(path))
}

// User returns name and password, both "" when there are none.
func (a Auth) User() (name, password string, err error) {
	switch {
	case a.IdentityToken != "":
		return "", "", errors.New("identity_token is not supported: give username and password")
	case a.Auth == "":
		return a.Username, a.Password, nil
	}
	b, err := base64.StdEncoding.DecodeString(a.Auth)
	name, password, ok := strings.Cut(string(b), ":")
	if err != nil || !ok {
		return "", "", errors.New("auth is not the base64 form of name:password")
	}
	return name, password, nil
}

// An Endpoint is a place to ask for a repository.
type Endpoint struct {
	Host       string // host or host:port
	Prefix     string // of its repositories, without slashes around it; "" for none
	Repository string // below the prefix
	Plain      bool   // it speaks plain HTTP
	Config     Config
}

// Endpoints returns where a repository of a registry is asked for before the
// registry itself, in order. Registry is a host or host:port; Docker's goes by
// any of its names.
func (f File) Endpoints(registry, repository string) []Endpoint {
	m, ok := f.Mirrors[registry]
	for _, alias := range docker(registry) {
		if !ok {
			m, ok = f.Mirrors[alias]
		}
	}
	if !ok {
		m = f.Mirrors["*"]
	}
	var all []Endpoint
	for _, text := range m.Endpoints {
		e, err := parseEndpoint(text)
		if err != nil {
			continue // of a File that was not parsed
		}
		e.Repository, e.Config = m.rewrite(repository), f.Config(e.Host)
		all = append(all, e)
	}
	return all
}

// Config returns how a host is spoken to.
func (f File) Config(host string) Config {
	for _, name := range append([]string{host}, docker(host)...) {
		if c, ok := f.Configs[name]; ok {
			return c
		}
	}
	return f.Configs["*"]
}

// docker returns the names of Docker's registry for one of them.
func docker(host string) []string {
	names := []string{"docker.io", "index.docker.io", "registry-1.docker.io"}
	if !slices.Contains(names, host) {
		return nil
	}
	return names
}

// rewrite applies the first pattern that changes the repository, the longest
// pattern first.
func (m Mirror) rewrite(repository string) string {
	patterns := slices.SortedFunc(maps.Keys(m.Rewrite), func(a, b string) int {
		return cmp.Or(len(b)-len(a), cmp.Compare(a, b))
	})
	for _, pattern := range patterns {
		re, err := regexp.Compile(pattern)
		if err != nil {
			continue // of a File that was not parsed
		}
		if to := re.ReplaceAllString(repository, m.Rewrite[pattern]); to != repository {
			return to
		}
	}
	return repository
}

func parseEndpoint(text string) (Endpoint, error) {
	full := text
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return Endpoint{}, fmt.Errorf("endpoint %q is no http or https URL", text)
	}
	path := strings.Trim(u.Path, "/")
	prefix, ok := strings.CutPrefix(path+"/", "v2/")
	if path != "" && !ok {
		return Endpoint{}, fmt.Errorf("endpoint %q: a path begins with /v2", text)
	}
	return Endpoint{Host: u.Host, Prefix: strings.Trim(prefix, "/"), Plain: u.Scheme == "http"}, nil
}
