package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kedgeos/kedge/pkg/format/deb"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// ErrGone means that a locked package is no longer on the mirror.
var ErrGone = errors.New("locked package is gone from the mirror")

// ErrOffline means that a package is not in the cache and may not be fetched.
var ErrOffline = errors.New("package is not in the cache")

// fetchAll brings every package of a lock into the cache. The error wraps
// ErrGone, ErrOffline or fetch.ErrDigest.
func (b *builder) fetchAll(ctx context.Context) error {
	var missing []Locked
	var total, done int64
	for _, p := range b.lock.Packages {
		if info, err := os.Stat(b.cache.deb(p.SHA256)); err != nil || info.Size() != p.Size {
			missing = append(missing, p)
			total += p.Size
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if b.Offline {
		return fmt.Errorf("fetch %s %s: %w", missing[0].Name, missing[0].Version, ErrOffline)
	}
	if err := b.findMirrors(ctx); err != nil {
		return err
	}
	if _, err := b.cache.folder("debs"); err != nil {
		return err
	}
	step := b.step("fetch packages")
	for _, p := range missing {
		err := b.fetch(ctx, p, func(n, _ int64) { step.Bytes(done+n, total) })
		if err != nil {
			return err
		}
		done += p.Size
	}
	step.Done(fmt.Sprintf("%d packages, %s", len(missing), megabytes(total)))
	return nil
}

func (b *builder) findMirrors(ctx context.Context) (err error) {
	switch {
	case b.mirrors.Main != "":
	case b.Mirror != "":
		b.mirrors = MirrorsAt(b.Mirror)
	default:
		b.mirrors, err = FindMirrors(ctx)
	}
	return err
}

func (b *builder) fetch(ctx context.Context, p Locked, progress func(done, size int64)) error {
	url := b.mirrors.base(p.Archive) + "/" + p.Path
	err := finish(b.cache.deb(p.SHA256), func(temporary string) error {
		return fetch.File(ctx, url, temporary, fetch.Options{SHA256: p.SHA256, Limit: p.Size, Progress: progress})
	})
	switch {
	case errors.Is(err, fetch.ErrStatus):
		return fmt.Errorf("fetch %s %s: %w: %w", p.Name, p.Version, ErrGone, err)
	case errors.Is(err, fetch.ErrDigest), errors.Is(err, fetch.ErrTooLarge):
		return fmt.Errorf("fetch %s %s: it is not the file that was locked: %w", p.Name, p.Version, err)
	case err != nil:
		return fmt.Errorf("fetch %s %s: %w", p.Name, p.Version, err)
	}
	return nil
}

// unpack returns the files of a package as an uncompressed tar file in the
// cache. The package's digest is checked whenever it is read.
func (b *builder) unpack(name string) (string, error) {
	p, ok := b.lock.find(name)
	if !ok {
		return "", fmt.Errorf("unpack %s: it is not in the lock", name)
	}
	return b.cache.make("files", NewKey("files").Add(p.SHA256), func(temporary string) error {
		_, sum, err := digest(b.cache.deb(p.SHA256))
		if err != nil {
			return err
		}
		if sum != p.SHA256 {
			os.Remove(b.cache.deb(p.SHA256))
			return fmt.Errorf("unpack %s %s: the file in the cache has sha256 %s, locked is %s; it was removed, build again", p.Name, p.Version, sum, p.SHA256)
		}
		return unpackTo(b.cache.deb(p.SHA256), temporary, p)
	})
}

func unpackTo(file, temporary string, p Locked) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(temporary, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	control, err := deb.Read(in, func(data io.Reader) error {
		_, err := io.Copy(out, data)
		return err
	})
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("unpack %s %s: %w", p.Name, p.Version, err)
	}
	if control["Package"] != p.Name || control["Version"] != p.Version {
		return fmt.Errorf("unpack %s %s: the file is %s %s", p.Name, p.Version, control["Package"], control["Version"])
	}
	return nil
}

// kernelVersion returns what uname -r says for a linux-image package.
func kernelVersion(packageName string) string {
	return strings.TrimPrefix(packageName, "linux-image-")
}
