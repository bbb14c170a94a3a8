// Package registry carries OS images to and from OCI registries and OCI image
// layouts on disk.
//
// An OS image travels as the only layer of an OCI image, byte for byte: the
// digest of the layer is the SHA-256 of the file. Images for several
// architectures stand behind one index. So any registry holds them, and tools
// such as crane and skopeo copy them. The chunk index of an OS image is an
// artifact of its own that refers to the OCI image.
//
// A reference names a repository of a registry (registry.example/os/kedge:v1.4.0,
// or …@sha256:…), a layout folder (oci:DIR or oci:DIR:TAG) or a layout in a tar
// file (oci-archive:FILE or oci-archive:FILE:TAG), as skopeo spells them.
//
// Sizes are bytes. Sources: OCI image format 1.1 (manifest, index, layout,
// annotations, artifacts); OCI distribution 1.1 (referrers); RFC 9110, section 14 (ranges).
package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// LayerType is the media type of the layer that an OS image is.
const LayerType types.MediaType = "application/vnd.kedge.image.v1"

// Annotations of an OCI image that holds an OS image; those of kedgeos are ours.
const (
	IDAnnotation          = "org.kedgeos.release.id"
	kindAnnotation        = "org.kedgeos.release.kind"
	kubernetesAnnotation  = "org.kedgeos.release.kubernetes"
	upgradeFromAnnotation = "org.kedgeos.release.upgrade-from"
	versionAnnotation     = "org.opencontainers.image.version"
	titleAnnotation       = "org.opencontainers.image.title"
	createdAnnotation     = "org.opencontainers.image.created"
	tagAnnotation         = "org.opencontainers.image.ref.name" // in the index of a layout
)

// Errors that callers tell apart; trying again mends none of them.
var (
	ErrNotFound     = errors.New("not found")
	ErrArch         = errors.New("no image for this architecture")
	ErrDigest       = errors.New("content does not match its digest")
	ErrUnauthorized = errors.New("registry refused access")
)

// A Release is what the annotations say of an image.
type Release struct {
	Version string
	ID      string
	Name    string
	Created string // RFC 3339

	Kind        string // "" for a whole system, see pkg/api/release
	Kubernetes  string // its version
	UpgradeFrom string // the versions that it may follow, see pkg/api/release
}

// An Image is an OS image in a file.
type Image struct {
	File    string
	Arch    string // as Go and OCI name it, such as amd64
	Release Release
}

// Access is how one registry is spoken to; the zero value is HTTPS without a
// user.
type Access struct {
	Insecure    bool   // plain HTTP if the registry knows no HTTPS; the loopback address needs no leave
	SkipVerify  bool   // take any certificate
	CA          []byte // PEM certificates to trust besides those of the system
	Certificate []byte // PEM certificate to show, with Key
	Key         []byte // PEM
	Username    string
	Password    string
}

// A Mirror stands in for the registry that a reference names.
type Mirror struct {
	Name       string // host or host:port, and a prefix of its repositories if it has one
	Repository string // what the repository is called there, below the prefix; "" means as in the reference
	Access
}

// Options change how a transfer is done; the zero value is safe. All but
// Progress is for registries only.
type Options struct {
	Access
	Mirrors  []Mirror               // asked in turn by Pull, before the registry itself
	Limit    int64                  // bytes per second; 0 means as many as go
	Tries    int                    // attempts without progress before giving up; 0 means 5
	Delay    time.Duration          // before the second try, doubled up to 30 s; 0 means 1 s
	Stall    time.Duration          // a transfer that moves no byte for so long is broken off; 0 means 30 s to pull, 5 min to push
	Progress func(done, size int64) // called as bytes of OS images move

	// Begin is called by Pull before the first byte is written, and when a transfer
	// that was broken off goes on, with the size of the image and how much of it is
	// there already. An error ends the Pull.
	Begin func(size, have int64) error
}

func (o Options) filled(stall time.Duration) Options {
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.Delay == 0 {
		o.Delay = time.Second
	}
	if o.Stall == 0 {
		o.Stall = stall
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Begin == nil {
		o.Begin = func(int64, int64) error { return nil }
	}
	return o
}

// Final marks an error that trying again does not mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

func temporary(err error) bool {
	var f final
	for _, e := range []error{ErrNotFound, ErrArch, ErrDigest, ErrUnauthorized} {
		if errors.Is(err, e) {
			return false
		}
	}
	return !errors.As(err, &f)
}

// again calls f until it succeeds, fails for good, or has failed o.Tries times
// in a row without progress.
func (o Options) again(ctx context.Context, f func() (progress bool, err error)) error {
	delay := o.Delay
	for tries := o.Tries; ; {
		progress, err := f()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !temporary(err):
			return err
		case progress:
			tries, delay = o.Tries, o.Delay
		}
		if tries--; tries <= 0 && o.Tries > 1 {
			return fmt.Errorf("give up after %d tries: %w", o.Tries, err)
		} else if tries <= 0 {
			return err
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, 30*time.Second)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Push puts the images, one for each architecture, under the reference: as one
// OCI image, or as an index over several. What is there already is not sent
// again. It returns the digest that the reference now stands for. Files are
// read twice and never held in memory.
//
// The error wraps ErrUnauthorized, ErrNotFound when the registry has no such
// repository and makes none, or ErrDigest when a file changed meanwhile.
//
// In a layout an earlier image of the same tag loses the tag, not its bytes;
// without a tag in the reference that of the version is used. An archive is
// written anew.
func Push(ctx context.Context, ref string, images []Image, o Options) (digest string, err error) {
	r, err := parse(ref, o.Access)
	if err != nil {
		return "", err
	}
	if r.digest != "" {
		return "", fmt.Errorf("push %s: the digest comes of the content: name a tag", ref)
	}
	b, err := assemble(ctx, images)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	o = o.filled(5 * time.Minute)
	switch r.kind {
	case folder:
		err = saveFolder(ctx, r, b, o)
	case archive:
		err = saveArchive(ctx, r, b, o)
	default:
		err = upload(ctx, r, b, o)
	}
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	return b.root.Digest.String(), nil
}

// Pull writes the OS image for an architecture to a file and returns the digest
// that the reference stands for, of an index or of an image. While it runs the
// bytes stand in file.part; the file appears only whole and checked. The part
// stays when a transfer breaks, and the next Pull goes on with it. A file that
// is the image already stays as it is. Two at a time must not write the same
// file.
//
// The error wraps ErrNotFound, ErrArch, ErrUnauthorized, or ErrDigest when what
// came is not what the manifest promised; then the part is removed.
func Pull(ctx context.Context, ref, arch, file string, o Options) (digest string, err error) {
	o = o.filled(30 * time.Second)
	sources, err := open(ref, o)
	if err != nil {
		return "", fmt.Errorf("pull %s: %w", ref, err)
	}
	var mirrors string
	for i, s := range sources {
		digest, err = pull(ctx, s, arch, file, o, i == len(sources)-1)
		s.close()
		if err == nil {
			return digest, nil
		}
		if ctx.Err() != nil || errors.As(err, new(writeError)) || errors.As(err, new(refusal)) {
			break
		}
		if i < len(sources)-1 {
			mirrors += fmt.Sprintf(" (mirror %s: %v)", s, err)
		}
	}
	return "", fmt.Errorf("pull %s: %w%s", ref, err, mirrors)
}
