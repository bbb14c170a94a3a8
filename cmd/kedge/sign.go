package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/host/sign"
)

// passwordFlag takes the password of a secret key from a file: a command line
// can be read by others.
func passwordFlag(f *flag.FlagSet, file *string) {
	f.StringVar(file, "password-file", "", "`file` with the key's password (default: the key is not encrypted)")
}

func readPassword(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(b, "\r\n"), nil
}

func keysCommand() *cli.Command {
	var password string
	return &cli.Command{Name: "keys", Short: "make keys that sign images, and the list of those that machines trust", Sub: []*cli.Command{{
		Name: "new", Usage: "NAME", Short: "write NAME.key, which signs, and NAME.pub, which machines trust",
		Flags: func(f *flag.FlagSet) { passwordFlag(f, &password) },
		Run: func(_ context.Context, env cli.Env) error {
			name, err := oneArgument(env, "the files, such as release-2026: two are made, NAME.key and NAME.pub")
			if err != nil {
				return err
			}
			secret, err := readPassword(password)
			if err != nil {
				return err
			}
			public, err := sign.NewKey(name, secret)
			if errors.Is(err, fs.ErrExist) {
				return cli.Hint(err, "a key is never overwritten: choose another name")
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "%s.key: keep it secret, and a copy of it safe\n%s.pub: %s\n", name, name, public)
			return err
		},
	}, keyListCommand()}}
}

func signCommand() *cli.Command {
	var keyFile, password string
	return &cli.Command{
		Name: "sign", Usage: "IMAGE --key FILE", Short: "sign a finished image, in place",
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&keyFile, "key", "", "secret key `file`, as \"kedge keys new\" or minisign writes it")
			passwordFlag(f, &password)
		},
		Run: func(ctx context.Context, env cli.Env) error {
			image, err := oneArgument(env, "an image, such as dist/kedge-amd64.iso")
			if err != nil {
				return err
			}
			key, err := readSecretKey(keyFile, password)
			if err != nil {
				return err
			}
			if err := sign.Sign(ctx, image, key); err != nil {
				return imageHint(err)
			}
			_, err = fmt.Fprintf(env.Stdout, "%s: signed with key %s\n", image, key.Public().ID)
			return err
		},
	}
}

func verifyCommand() *cli.Command {
	var files []string
	return &cli.Command{
		Name: "verify", Usage: "IMAGE --key FILE.pub", Short: "check an image's signature and all its files",
		Flags: func(f *flag.FlagSet) {
			f.Func("key", "public key `file`; may be given again", func(s string) error {
				files = append(files, s)
				return nil
			})
		},
		Run: func(ctx context.Context, env cli.Env) error {
			image, err := oneArgument(env, "an image, such as dist/kedge-amd64.iso")
			if err != nil {
				return err
			}
			if len(files) == 0 {
				return cli.Usagef("verify: --key FILE.pub is needed: whose signature should it be?")
			}
			keys, err := sign.ReadKeys(files)
			if err != nil {
				return err
			}
			m, comment, err := sign.Verify(ctx, image, keys)
			if errors.Is(err, release.ErrUnsigned) || errors.Is(err, release.ErrPartial) {
				return cli.Hint(err, "\"kedge sign %s --key FILE\" signs it", image)
			}
			if err != nil {
				return imageHint(err)
			}
			_, err = fmt.Fprintf(env.Stdout, "%s: good: %s %s %s, id %s\nsigned: %s\n", image, m.Name, m.Version, m.Arch, m.ID, comment)
			return err
		},
	}
}
