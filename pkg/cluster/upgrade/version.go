package upgrade

import (
	"strings"

	"golang.org/x/mod/semver"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// canonical returns a version as golang.org/x/mod/semver reads it, or "".
func canonical(v string) string {
	if v = "v" + strings.TrimPrefix(v, "v"); semver.IsValid(v) {
		return v
	}
	return ""
}

// older compares versions as semver.org says; one of another form is never
// older.
func older(a, b string) bool {
	a, b = canonical(a), canonical(b)
	return a != "" && b != "" && semver.Compare(a, b) < 0
}

// sameVersion ignores a leading v and build metadata written with a dash, as in
// the tag of an image.
func sameVersion(a, b string) bool {
	plain := func(v string) string { return strings.ReplaceAll(strings.TrimPrefix(v, "v"), "+", "-") }
	return a != "" && plain(a) == plain(b)
}

// minor returns the minor version of Kubernetes 1, or -1.
func minor(version string) int {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(version, "v"), "1.")
	if !ok {
		return -1
	}
	n := 0
	for i := 0; i < len(rest); i++ {
		if rest[i] == '.' && i > 0 {
			return n
		}
		if rest[i] < '0' || rest[i] > '9' || i > 3 {
			return -1
		}
		n = 10*n + int(rest[i]-'0')
	}
	if rest == "" {
		return -1
	}
	return n
}

// kubernetes returns the version of Kubernetes that a target brings, or "".
func kubernetes(t *v1alpha1.Target) string {
	switch {
	case t.Kubernetes != nil:
		return t.Kubernetes.Version
	case t.OS != nil:
		return t.OS.KubernetesVersion
	}
	return ""
}

// kubernetesWith returns the version of Kubernetes that a node has with a target,
// or "". What was put beside its system stays when another system brings an older
// one.
func (m *machine) kubernetesWith(t *v1alpha1.Target) string {
	version := kubernetes(t)
	if r := m.say.Running; t.Kubernetes == nil && r != nil && r.Kubernetes != nil && r.Kubernetes.Digest != "" && older(version, r.Kubernetes.Version) {
		return r.Kubernetes.Version
	}
	return version
}

// targetText is a target for people.
func targetText(t *v1alpha1.Target) string {
	var parts []string
	if t.OS != nil {
		version := t.OS.Version
		if version == "" {
			version = t.OS.Image
		}
		parts = append(parts, "os "+version)
	}
	if t.Kubernetes != nil {
		parts = append(parts, "kubernetes "+t.Kubernetes.Version)
	}
	return strings.Join(parts, ", ")
}

// sameTarget tells whether two targets are one.
func sameTarget(a, b *v1alpha1.Target) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a == b {
		return true
	}
	if (a.OS == nil) != (b.OS == nil) || (a.Kubernetes == nil) != (b.Kubernetes == nil) {
		return false
	}
	// A channel that names the same release in a later document changes nothing.
	return (a.OS == nil || a.OS.Digest == b.OS.Digest) && (a.Kubernetes == nil || *a.Kubernetes == *b.Kubernetes)
}

// fits tells whether a release is what a target means. Digests decide where both
// are known, else versions. Kubelet is the node's, for a release that does not
// name its Kubernetes.
func fits(r *v1alpha1.Release, t *v1alpha1.Target, kubelet string) bool {
	one := func(v *v1alpha1.Version, digest, version string) bool {
		if v == nil {
			return false
		}
		if v.Digest != "" && digest != "" {
			return v.Digest == digest
		}
		return sameVersion(v.Version, version)
	}
	if t.OS != nil && (r == nil || !one(r.OS, t.OS.Digest, t.OS.Version)) {
		return false
	}
	if t.Kubernetes == nil {
		return true
	}
	if r == nil || r.Kubernetes == nil {
		return sameVersion(kubelet, t.Kubernetes.Version)
	}
	return one(r.Kubernetes, t.Kubernetes.Digest, t.Kubernetes.Version)
}
