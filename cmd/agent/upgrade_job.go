package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/release"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/registries"
	"github.com/kedgeos/kedge/pkg/node/job"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// planVersion is where rancher/system-upgrade-controller tells a job the version
// that its plan means.
const planVersion = "SYSTEM_UPGRADE_PLAN_LATEST_VERSION"

// jobCommand is what runs in a container of an image: an image has this program
// for its entry point, see pkg/sys/registry.
func jobCommand() *cli.Command {
	var j job.Job
	var kubernetes bool
	var host string
	return &cli.Command{Name: "job", Usage: "[flags] IMAGE", Short: "upgrade this machine from a container on it, as a Job of rancher/system-upgrade-controller does", Flags: func(fs *flag.FlagSet) {
		fs.BoolVar(&kubernetes, "kubernetes", false, "the image is Kubernetes alone")
		fs.BoolVar(&j.Prepare, "prepare", false, "only have it on the disk")
		fs.BoolVar(&j.Downgrade, "allow-downgrade", false, "take an older version too")
		fs.StringVar(&host, "host", "/host", "`folder` that the root of the machine is mounted at")
	}, Run: func(ctx context.Context, env cli.Env) error {
		if len(env.Args) != 2 {
			return cli.Usagef("upgrade job: which image? REGISTRY/NAME:TAG; without a tag it is that of $%s", planVersion)
		}
		image, err := jobImage(env.Args[1], os.Getenv(planVersion))
		if err != nil {
			return err
		}
		kind := release.System
		if j.Part = ask.OS; kubernetes {
			j.Part, kind = ask.Kubernetes, release.Kubernetes
		}
		found, err := jobLookUp(ctx, &j, host, image)
		if err != nil {
			return err
		}
		if release.Kind(found.Kind) != kind {
			return cli.Hint(fmt.Errorf("%s: %w", image, release.ErrKind), "--kubernetes is for Kubernetes alone, and only for that")
		}
		j.Agent = ask.Client{Socket: filepath.Join(host, ask.Path)}
		j.Say = func(format string, args ...any) { fmt.Fprintf(env.Stdout, "kedge: upgrade: "+format+"\n", args...) }
		err = j.Run(ctx)
		if errors.Is(err, ask.ErrNoAgent) {
			return cli.Hint(err, "the root of a machine with Kedge must be mounted at %s", host)
		}
		return err
	}}
}

// jobImage adds the tag that a plan means to an image without one.
func jobImage(image, version string) (string, error) {
	last := image[strings.LastIndexByte(image, '/')+1:]
	switch {
	case strings.ContainsAny(last, ":@"):
		return image, nil
	case version == "":
		return "", cli.Usagef("upgrade job: %s has no tag, and $%s is not set", image, planVersion)
	}
	return image + ":" + strings.ReplaceAll(version, "+", "-"), nil
}

// jobLookUp finds out what the image is, by the registries.yaml of the machine.
func jobLookUp(ctx context.Context, j *job.Job, host, image string) (found registry.Release, err error) {
	read := func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(host, path)) }
	text, err := read(registries.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	known, err := registries.Parse(text)
	if err != nil {
		return found, fmt.Errorf("read %s: %w", registries.Path, err)
	}
	o, err := registry.OptionsFor(image, known, read)
	if err != nil {
		return found, err
	}
	j.Image.Name = image
	if j.Image.Digest, found, err = registry.Describe(ctx, image, o); err != nil {
		return found, err
	}
	if j.Version = found.Version; j.Part == ask.Kubernetes {
		j.Version = found.Kubernetes
	}
	return found, j.Image.Check()
}
