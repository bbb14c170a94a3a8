package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/kedgeos/kedge/pkg/api/channel"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/host/publish"
)

// channelCommand is "kedge channel": the signed document that plans follow.
func channelCommand() *cli.Command {
	return &cli.Command{Name: "channel", Short: "make the signed document that plans can follow", Sub: []*cli.Command{
		channelSetCommand(),
		{Name: "show", Usage: "FILE", Short: "tell what is in a channel", Run: func(_ context.Context, env cli.Env) error {
			file, err := oneArgument(env, "a channel, such as channel.json")
			if err != nil {
				return err
			}
			d, err := publish.ReadChannel(file)
			if errors.Is(err, fs.ErrNotExist) {
				return cli.Hint(err, "\"kedge channel set FILE --os REFERENCE --key KEY.key\" writes the first")
			}
			if err != nil {
				return err
			}
			return showChannel(env.Stdout, file, d)
		}},
	}}
}

func channelSetCommand() *cli.Command {
	var access registryFlags
	var track publish.Track
	var expires, key, password string
	return &cli.Command{
		Name: "set", Usage: "FILE --key KEY.key [flags]", Short: "say what a track names from now on, and sign it",
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&track.Name, "track", "stable", "`name` of the release line")
			f.StringVar(&track.OS, "os", "", "system image, by its `reference` in a registry")
			f.StringVar(&track.Kubernetes, "kubernetes", "", "Kubernetes beside it: a `version`, or the reference of its image")
			f.StringVar(&expires, "expires", "", "`day`, such as 2027-12-31, after which no cluster follows it")
			f.StringVar(&key, "key", "", "secret key `file`")
			f.StringVar(&password, "key-password-file", "", "`file` with the password of the key")
			access.flags(f)
		},
		Run: func(ctx context.Context, env cli.Env) error {
			file, err := oneArgument(env, "a channel, such as channel.json")
			if err != nil {
				return err
			}
			if track.OS == "" && track.Kubernetes == "" {
				return cli.Usagef("channel set: name what the track is to lead to: --os, --kubernetes or both")
			}
			if expires != "" {
				day, err := time.Parse(time.DateOnly, expires)
				if err != nil {
					return cli.Usagef("channel set: --expires: a day such as 2027-12-31 is wanted, not %q", expires)
				}
				day = day.AddDate(0, 0, 1) // the day itself counts
				track.Expires = &day
			}
			secret, err := readSecretKey(key, password)
			if err != nil {
				return err
			}
			o, err := access.options()
			if err != nil {
				return err
			}
			d, err := publish.SetTrack(ctx, file, track, secret, o)
			if err != nil {
				return registryHint(err)
			}
			return showChannel(env.Stdout, file, d)
		},
	}
}

func showChannel(w io.Writer, file string, d channel.Document) error {
	fmt.Fprintf(w, "%s: channel, serial %d\n", file, d.Serial)
	for _, name := range slices.Sorted(maps.Keys(d.Tracks)) {
		t := d.Tracks[name]
		if o := t.OS; o != nil {
			fmt.Fprintf(w, "%s: os %s, with Kubernetes %s: %s\n", name, o.Version, o.Kubernetes, pinned(o.Image, o.Digest))
		}
		if k := t.Kubernetes; k != nil {
			fmt.Fprintf(w, "%s: kubernetes %s", name, k.Version)
			if k.Image != "" {
				fmt.Fprintf(w, ": %s", pinned(k.Image, k.Digest))
			}
			fmt.Fprintln(w)
		}
	}
	if d.Expires != nil {
		fmt.Fprintf(w, "expires: %s\n", d.Expires.UTC().Format(time.RFC3339))
	}
	if _, err := os.Stat(file + channel.SignatureSuffix); err != nil {
		fmt.Fprintf(w, "not signed: \"kedge channel set %s --key FILE …\" signs it\n", file)
	}
	return nil
}
