// Package build turns a recipe into an image: a hybrid ISO file, what it takes
// to boot the same release over the network, and papers that say what is in it.
//
// It needs no rights, no containers and no loop devices. Every input is pinned:
// Debian packages by a lock file beside the recipe, Go code by go.sum. The same
// inputs yield the same bytes; every time in an image is the lock's date, but in
// the initrd it is always the same. What can be made again is kept in a cache.
// Nothing half-written is ever left under its final name. Sizes are bytes.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/host/rootfs"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// Options say what to build; Recipe is required.
type Options struct {
	Recipe          string   // file
	Arch            string   // "" means that of the recipe's first architecture, amd64
	Output          string   // folder; "" means "dist"
	Mirror          string   // address of the Debian archive; "" asks this machine's apt
	Cache           string   // folder; "" means that of the user
	Only            []string // outputs to make, whatever the recipe says; none means the recipe's
	Compression     string   // "release" or "fast"; "" means release
	Version         string   // of the release; "" means that of this tree
	FreshLock       bool     // resolve packages anew instead of reading the lock file
	FreshLockIfGone bool     // the same, but only when a locked package is gone
	Offline         bool     // fetch nothing
	Progress        Progress // nil means Quiet

	Now func() time.Time // dates a fresh lock; nil means time.Now
}

// A Result is what Build made.
type Result struct {
	Manifest release.Manifest
	Files    []string // paths, the image first
}

type builder struct {
	Options
	recipe  *Recipe
	lock    Lock
	arch    string
	version string
	cache   Cache
	mirrors Mirrors
}

// Build makes the image. Errors wrap ErrGone, ErrOffline, ErrNoMirror or
// process.ErrNotInstalled where the user can do something about it.
func Build(ctx context.Context, o Options) (Result, error) {
	b, err := prepare(o)
	if err != nil {
		return Result{}, err
	}
	if err := findTools(); err != nil {
		return Result{}, err
	}
	if err := b.readLock(ctx); err != nil {
		return Result{}, err
	}
	err = b.fetchAll(ctx)
	if errors.Is(err, ErrGone) && b.FreshLockIfGone && !b.FreshLock {
		b.Progress.Warn(fmt.Sprintf("%v; building from a fresh lock that is not written to %s: this image is NOT the locked one", err, b.recipe.LockPath(b.arch)))
		if err = b.freshLock(ctx); err == nil {
			err = b.fetchAll(ctx)
		}
	}
	if err != nil {
		return Result{}, err
	}
	return b.run(ctx)
}

