// Package publish puts finished images into a registry, or into a layout on a
// stick for sites without a network.
//
// It decides what may be published and what the annotations say; the transfer
// itself is pkg/sys/registry's.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// ErrMixed means that images do not make up one release.
var ErrMixed = errors.New("images are not of one release")

// Options change how images are published; the zero value is safe.
type Options struct {
	registry.Options                        // Progress is set by Push
	Step             func(name string) Step // shows what is being done; nil shows nothing
	Warn             func(text string)      // shows what the user should know; nil shows nothing
}

// A Step is under way; it ends with Done or with the next Step.
type Step interface {
	Bytes(done, total int64)
	Done(result string)
}

type quiet struct{}

func (quiet) Bytes(int64, int64) {}
func (quiet) Done(string)        {}

func (o Options) filled() Options {
	if o.Step == nil {
		o.Step = func(string) Step { return quiet{} }
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	return o
}

// Push checks image files against their manifests and puts them under the
// reference, which is one of pkg/sys/registry. It returns the digest that the
// reference now stands for. The error wraps ErrMixed, or is one of opening and
// verifying an image (see pkg/api/release) or of registry.Push; nothing is sent
// unless all images are good.
func Push(ctx context.Context, ref string, files []string, o Options) (digest string, err error) {
	o = o.filled()
	var images []registry.Image
	for _, file := range files {
		i, err := check(ctx, file, o)
		if err != nil {
			return "", err
		}
		images = append(images, i)
	}
	if err := agree(images); err != nil {
		return "", err
	}
	step := o.Step("push")
	var size int64
	o.Progress = func(done, total int64) {
		size = total
		step.Bytes(done, total)
	}
	if digest, err = registry.Push(ctx, ref, images, o.Options); err != nil {
		return "", err
	}
	step.Done(fmt.Sprintf("%.1f MB", float64(size)/1e6))
	return digest, nil
}

// check verifies one image and says what its annotations will be.
func check(ctx context.Context, file string, o Options) (registry.Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return registry.Image{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return registry.Image{}, err
	}
	i, err := release.Open(f, info.Size())
	if err != nil {
		return registry.Image{}, fmt.Errorf("open image %s: %w", file, err)
	}
	m := i.Manifest
	step := o.Step("check " + filepath.Base(file))
	var done int64
	if err := i.Verify(ctx, func(n int64) {
		done += n
		step.Bytes(done, i.Total())
	}); err != nil {
		return registry.Image{}, fmt.Errorf("image %s: %w", file, err)
	}
	step.Done(fmt.Sprintf("%s %s %s", m.Name, m.Version, m.Arch))
	if configured(i) {
		o.Warn(fmt.Sprintf("%s has a configuration in it, which all who can pull the image can read.\nUnless that is meant, take it out: kedge embed %[1]s --clear", file))
	}
	return registry.Image{File: file, Arch: m.Arch, Release: registry.Release{
		Version: m.Version, ID: m.ID, Name: m.Name, Created: created(f),
		Kind: string(m.Kind), Kubernetes: m.Kubernetes, UpgradeFrom: m.UpgradeFrom,
	}}, nil
}

// configured says whether there is anything in the embed area.
func configured(i *release.Image) bool {
	area, err := i.Embedded()
	if err != nil {
		return false
	}
	config, err := isoimage.DecodeEmbed(area)
	return err != nil || len(config) > 0
}

// agree says whether images are one release for several architectures. The
// error wraps ErrMixed.
func agree(images []registry.Image) error {
	seen := map[string]string{}
	for _, i := range images {
		first := images[0]
		if i.Release.Name != first.Release.Name || i.Release.Version != first.Release.Version {
			return fmt.Errorf("%w: %s is %s %s, %s is %s %s", ErrMixed,
				first.File, first.Release.Name, first.Release.Version, i.File, i.Release.Name, i.Release.Version)
		}
		for _, same := range []struct{ what, one, other string }{
			{"kind", first.Release.Kind, i.Release.Kind},
			{"version of Kubernetes", first.Release.Kubernetes, i.Release.Kubernetes},
			{"upgrade_from", first.Release.UpgradeFrom, i.Release.UpgradeFrom},
		} {
			if same.one != same.other {
				return fmt.Errorf("%w: the %s of %s is %q, that of %s is %q", ErrMixed, same.what, first.File, same.one, i.File, same.other)
			}
		}
		if other, ok := seen[i.Arch]; ok {
			return fmt.Errorf("%w: %s and %s are both for %s", ErrMixed, other, i.File, i.Arch)
		}
		seen[i.Arch] = i.File
	}
	return nil
}

// created reads when the image was made, from the primary volume descriptor of
// its file system (ECMA-119, section 8.4.26). It returns RFC 3339, or "" when
// the image does not say.
func created(image io.ReaderAt) string {
	const at, digits = 16*2048 + 813, 14 // the hundredths are left out
	b := make([]byte, digits+3)
	if _, err := image.ReadAt(b, at); err != nil {
		return ""
	}
	quarters := time.Duration(int8(b[digits+2])) // of an hour, east of Greenwich
	t, err := time.ParseInLocation("20060102150405", string(b[:digits]), time.UTC)
	if err != nil {
		return ""
	}
	return t.Add(-quarters * 15 * time.Minute).Format(time.RFC3339)
}
