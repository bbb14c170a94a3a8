package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// Folders of Kubernetes: on the machine's state file system, and where the one
// that was chosen is seen while it runs.
const (
	KubeFolder     = "/var/lib/kedge/kubernetes"
	SnapshotFolder = "/var/lib/kedge/snapshots"
	KubeMount      = "/run/kedge/kubernetes"
)

// Mounts attaches and detaches file systems.
type Mounts interface {
	// Attach makes a part of a file a block device, which goes when it is
	// released and nobody uses it any more.
	Attach(path string, offset, size int64) (device string, err error)
	Release(device string) error
	Mount(mount.Spec) error
	Detach(target string) error
	Table() ([]mount.Mounted, error)
}

// KernelMounts are those of the running kernel.
type KernelMounts struct{}

// Attach implements Mounts.
func (KernelMounts) Attach(path string, offset, size int64) (string, error) {
	return block.AttachPart(path, offset, size)
}

// Release implements Mounts.
func (KernelMounts) Release(device string) error { return block.DetachLoop(device) }

// Mount implements Mounts.
func (KernelMounts) Mount(s mount.Spec) error { return mount.Mount(s) }

// Detach implements Mounts.
func (KernelMounts) Detach(target string) error { return mount.Detach(target) }

// Table implements Mounts.
func (KernelMounts) Table() ([]mount.Mounted, error) { return mount.Table() }

// KubeFiles are the images of Kubernetes on this machine, whole releases, and
// what of them is mounted. It is the KubeStore and, with the snapshots, the
// KubeMachine of this machine.
type KubeFiles struct {
	Dir    string // of the images
	Seen   string // folder where the one in use is mounted
	Moves  string // file with the image for Put, which may be moved away; "" copies
	Mounts Mounts
	Snapshots
}

func (f KubeFiles) path(id string) string { return filepath.Join(f.Dir, id+".img") }

// open returns an image that is kept; the caller closes the file.
func (f KubeFiles) open(path string) (*release.Image, *os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil {
		var i *release.Image
		if i, err = release.Open(file, info.Size()); err == nil {
			if err = i.Manifest.Of(release.Kubernetes); err == nil {
				return i, file, nil
			}
		}
		err = fmt.Errorf("open image %s: %w", path, err)
	}
	file.Close()
	return nil, nil, err
}

// check verifies the image at path, which must have the ID.
func (f KubeFiles) check(ctx context.Context, path, id string) error {
	i, file, err := f.open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if i.Manifest.ID != id {
		return fmt.Errorf("open image %s: %w: its release is %s", path, release.ErrDamaged, i.Manifest.ID)
	}
	return i.Verify(ctx, nil)
}

// Check implements KubeMachine.
func (f KubeFiles) Check(id string) error { return f.check(context.Background(), f.path(id), id) }

// Put implements KubeStore.
func (f KubeFiles) Put(ctx context.Context, i *release.Image, keep ...string) error {
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return err
	}
	if err := f.prune(keep...); err != nil {
		return err
	}
	id := i.Manifest.ID
	if f.Moves != "" {
		err := f.adopt(ctx, id)
		if !errors.Is(err, syscall.EXDEV) {
			return err
		}
	}
	to, err := atomicfile.Create(f.path(id), 0o600)
	if err != nil {
		return err
	}
	defer to.Abort()
	if err := copyAll(ctx, to, i.Reader()); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return err
	}
	if err := f.check(ctx, to.Name(), id); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	return to.Commit()
}

// adopt moves the image that is to be put. One on another file system stays where
// it is.
func (f KubeFiles) adopt(ctx context.Context, id string) error {
	if err := f.check(ctx, f.Moves, id); err != nil {
		return err
	}
	if err := os.Chmod(f.Moves, 0o600); err != nil {
		return err
	}
	return atomicfile.Adopt(f.Moves, f.path(id))
}

// prune deletes the images that are not to be kept, and what is left of those
// that never became whole.
func (f KubeFiles) prune(keep ...string) error {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".img"); !ok || !slices.Contains(keep, id) {
			errs = append(errs, os.Remove(filepath.Join(f.Dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Newest returns the newest version among the images, "" without any.
func (f KubeFiles) Newest() (newest string) {
	paths, _ := filepath.Glob(filepath.Join(f.Dir, "*.img")) // no pattern in the folder's name
	for _, path := range paths {
		i, file, err := f.open(path)
		if err != nil {
			continue
		}
		file.Close()
		if v := i.Manifest.Kubernetes; newest == "" || older(newest, v) {
			newest = v
		}
	}
	return newest
}

// copyAll copies until the end of the source or of ctx.
func copyAll(ctx context.Context, w io.Writer, r io.Reader) error {
	const chunk = 4 << 20
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := io.CopyN(w, r, chunk); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// usedFile says which image is mounted, once all of it is.
func (f KubeFiles) usedFile() string { return f.Seen + ".id" }

// Used returns the ID of the Kubernetes that is mounted, "" for the system's own.
func (f KubeFiles) Used() string {
	b, _ := os.ReadFile(f.usedFile()) // none: the system's own
	return strings.TrimSpace(string(b))
}

// Use makes an image what stands in the places of Kubernetes, or, without an ID,
// what the system itself has there. Programs that run keep the files that they
// run from. No kube runs.
func (f KubeFiles) Use(id string) error {
	if id != "" && f.Used() == id {
		return nil
	}
	if err := f.release(); err != nil || id == "" {
		return err
	}
	if err := f.mount(id); err != nil {
		return errors.Join(fmt.Errorf("mount Kubernetes %s: %w", id, err), f.release())
	}
	return atomicfile.WriteFile(f.usedFile(), []byte(id+"\n"), 0o644)
}

func (f KubeFiles) mount(id string) error {
	i, file, err := f.open(f.path(id))
	if err != nil {
		return err
	}
	defer file.Close()
	at, err := i.Extent(release.KubePath)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.Seen, 0o755); err != nil {
		return err
	}
	device, err := f.Mounts.Attach(f.path(id), at.Offset, at.Size)
	if err != nil {
		return err
	}
	err = f.Mounts.Mount(mount.Spec{Type: "squashfs", Source: device, Target: f.Seen, Options: "ro,nosuid,nodev"})
	// A mounted device stays until nobody uses it any more.
	if err := errors.Join(err, f.Mounts.Release(device)); err != nil {
		return err
	}
	for _, place := range release.KubePlaces {
		from := f.Seen + place
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue // the system's own does
		} else if err != nil {
			return err
		}
		if err := f.Mounts.Mount(mount.Spec{Source: from, Target: place, Options: "bind"}); err != nil {
			return err
		}
	}
	return nil
}

// release takes away whatever was put over the system's own.
func (f KubeFiles) release() error {
	if err := os.Remove(f.usedFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	table, err := f.Mounts.Table()
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(table) {
		if m.Target == f.Seen || slices.Contains(release.KubePlaces, m.Target) {
			if err := f.Mounts.Detach(m.Target); err != nil {
				return err
			}
		}
	}
	return nil
}
