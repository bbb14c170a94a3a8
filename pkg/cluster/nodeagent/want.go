package nodeagent

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

// parts are in the order in which they are upgraded.
var parts = []ask.Part{ask.OS, ask.Kubernetes}

// A want is one part of a target.
type want struct {
	part                   ask.Part
	image, digest, version string
}

func (w want) String() string {
	name := "system"
	if w.part == ask.Kubernetes {
		name = "Kubernetes"
	}
	return name + " " + orElse(w.version, w.image)
}

// wanted returns the parts of a target.
func wanted(t *v1alpha1.Target) (all []want) {
	if t.OS != nil {
		all = append(all, want{ask.OS, t.OS.Image, t.OS.Digest, t.OS.Version})
	}
	if t.Kubernetes != nil {
		all = append(all, want{ask.Kubernetes, t.Kubernetes.Image, t.Kubernetes.Digest, t.Kubernetes.Version})
	}
	return all
}

// is tells whether a release is the one that is wanted: by the digest where both
// are known, else by the version.
func (w want) is(r ask.Release) bool {
	if w.digest != "" && r.Digest != "" {
		return w.digest == r.Digest
	}
	return sameVersion(w.version, r.Version)
}

// wants tells whether a release is that of a part of a target.
func wants(t *v1alpha1.Target, p ask.Part, r ask.Release) bool {
	return slices.ContainsFunc(wanted(t), func(w want) bool { return w.part == p && w.is(r) })
}

// key is by what a request names a release.
func key(r ask.Release) string { return orElse(r.Digest, r.Version) }

// sameVersion ignores a leading v, and that tags have a dash for a plus.
func sameVersion(a, b string) bool {
	plain := func(v string) string { return strings.ReplaceAll(strings.TrimPrefix(v, "v"), "+", "-") }
	return a != "" && plain(a) == plain(b)
}

// minor returns the minor version of Kubernetes 1, or -1.
func minor(version string) int {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 3 || parts[0] != "1" {
		return -1
	}
	n, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}

func version(r ask.Release) *v1alpha1.Version {
	if r.Version == "" && r.Digest == "" {
		return nil
	}
	return &v1alpha1.Version{Version: r.Version, Digest: r.Digest}
}

// with returns a release with one part of it changed; without one, it begins as
// base.
func with(r, base *v1alpha1.Release, p ask.Part, to ask.Release) *v1alpha1.Release {
	if r == nil {
		r = base.DeepCopy()
	}
	if p == ask.OS {
		r.OS = version(to)
	} else {
		r.Kubernetes = version(to)
	}
	return r
}

// stamp is a time as the API keeps it, to the second.
func stamp(t time.Time) *metav1.Time {
	s := metav1.NewTime(t.UTC().Truncate(time.Second))
	return &s
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// limited cuts a text off before max bytes.
func limited(text string, max int) string {
	if len(text) <= max {
		return text
	}
	cut := max - len("…")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
