package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/format/registries"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/source"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/mount"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// usbMount is where a stick is looked into.
const usbMount = "/run/kedge/usb"

// A wish is an image that somebody wants on this machine.
type wish struct {
	name     string
	policy   update.Policy
	rate     int64 // bytes per second of a transfer; 0 means no limit
	slotSize int64
	fetched  string // file of what is fetched
	keyring  *update.Keyring

	digest string                               // of the OCI image, once it was pulled
	report func(step string, done, total int64) // nil for nobody
	free   func(dir string) (int64, error)      // bytes of a file system; nil means mount.Free

	// delta fetches only what of an image is not here already, and says no when it
	// leaves all to a download of the whole; nil always does.
	delta func(ctx context.Context, at origin, path string, begin func(size, have int64) error, w io.Writer) (bool, error)
}

// bandwidth returns the limit of a transfer: that of the command, or else that
// of the configuration, which was read without regard to a value that is not
// sound.
func (u *upgrader) bandwidth(flag string) (int64, error) {
	if flag == "" {
		flag = u.policy.Bandwidth
	}
	rate, err := config.ParseBandwidth(flag)
	if err != nil {
		return 0, cli.Usagef("upgrade: --limit: %v", err)
	}
	return rate, nil
}

// open opens the image that is wished for; what lies elsewhere is fetched. Of
// what lies on a stick, one that is admissible is taken; medium is the device
// that this system runs from.
func (wish *wish) open(ctx context.Context, medium string, admissible func(*release.Image) error, w io.Writer) (*os.File, error) {
	kind, err := source.Classify(wish.name, isFile)
	if err != nil {
		return nil, err
	}
	switch kind {
	case source.USB:
		f, from, err := source.Search(ctx, source.System{MountPoint: usbMount}, medium, admissible)
		if err == nil {
			fmt.Fprintf(w, "kedge: upgrade: take %s\n", from)
		}
		return f, err
	case source.Web:
		o := fetch.Options{Keep: true, Pace: &fetch.Pace{Rate: wish.rate}, Limit: wish.most(), Begin: wish.begin(w), Progress: newTransfer(w)}
		if wish.delta != nil {
			if whole, err := wish.delta(ctx, &onWeb{wish.name, o}, wish.fetched, o.Begin, w); err != nil {
				return nil, err
			} else if whole {
				return os.Open(wish.fetched)
			}
		}
		f, err := openNamed(ctx, wish.name, wish.fetched, o)
		switch {
		case !errors.Is(err, fetch.ErrTooLarge):
		case o.Limit < wish.slotSize:
			err = fmt.Errorf("%w: %w", source.ErrRoom, err)
		default:
			err = errors.Join(err, forget(wish.fetched))
		}
		return f, err
	case source.Registry, source.Layout:
		o, err := wish.access()
		if err != nil {
			return nil, err
		}
		o.Begin = wish.begin(w)
		if kind == source.Registry && wish.delta != nil {
			if whole, err := wish.pullDelta(ctx, o, w); err != nil {
				return nil, err
			} else if whole {
				return os.Open(wish.fetched)
			}
		}
		return wish.pull(ctx, o, w)
	}
	return os.Open(wish.name)
}

