package registry

import (
	"fmt"
	"net"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

type kind int

const (
	inRegistry kind = iota
	folder
	archive
)

// A reference is where an image is or goes to. Tag and digest are "" when they
// were not named.
type reference struct {
	kind        kind
	name        name.Reference // in a registry
	path        string         // of a folder or archive
	tag, digest string
}

func parse(s string, a Access) (reference, error) {
	for prefix, k := range map[string]kind{"oci:": folder, "oci-archive:": archive} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			return parseLayout(k, rest)
		}
	}
	n, err := parseName(s, a)
	if err != nil {
		return reference{}, fmt.Errorf("read reference %q: %w", s, err)
	}
	r := reference{name: n}
	if _, ok := n.(name.Digest); ok {
		r.digest = n.Identifier()
	} else {
		r.tag = n.Identifier()
	}
	return r, nil
}

func parseName(s string, a Access) (name.Reference, error) {
	n, err := name.ParseReference(s)
	if err != nil && !strings.Contains(s, "@") {
		_, err = name.NewTag(s) // which says what is wrong
	}
	if err != nil {
		return nil, err
	}
	if a.Insecure || loopback(hostname(n.Context().RegistryStr())) {
		return name.ParseReference(s, name.Insecure)
	}
	return n, nil
}

func parseLayout(k kind, s string) (reference, error) {
	r := reference{kind: k, path: s}
	if i := strings.LastIndex(s, "@"); i >= 0 && strings.HasPrefix(s[i+1:], "sha256:") {
		h, err := v1.NewHash(s[i+1:])
		if err != nil {
			return r, fmt.Errorf("read reference %q: %w", s, err)
		}
		r.path, r.digest = s[:i], h.String()
	}
	if i := strings.LastIndex(r.path, ":"); i >= 0 && !strings.Contains(r.path[i:], "/") {
		r.path, r.tag = r.path[:i], r.path[i+1:]
	}
	if r.path == "" {
		return r, fmt.Errorf("read reference %q: it names no path", s)
	}
	return r, nil
}

// on returns the same repository, tag or digest on a mirror.
func (r reference) on(m Mirror) (reference, error) {
	separator := ":"
	if r.digest != "" {
		separator = "@"
	}
	repository := m.Repository
	if repository == "" {
		repository = r.name.Context().RepositoryStr()
	}
	return parse(strings.TrimSuffix(m.Name, "/")+"/"+repository+separator+r.name.Identifier(), m.Access)
}

// Split returns the registry, as host or host:port, and the repository that a
// reference names. Host is "" for a layout. The error tells what is wrong with
// the reference.
func Split(ref string) (host, repository string, err error) {
	r, err := parse(ref, Access{})
	if err != nil || r.kind != inRegistry {
		return "", "", err
	}
	return r.name.Context().RegistryStr(), r.name.Context().RepositoryStr(), nil
}

// hostname returns the host of host:port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

// loopback says whether a host is this machine by its very name.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
