package build

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/kedgeos/kedge/pkg/host/rootfs"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// triplet is the name of an architecture in Debian's library folders and
// compilers.
var triplet = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

// buildPrograms builds programs of the recipe and returns their files by name. Go's own
// build cache makes this quick when nothing has changed, so it is always asked.
func (b *builder) buildPrograms(ctx context.Context, programs []Program) (map[string]string, error) {
	files := map[string]string{}
	for _, p := range programs {
		step := b.step("build " + p.Name)
		dir, err := b.cache.folder("programs", b.arch, NewKey("program").Add(b.recipe.path(p.Module), fmt.Sprint(p)).String())
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, p.Name)
		if err := b.buildProgram(ctx, p, file); err != nil {
			return nil, fmt.Errorf("build program %s: %w", p.Name, err)
		}
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		files[p.Name] = file
		step.Done(megabytes(info.Size()))
	}
	return files, nil
}

func (b *builder) buildProgram(ctx context.Context, p Program, file string) error {
	dir := b.recipe.path(p.Module)
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return fmt.Errorf("find its module: %w", err)
	}
	env := []string{"GOOS=linux", "GOARCH=" + b.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0"}
	flags := append([]string{"-s", "-w"}, p.LDFlags...)
	if p.Module == "" { // the programs of others stay the same bytes from release to release
		flags = append(flags, "-X", "github.com/kedgeos/kedge/pkg/api/release.Version="+b.version)
	}
	if p.CGO {
		sysroot, err := b.sysroot()
		if err != nil {
			return err
		}
		env = append(env, cgoEnv(b.arch, sysroot)...)
		// The build ID would tell where the sysroot lies.
		flags = append(flags, "-buildid=", "-linkmode", "external", "-extldflags", "-static")
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", strings.Join(flags, " "), "-o", file}
	if len(p.Tags) > 0 {
		args = append(args, "-tags", strings.Join(p.Tags, ","))
	}
	target := p.Package
	if target == "" {
		target = "."
	}
	err := process.Tool{Path: "go", Args: append(args, target), Dir: dir, Env: env}.Run(ctx)
	if errors.Is(err, process.ErrNotInstalled) && p.CGO {
		return fmt.Errorf("%w (the compiler for %s)", err, b.arch)
	}
	return err
}

// cgoEnv sets the C compiler for an architecture; headers and libraries come
// from the locked packages, not from the build machine.
func cgoEnv(arch, sysroot string) []string {
	cc := triplet[arch] + "-gcc"
	if arch == runtime.GOARCH {
		cc = "gcc"
	}
	lib := filepath.Join(sysroot, "usr/lib", triplet[arch])
	include := filepath.Join(sysroot, "usr/include")
	return []string{
		"CGO_ENABLED=1", "CC=" + cc,
		"CGO_CFLAGS=-O2 -I" + include + " -I" + filepath.Join(include, triplet[arch]),
		"CGO_LDFLAGS=-L" + lib,
		"PKG_CONFIG=pkg-config", "PKG_CONFIG_LIBDIR=" + filepath.Join(lib, "pkgconfig"), "PKG_CONFIG_SYSROOT_DIR=" + sysroot,
	}
}

// sysrootGroup is the group of tool packages that C programs are built with.
const sysrootGroup = "sysroot"

// sysroot unpacks the packages that C programs are built with into a folder.
func (b *builder) sysroot() (string, error) {
	key := NewKey("sysroot")
	tree := rootfs.New()
	for _, p := range b.lock.Packages {
		if forArch(b.recipe.Tools, b.arch)[p.Name] != sysrootGroup {
			continue
		}
		key.Add(p.SHA256)
		file, err := b.unpack(p.Name)
		if err != nil {
			return "", err
		}
		if err := tree.AddTar(file, p.Name, nil); err != nil {
			return "", err
		}
	}
	dir, err := b.cache.folder("sysroot")
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, key.String())
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), ".kedge-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	if err := tree.Extract(temporary, nil); err != nil {
		return "", err
	}
	return dir, os.Rename(temporary, dir)
}

// moduleVersion returns the version of a module linked into a Go program, ""
// when it is not.
func moduleVersion(file, module string) string {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == module {
			if d.Replace != nil {
				return d.Replace.Version
			}
			return d.Version
		}
	}
	return ""
}
