package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/host/build"
)

func lockCommand() *cli.Command {
	var arch, mirror string
	return &cli.Command{
		Name: "lock", Usage: "RECIPE [flags]", Short: "pin the Debian packages of a recipe to what the archive has now",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&arch, "arch", "", "one `architecture` only (default: all)")
			fs.StringVar(&mirror, "mirror", "", "`URL` of the Debian archive (default: that of this machine's apt)")
		},
		Run: func(ctx context.Context, env cli.Env) error {
			recipe, err := oneArgument(env, "a recipe, such as images/edge.yaml")
			if err != nil {
				return err
			}
			archs := build.Architectures
			if arch != "" {
				archs = []string{arch}
			}
			for _, a := range archs {
				file, changes, err := build.WriteLock(ctx, recipe, a, mirror)
				if err != nil {
					return hint(err, recipe, a)
				}
				for _, c := range changes {
					fmt.Fprintln(env.Stderr, c)
				}
				fmt.Fprintln(env.Stdout, file)
			}
			return nil
		},
	}
}
