package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kedgeos/kedge/hack/powercut/record"
	"github.com/kedgeos/kedge/hack/powercut/replay"
)

// startLimit is how long Kubernetes may take on this machine until a new pod runs.
const startLimit = 10 * time.Minute

// programs are the image's own: kube and what it runs.
var programs = []string{"usr/bin/kube", "usr/bin/runc", "usr/bin/containerd-shim-runc-v2", "usr/libexec/cni", "usr/share/kedge/images"}

// starts starts Kubernetes on the states of n of the cuts, natively and so in
// seconds: that a file system is sound does not say that programs start with what
// a cut has left in it. What only a machine shows, a boot must: boot loader,
// kernel, init and agent.
func (s *sweep) starts(ctx context.Context, cuts []replay.Cut, n int) error {
	cuts = s.choose(cuts, n)
	if s.r.Name != record.Life || len(cuts) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("-start needs root, for mounts and namespaces")
	}
	dir, err := os.MkdirTemp("", "powercut-start-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	jail, err := s.prepare(ctx, dir)
	if err != nil {
		return err
	}
	return s.share(ctx, cuts, func(ctx context.Context, cuts <-chan replay.Cut) error {
		return s.disks(ctx, cuts, func(d disk) error {
			if !d.verdict.Complete { // the judge has told
				return nil
			}
			return s.startOn(ctx, d, jail)
		})
	})
}

// prepare fills a folder with the programs of the image, and returns the command
// that starts them in namespaces of their own.
func (s *sweep) prepare(ctx context.Context, dir string) (jail []string, err error) {
	image, err := filepath.Abs(s.o.image)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "root")
	if err := record.Extract(ctx, image, root, programs...); err != nil {
		return nil, err
	}
	together := filepath.Join(dir, "programs")
	if err := os.Mkdir(together, 0o755); err != nil {
		return nil, err
	}
	for _, pattern := range []string{"usr/bin/*", "usr/libexec/cni/*", "usr/share/kedge/images"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			if err := os.Rename(path, filepath.Join(together, filepath.Base(path))); err != nil {
				return nil, err
			}
		}
	}
	program := filepath.Join(dir, "jail")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./jail")
	build.Dir = "cmd/kube"
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build cmd/kube/jail: %w\n%s", err, out)
	}
	return []string{program, "start", "--programs", together, "--name", record.Host, "--limit", startLimit.String()}, nil
}

// startOn starts Kubernetes on the state of one disk. That it does not come up is
// a fault, not an error.
func (s *sweep) startOn(ctx context.Context, d disk, jail []string) error {
	begin := time.Now()
	said, err := s.inside(ctx, d, jail)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started++
	if err != nil {
		s.bricked++
		say(fmt.Sprintf("%s: FAULT at %s, in %q: Kubernetes does not start: %v", s.r.Name, d.cut, s.phase(d.cut.At), err))
		return nil
	}
	say(fmt.Sprintf("%s: %s, in %q: started in %.0f s (%s)", s.r.Name, d.cut, s.phase(d.cut.At), time.Since(begin).Seconds(), strings.Join(strings.Fields(said), " ")))
	return nil
}

// inside mounts the state of a disk, recovered as a boot does it, and starts
// Kubernetes on it.
func (s *sweep) inside(ctx context.Context, d disk, jail []string) (said string, err error) {
	file, err := d.room.State(ctx, d.image)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "powercut-var-")
	if err != nil {
		return "", err
	}
	defer os.Remove(dir)
	if out, err := exec.CommandContext(ctx, "mount", "-o", "loop,noatime", file, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mount the state: %w: %s", err, out)
	}
	defer func() {
		if out, fault := exec.Command("umount", dir).CombinedOutput(); fault != nil && err == nil {
			err = fmt.Errorf("unmount the state: %w: %s", fault, out)
		}
	}()
	// Interrupted, it takes its namespaces away with it.
	cmd := exec.CommandContext(ctx, jail[0], append(jail[1:], "--var", dir)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return string(out), nil
}
