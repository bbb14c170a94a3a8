package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/host/build"
	"github.com/kedgeos/kedge/pkg/host/delta"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

func buildCommand() *cli.Command {
	var o build.Options
	var old string
	return &cli.Command{
		Name: "build", Usage: "RECIPE [flags]", Short: "build an image from a recipe",
		Flags: func(fs *flag.FlagSet) {
			archFlag(fs, &o.Arch)
			fs.StringVar(&o.Output, "output", "dist", "`folder` for what is built")
			fs.StringVar(&o.Mirror, "mirror", "", "`URL` of the Debian archive (default: that of this machine's apt)")
			fs.StringVar(&o.Cache, "cache", "", "`folder` of the cache (default: kedge in the user's cache folder)")
			fs.StringVar(&o.Version, "release", "", "`version` of the release (default: "+release.Version+")")
			fs.StringVar(&o.Compression, "compression", "release", "release (small, takes minutes) or fast")
			fs.Func("only", "make this `output` alone: iso, netboot, sbom or kubernetes; may be given again", func(s string) error {
				o.Only = append(o.Only, s)
				return nil
			})
			fs.BoolVar(&o.FreshLock, "fresh-lock", false, "resolve the packages anew, without touching the lock file")
			fs.BoolVar(&o.FreshLockIfGone, "fresh-lock-if-gone", false, "the same, only when a locked package is gone from the mirror")
			fs.BoolVar(&o.Offline, "offline", false, "fetch no packages")
			fs.StringVar(&old, "delta-from", "", "older `image`: say what a machine with it must fetch")
		},
		Run: func(ctx context.Context, env cli.Env) (err error) {
			if o.Recipe, err = oneArgument(env, "a recipe, such as images/edge.yaml"); err != nil {
				return err
			}
			var known delta.Known
			if old != "" { // read first: it may have the name of the new one
				if known, err = delta.Read(old); err != nil {
					return imageHint(err)
				}
			}
			progress := newProgress(env.Stderr)
			defer progress.end()
			o.Progress = progress
			result, err := build.Build(ctx, o)
			if err != nil {
				return hint(err, o.Recipe, o.Arch)
			}
			progress.end()
			for _, f := range result.Files {
				fmt.Fprintln(env.Stdout, f)
			}
			if old != "" {
				return printDelta(env.Stderr, known, result.Files[0], topParts)
			}
			return nil
		},
	}
}

func archFlag(fs *flag.FlagSet, arch *string) {
	fs.StringVar(arch, "arch", "amd64", "architecture of the machines: "+strings.Join(build.Architectures, " or "))
}

func oneArgument(env cli.Env, what string) (string, error) {
	if len(env.Args) != 2 {
		return "", cli.Usagef("name %s", what)
	}
	return env.Args[1], nil
}

// hint adds the way out to the errors that have one.
func hint(err error, recipe, arch string) error {
	lock := fmt.Sprintf("kedge lock %s --arch %s", recipe, arch)
	switch {
	case errors.Is(err, build.ErrGone):
		return cli.Hint(err, "mirrors drop old versions: %q writes a new lock file, --fresh-lock-if-gone builds without one", lock)
	case errors.Is(err, build.ErrLock), errors.Is(err, fetch.ErrDigest):
		return cli.Hint(err, "%q writes a new lock file", lock)
	case errors.Is(err, build.ErrOffline):
		return cli.Hint(err, "build once without --offline")
	case errors.Is(err, build.ErrNoMirror):
		return cli.Hint(err, "name one: --mirror http://…/debian")
	case errors.Is(err, process.ErrNotInstalled):
		return cli.Hint(err, "on Debian %q installs all that is needed", "make deps")
	case errors.Is(err, syscall.ENOSPC):
		return cli.Hint(err, "the disk is full: make room, or name other folders with --output, --cache and TMPDIR")
	case errors.Is(err, fs.ErrPermission):
		return cli.Hint(err, "name folders you may write to with --output, --cache and TMPDIR")
	}
	return err
}