func prepare(o Options) (*builder, error) {
	if o.Progress == nil {
		o.Progress = Quiet{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for value, fallback := range map[*string]string{&o.Arch: "amd64", &o.Output: "dist", &o.Compression: "release", &o.Version: release.Version} {
		if *value == "" {
			*value = fallback
		}
	}
	if !slices.Contains(Architectures, o.Arch) {
		return nil, fmt.Errorf("architecture %q is none of %s", o.Arch, strings.Join(Architectures, ", "))
	}
	if squashfsLevel[o.Compression] == nil {
		return nil, fmt.Errorf("compression %q is neither release nor fast", o.Compression)
	}
	r, err := LoadRecipe(o.Recipe)
	if err != nil {
		return nil, err
	}
	if len(o.Only) > 0 {
		r.Outputs = o.Only
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	if o.Cache == "" {
		if o.Cache, err = DefaultCache(); err != nil {
			return nil, err
		}
	}
	cache, err := filepath.Abs(o.Cache)
	if err != nil {
		return nil, err
	}
	if r.Root, err = filepath.Abs(r.Root); err != nil {
		return nil, err
	}
	return &builder{Options: o, recipe: r, arch: o.Arch, version: o.Version, cache: Cache{cache}}, nil
}

// findTools looks for every program that the build runs, before the work
// begins.
func findTools() error {
	var missing []string
	for _, t := range []string{"go", "mksquashfs", "xorriso", "mformat", "mcopy", "grub-mkimage", "depmod", "zstd"} {
		if _, err := process.Find(t); err != nil {
			missing = append(missing, t)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("find build tools: %w: %s", process.ErrNotInstalled, strings.Join(missing, ", "))
	}
	return nil
}

func (b *builder) readLock(ctx context.Context) (err error) {
	if b.FreshLock {
		return b.freshLock(ctx)
	}
	file := b.recipe.LockPath(b.arch)
	if b.lock, err = ReadLock(file); err != nil {
		return fmt.Errorf("%w: %w", ErrLock, err)
	}
	if err := b.lock.covers(b.recipe, b.arch); err != nil {
		return fmt.Errorf("%w: %s does not fit the recipe: %w", ErrLock, file, err)
	}
	return nil
}

func (b *builder) freshLock(ctx context.Context) error {
	if err := b.findMirrors(ctx); err != nil {
		return err
	}
	step := b.step("resolve packages")
	lock, err := MakeLock(ctx, b.recipe, b.arch, b.mirrors, b.Now())
	if err == nil {
		b.lock = lock
		step.Done(fmt.Sprintf("%d packages", len(lock.Packages)))
	}
	return err
}

// run makes everything once the packages are there.
func (b *builder) run(ctx context.Context) (Result, error) {
	if err := os.MkdirAll(b.Output, 0o755); err != nil {
		return Result{}, err
	}
	if slices.Equal(b.recipe.Outputs, []string{outputKubernetes}) {
		return b.runKubernetes(ctx)
	}
	k, err := b.buildKernel(ctx)
	if err != nil {
		return Result{}, err
	}
	programs, err := b.buildPrograms(ctx, b.recipe.Programs)
	if err != nil {
		return Result{}, err
	}
	images, err := b.buildImages(ctx, programs)
	if err != nil {
		return Result{}, err
	}
	root, err := b.buildRoot(k, programs, images)
	if err != nil {
		return Result{}, err
	}
	initrd, err := b.buildInitrd(ctx, k, root, programs)
	if err != nil {
		return Result{}, err
	}
	squashfs, err := b.buildSquashfs(ctx, "root", root)
	if err != nil {
		return Result{}, err
	}
	tree, verity, err := b.buildVerity(squashfs)
	if err != nil {
		return Result{}, err
	}
	vmlinuz, err := b.buildVmlinuz(ctx, k)
	if err != nil {
		return Result{}, err
	}
	files := map[string]string{release.KernelPath: vmlinuz, release.InitrdPath: initrd, release.RootPath: squashfs, release.VerityPath: tree}
	m, err := b.manifest(k, programs, files, verity)
	if err != nil {
		return Result{}, err
	}
	return b.deliver(ctx, m, parts{k, root, programs, images, files})
}

// buildVmlinuz returns the kernel as it lies in the image. Debian's kernel for
// arm64 is not compressed; GRUB can read it compressed, and the image becomes
// 25 MB smaller.
func (b *builder) buildVmlinuz(ctx context.Context, k kernel) (string, error) {
	compress := b.arch == "arm64"
	key := NewKey("vmlinuz 3").Add(k.digest, fmt.Sprint(compress))
	return b.cache.make("vmlinuz", key, func(temporary string) error {
		return copyKernel(ctx, k.image, temporary, compress)
	})
}

// copyKernel writes the kernel, compressed where it does not unpack itself. GRUB
// unpacks what the program gzip makes, but not what compress/gzip does ("failed
// in building a Huffman code table").
func copyKernel(ctx context.Context, c rootfs.Content, file string, compress bool) error {
	r, err := c.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if !compress {
		if _, err := io.Copy(f, r); err != nil {
			return err
		}
		return f.Close()
	}
	err = process.Tool{Path: "gzip", Args: []string{"-9", "-n", "-c"}, Stdin: r, Stdout: f}.Run(ctx)
	return errors.Join(err, f.Close())
}

// largeFiles are those of the image that are made outside of it.
var largeFiles = []string{release.KernelPath, release.InitrdPath, release.RootPath, release.VerityPath}

func (b *builder) manifest(k kernel, programs, files map[string]string, v release.Verity) (release.Manifest, error) {
	m := release.Manifest{Schema: release.Schema, Name: b.recipe.Name, Version: b.version, Arch: b.arch, Kernel: k.version, Kubernetes: b.kubeVersion(programs), UpgradeFrom: b.recipe.From, Verity: &v}
	for _, path := range largeFiles {
		size, sum, err := digest(files[path])
		if err != nil {
			return m, err
		}
		m.Files = append(m.Files, release.File{Path: path, Size: size, SHA256: sum})
	}
	m.ID = m.ComputeID()
	return m, nil
}
