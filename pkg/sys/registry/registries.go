package registry

import (
	"fmt"

	"github.com/kedgeos/kedge/pkg/format/registries"
)

// OptionsFor returns how a reference is pulled under registries.yaml: from which
// mirrors, as whom, with which certificates. Read reads the files that it names.
// A layout needs none of it.
func OptionsFor(ref string, f registries.File, read func(string) ([]byte, error)) (o Options, err error) {
	host, repository, err := Split(ref)
	if err != nil || host == "" {
		return o, err
	}
	if o.Access, err = access(host, f.Config(host), read); err != nil {
		return o, err
	}
	for _, e := range f.Endpoints(host, repository) {
		a, err := access(e.Host, e.Config, read)
		if err != nil {
			return o, err
		}
		a.Insecure = e.Plain
		if e.Host == host && e.Prefix == "" && e.Repository == repository {
			o.Access = a // it says how the registry itself is spoken to
			continue
		}
		m := Mirror{Name: e.Host, Repository: e.Repository, Access: a}
		if e.Prefix != "" {
			m.Name += "/" + e.Prefix
		}
		o.Mirrors = append(o.Mirrors, m)
	}
	return o, nil
}

func access(host string, c registries.Config, read func(string) ([]byte, error)) (a Access, err error) {
	if a.Username, a.Password, err = c.Auth.User(); err != nil {
		return a, fmt.Errorf("%s: configs: %s: auth: %w", registries.Path, host, err)
	}
	a.SkipVerify = c.TLS.InsecureSkipVerify
	for _, f := range []struct {
		key, path string
		to        *[]byte
	}{{"ca_file", c.TLS.CAFile, &a.CA}, {"cert_file", c.TLS.CertFile, &a.Certificate}, {"key_file", c.TLS.KeyFile, &a.Key}} {
		if f.path == "" {
			continue
		}
		if *f.to, err = read(f.path); err != nil {
			return a, fmt.Errorf("%s: configs: %s: tls: %s: %w", registries.Path, host, f.key, err)
		}
	}
	return a, nil
}
