package release

import (
	"errors"
	"fmt"
)

// A Kind says what a release is of.
type Kind string

// The kinds.
const (
	System     Kind = ""           // the whole system: what an image is without another word
	Kubernetes Kind = "kubernetes" // Kubernetes alone, which is put beside a system
)

// schemas are the forms of the manifests by kind. That of Kubernetes alone has
// its own, so that a program that knows of no kinds does not take it for a
// system: nobody vouches for a kernel in it.
var schemas = map[Kind]int{System: Schema, Kubernetes: 2}

// SchemaOf returns the number of the form of a kind's manifest.
func SchemaOf(k Kind) int { return schemas[k] }

// KubePath is where Kubernetes lies in a release of it alone: a squashfs whose
// paths are those of a system's root.
const KubePath = "kedge/kube.squashfs"

// KubePlaces are the files and folders of a system's root that a release of
// Kubernetes alone stands in for, each as a whole.
var KubePlaces = []string{
	"/usr/bin/kube",
	"/usr/bin/runc",
	"/usr/bin/containerd-shim-runc-v2",
	"/usr/libexec/cni",
	"/usr/share/kedge/images",
}

// KubeVersionFile is where a system says which Kubernetes is its own.
const KubeVersionFile = "/usr/lib/kedge/kubernetes"

// ErrKind means that a release is of another kind than was asked for.
var ErrKind = errors.New("wrong kind of release")

// Of says that a release is not of a kind. The error wraps ErrKind.
func (m Manifest) Of(k Kind) error {
	name := map[Kind]string{System: "a whole system", Kubernetes: "Kubernetes alone"}
	if m.Kind != k {
		return fmt.Errorf("%w: %s %s is %s, not %s", ErrKind, m.Name, m.Version, name[m.Kind], name[k])
	}
	return nil
}

func (m Manifest) checkKind() error {
	want, known := schemas[m.Kind]
	switch {
	case !known:
		return fmt.Errorf("%w: kind %q", ErrManifest, m.Kind)
	case m.Schema != want:
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrManifest, m.Schema, want)
	case m.Kind == Kubernetes && m.Kubernetes == "":
		return fmt.Errorf("%w: it does not say which Kubernetes it is", ErrManifest)
	}
	if _, ok := m.File(KubePath); m.Kind == Kubernetes && !ok {
		return fmt.Errorf("%w: nobody vouches for %s", ErrManifest, KubePath)
	}
	return nil
}
