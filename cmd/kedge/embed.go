package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/host/embed"
)

func embedCommand() *cli.Command {
	var config string
	var show, clear, force bool
	return &cli.Command{
		Name: "embed", Usage: "IMAGE --config FILE | --show | --clear", Short: "change the configuration inside a finished image, in place",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&config, "config", "", "`file` to put into the image")
			fs.BoolVar(&show, "show", false, "print the configuration in the image")
			fs.BoolVar(&clear, "clear", false, "take the configuration out of the image")
			fs.BoolVar(&force, "force", false, "put the file in without validating it")
		},
		Run: func(_ context.Context, env cli.Env) error {
			image, err := oneArgument(env, "an image, such as dist/kedge-amd64.iso")
			if err != nil {
				return err
			}
			chosen := 0
			for _, is := range []bool{config != "", show, clear} {
				if is {
					chosen++
				}
			}
			switch {
			case chosen != 1:
				return cli.Usagef("choose one of --config FILE, --show and --clear")
			case show:
				return showConfig(env, image)
			case clear:
				return imageHint(embed.Clear(image))
			}
			return embedFile(env, image, config, force)
		},
	}
}

func showConfig(env cli.Env, image string) error {
	text, err := embed.Show(image)
	if err != nil {
		return imageHint(err)
	}
	if len(text) == 0 {
		fmt.Fprintln(env.Stderr, "the image has no configuration in it")
		return nil
	}
	_, err = env.Stdout.Write(text)
	return err
}

func embedFile(env cli.Env, image, file string, force bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	problems, err := embed.Set(image, file, text, force)
	for _, p := range problems {
		fmt.Fprintln(env.Stderr, p)
	}
	if errors.Is(err, embed.ErrInvalid) {
		return cli.Hint(err, "mend the file, or put it in as it is with --force: a machine skips what it cannot use")
	}
	return imageHint(err)
}

// imageHint tells the way out of an image that cannot be used as it is.
func imageHint(err error) error {
	switch {
	case errors.Is(err, isoimage.ErrTruncated):
		return cli.Hint(err, "the file is not complete: copy or build it again")
	case errors.Is(err, isoimage.ErrEmbedTooLarge):
		return cli.Hint(err, "large files belong on a web server or in a container image")
	}
	return err
}
