package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Programs is a folder with kube and what it runs, and one with image files.
type Programs struct {
	Dir    string
	Images string
}

// A program is built from the folder module, relative to this module's root.
type program struct {
	name, module, pkg, tags, ldflags string
	cgo                              bool
}

const stripped = "-s -w"

// programs must be built as images/edge.yaml says; the versions are those of
// the go.mod files.
var programs = []program{
	{name: "kube", module: ".", pkg: ".", tags: "no_btrfs no_zfs no_devmapper no_openssl grpcnotrace", ldflags: stripped +
		" -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3" +
		" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36" +
		" -X github.com/containerd/containerd/v2/version.Version=2.3.7"},
	{name: "runc", module: "../../images/runc", pkg: "github.com/opencontainers/runc", tags: "seccomp netgo osusergo", ldflags: stripped + " -linkmode external -extldflags -static", cgo: true},
	{name: "containerd-shim-runc-v2", module: "../../images/cni", pkg: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"},
	{name: "bridge", module: "../../images/cni", pkg: "github.com/containernetworking/plugins/plugins/main/bridge"},
	{name: "host-local", module: "../../images/cni", pkg: "github.com/containernetworking/plugins/plugins/ipam/host-local"},
	{name: "loopback", module: "../../images/cni", pkg: "github.com/containernetworking/plugins/plugins/main/loopback"},
	{name: "portmap", module: "../../images/cni", pkg: "github.com/containernetworking/plugins/plugins/meta/portmap"},
	{name: "coredns", module: "../../images/coredns", pkg: "."},
	{name: "pause", module: "../../images/pause", pkg: "."},
}

// images are made of one program each; the names are those that kube's pods
// ask for.
var images = []struct{ program, name string }{
	{"coredns", "kedge.local/coredns:v1.15.0"},
	{"pause", "kedge.local/pause:v1"},
}

// build fills dir with programs and dir/images with image files. It runs in
// the root of the module.
func build(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "images"), 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		fmt.Fprintln(os.Stderr, "build", p.name)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", p.tags, "-ldflags", p.flags(), "-o", filepath.Join(dir, p.name), p.pkg)
		cmd.Dir = p.module
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+map[bool]string{false: "0", true: "1"}[p.cgo])
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", p.name, err)
		}
	}
	for _, i := range images {
		if err := writeImage(filepath.Join(dir, "images", i.program+".tar"), i.name, filepath.Join(dir, i.program)); err != nil {
			return fmt.Errorf("make image %s: %w", i.name, err)
		}
	}
	return nil
}

func (p program) flags() string {
	if p.ldflags == "" {
		return stripped
	}
	return p.ldflags
}