func isFile(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// access is how the registry or layout of a wish is to be spoken to.
func (wish *wish) access() (o registry.Options, err error) {
	text, err := os.ReadFile(registries.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return o, err
	}
	known, err := registries.Parse(text)
	if err != nil {
		return o, fmt.Errorf("read %s: %w", registries.Path, err)
	}
	o, err = registry.OptionsFor(wish.name, known, os.ReadFile)
	o.Limit = wish.rate
	return o, err
}

// pullDelta brings out of a registry only what of an image is not here.
func (wish *wish) pullDelta(ctx context.Context, o registry.Options, w io.Writer) (bool, error) {
	r, err := registry.Find(ctx, wish.name, runtime.GOARCH, o)
	if err != nil {
		return false, err
	}
	defer r.Close()
	whole, err := wish.delta(ctx, inRegistry{r}, wish.fetched, o.Begin, w)
	if whole && err == nil {
		wish.digest = r.Digest
	}
	return whole, err
}

// pull brings an image out of a registry or layout.
func (wish *wish) pull(ctx context.Context, o registry.Options, w io.Writer) (_ *os.File, err error) {
	// The part will not be what its mark says.
	if err := os.Remove(wish.fetched + fetch.MarkSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.RemoveAll(wish.fetched + partSuffix); err != nil { // it would only take room
		return nil, err
	}
	begin := o.Begin
	tell := newTransfer(w)
	o.Progress = func(done, size int64) {
		tell(done, size)
		if wish.report != nil {
			wish.report("fetch", done, size)
		}
	}
	o.Begin = func(size, have int64) error {
		// A whole file that is here is another image.
		if err := os.Remove(wish.fetched); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return begin(size, have)
	}
	if wish.digest, err = registry.Pull(ctx, wish.name, runtime.GOARCH, wish.fetched, o); err != nil {
		return nil, err
	}
	return os.Open(wish.fetched)
}

// begin asks for room, and tells what an earlier transfer has left, or one that
// was broken off.
func (wish wish) begin(w io.Writer) func(size, have int64) error {
	told := int64(0)
	return func(size, have int64) error {
		if have > told {
			fmt.Fprintf(w, "kedge: fetch: go on after %s\n", install.Bytes(have))
			told = have
		}
		return wish.room(size, have)
	}
}

// room says why an image cannot be fetched.
func (wish wish) room(size, have int64) error {
	if size > wish.slotSize {
		return fmt.Errorf("%w: %d bytes of %d", update.ErrTooLarge, size, wish.slotSize)
	}
	free, err := wish.freeBytes()
	if err != nil {
		return err
	}
	return source.Room(size, have, free)
}

func (wish wish) freeBytes() (int64, error) {
	if wish.free == nil {
		return mount.Free(filepath.Dir(wish.fetched))
	}
	return wish.free(filepath.Dir(wish.fetched))
}

// most is the greatest image that may be fetched when its source tells no size.
// What an earlier transfer has left is gone on with, or makes room.
func (wish wish) most() int64 {
	free, err := wish.freeBytes()
	if err != nil {
		return wish.slotSize
	}
	return max(min(wish.slotSize, free-source.Spare+fetch.Held(wish.fetched)), 1)
}

// forget removes what was fetched to a path, and what is left of tries.
func forget(path string) error {
	return errors.Join(fetch.Forget(path), os.RemoveAll(path+partSuffix))
}

// kept tells whether a transfer that broke has left something to go on with.
func (wish wish) kept() bool { return isFile(wish.fetched+".part") || isFile(wish.fetched+partSuffix) }

// admissible says why an image may not be put on this machine, as far as that
// can be told without reading all of it.
func (u *upgrader) admissible(wish wish, i *release.Image, w io.Writer) error {
	if err := update.Admit(i, u.running, u.state, wish.policy, runtime.GOARCH, wish.slotSize); err != nil {
		return err
	}
	k, err := update.LoadKube(update.KubeFile)
	if err != nil {
		return err
	}
	if err := k.AdmitSystem(i.Manifest.Kubernetes); err != nil {
		return fmt.Errorf("refuse %s %s (%s): %w", i.Manifest.Name, i.Manifest.Version, i.Manifest.ID, err)
	}
	return u.trust(wish.keyring, i, w)
}

// judge says why an image may not be put on this machine, and returns it when it
// may. Nothing is written.
func (u *upgrader) judge(ctx context.Context, wish wish, file *os.File, w io.Writer) (*release.Image, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	i, err := release.Open(file, size)
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", wish.name, err)
	}
	if err := u.admissible(wish, i, w); err != nil {
		return nil, err
	}
	return i, i.Verify(ctx, nil)
}

// admit opens the image that the command names, verifies it, and asks whether
// it may be put on this machine. Nothing is written to a slot before that.
func (u *upgrader) admit(ctx context.Context, env cli.Env, o upgradeOptions) (_ *release.Image, _ io.Closer, err error) {
	if len(env.Args) != 2 {
		return nil, nil, cli.Usagef("upgrade: which image? %s", source.Forms)
	}
	if u.damage != "" {
		return nil, nil, fmt.Errorf("%w: %s", update.ErrState, u.damage)
	}
	wish := wish{name: env.Args[1], policy: o.policy, fetched: upgradeImage, delta: u.fetchDelta, report: u.report}
	if wish.rate, err = u.bandwidth(o.limit); err != nil {
		return nil, nil, err
	}
	if wish.slotSize, err = u.slots.SlotSize(slot.Other(u.running.Slot)); err != nil {
		return nil, nil, err
	}
	if wish.keyring, err = u.keyring(ctx, env.Stderr); err != nil {
		return nil, nil, err
	}
	file, err := wish.open(ctx, u.slots.Medium, func(i *release.Image) error { return u.admissible(wish, i, io.Discard) }, env.Stderr)
	if err != nil {
		return nil, nil, wish.hint(err, time.Now())
	}
	u.digest = wish.digest
	i, err := u.judge(ctx, wish, file, env.Stderr)
	if err != nil {
		file.Close()
		if worthless(err) && file.Name() == wish.fetched {
			err = errors.Join(err, forget(wish.fetched))
		}
		return nil, nil, wish.hint(err, time.Now())
	}
	return i, file, nil
}

// worthless tells whether a fetched image can be of no use to this machine any
// more, whatever is allowed.
func worthless(err error) bool {
	for _, e := range []error{release.ErrDamaged, release.ErrManifest, isoimage.ErrFormat, isoimage.ErrTruncated, fs.ErrNotExist, update.ErrArch, update.ErrSame, update.ErrTooLarge, minisign.ErrSignature, minisign.ErrFormat} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// hint tells the way out when an image cannot be had, or is of no use.
func (wish wish) hint(err error, now time.Time) error {
	clock := source.ClockBehind(err, now)
	kind, _ := source.Classify(wish.name, isFile)
	switch {
	case clock != "":
		return cli.Hint(err, "%s", clock)
	case errors.Is(err, source.ErrRoom):
		return cli.Hint(err, "make room in /var, or bring the image on a stick: \"kedge upgrade apply usb\" reads it from there")
	case errors.Is(err, registry.ErrNotFound):
		return cli.Hint(err, "\"kedge push\" on the host tells the reference, or \"kedge pull\" whether it is there")
	case errors.Is(err, source.ErrForm), errors.Is(err, os.ErrNotExist):
		return cli.Hint(err, "an image is %s", source.Forms)
	case errors.Is(err, source.ErrNoMedium), errors.Is(err, source.ErrNoImage):
		return cli.Hint(err, "write the image to a stick, or copy it as *.iso to the top folder or to kedge/ of one with FAT, ext4 or ISO 9660")
	case errors.Is(err, source.ErrSeveral):
		return cli.Hint(err, "leave the one that is meant on the stick, or mount it and name the file")
	case errors.Is(err, update.ErrArch), errors.Is(err, registry.ErrArch):
		return cli.Hint(err, "this machine takes images for %s", runtime.GOARCH)
	case errors.Is(err, update.ErrTooLarge), errors.Is(err, fetch.ErrTooLarge):
		return cli.Hint(err, "slots get their size at installation: \"kedge install\" the new release instead")
	case errors.Is(err, release.ErrDamaged), errors.Is(err, isoimage.ErrTruncated), errors.Is(err, isoimage.ErrFormat),
		errors.Is(err, release.ErrManifest), errors.Is(err, minisign.ErrSignature), errors.Is(err, minisign.ErrFormat),
		errors.Is(err, fetch.ErrDigest), errors.Is(err, registry.ErrDigest):
		return cli.Hint(err, "bring the image again; \"kedge verify IMAGE --key FILE.pub\" on the host tells whether the original is sound")
	case errors.Is(err, registry.ErrUnauthorized):
		return cli.Hint(err, "configs in %s say as whom: auth with username and password", registries.Path)
	case errors.Is(err, http.ErrSchemeMismatch) && kind == source.Web:
		return cli.Hint(err, "the server speaks plain HTTP: name the image as http://…")
	case errors.As(err, new(x509.UnknownAuthorityError)) && kind == source.Web:
		return cli.Hint(err, "write_files puts the certificate of the authority to trust, as a PEM file, into /etc/ssl/certs")
	case errors.Is(err, http.ErrSchemeMismatch):
		return cli.Hint(err, "the registry speaks plain HTTP: an endpoint http://… of its mirrors in %s allows it", registries.Path)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return cli.Hint(err, "configs in %s name the certificate to trust for a registry: tls with ca_file", registries.Path)
	case wish.kept():
		return cli.Hint(err, "what came so far is kept: the same command goes on with it")
	}
	return err
}
