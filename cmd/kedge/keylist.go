package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/kedgeos/kedge/pkg/api/keylist"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/host/sign"
)

// keyListCommand is "kedge keys list": the list by which machines learn of new
// keys and of revoked ones.
func keyListCommand() *cli.Command {
	var o keyListOptions
	expires := func(f *flag.FlagSet) {
		f.StringVar(&o.expires, "expires", "", "`day`, such as 2027-12-31, after which its keys are trusted no more, or never (default: as it is)")
	}
	return &cli.Command{Name: "list", Short: "make the list by which machines learn whom to trust", Sub: []*cli.Command{
		{
			Name: "new", Usage: "FILE [KEY.pub…]", Short: "write the first list, such as keys.json",
			Flags: func(f *flag.FlagSet) {
				f.StringVar(&o.expires, "expires", "", "`day`, such as 2027-12-31, after which its keys are trusted no more (default: never)")
			},
			Run: func(_ context.Context, env cli.Env) error { return o.create(env) },
		},
		{
			Name: "add", Usage: "FILE [KEY.pub…]", Short: "let machines trust more keys, or the same for longer",
			Flags: expires,
			Run: func(_ context.Context, env cli.Env) error {
				return o.change(env, "a list and public key files", func(l *keylist.List, names []string) error {
					keys, err := sign.ReadKeys(names)
					if err != nil {
						return err
					}
					return sign.AddKeys(l, keys)
				})
			},
		},
		{
			Name: "revoke", Usage: "FILE KEY.pub|ID…", Short: "take keys away from machines, those in their images too",
			Flags: expires,
			Run: func(_ context.Context, env cli.Env) error {
				return o.change(env, "a list and keys, by file or ID", func(l *keylist.List, names []string) error {
					var ids []minisign.KeyID
					for _, name := range names {
						id, err := sign.KeyID(name)
						if err != nil {
							return err
						}
						ids = append(ids, id)
					}
					return sign.RevokeKeys(l, ids)
				})
			},
		},
		{
			Name: "sign", Usage: "FILE --key KEY.key", Short: "sign a list with a key that machines trust already",
			Flags: func(f *flag.FlagSet) {
				f.StringVar(&o.key, "key", "", "secret key `file`")
				passwordFlag(f, &o.password)
			},
			Run: func(_ context.Context, env cli.Env) error { return o.sign(env) },
		},
		{
			Name: "show", Usage: "FILE", Short: "tell what is in a list",
			Run: func(_ context.Context, env cli.Env) error {
				file, err := oneArgument(env, "a list, such as keys.json")
				if err != nil {
					return err
				}
				l, err := sign.ReadList(file)
				if err != nil {
					return err
				}
				return showList(env.Stdout, file, l)
			},
		},
	}}
}

type keyListOptions struct{ expires, key, password string }

func (o keyListOptions) create(env cli.Env) error {
	if len(env.Args) < 2 {
		return cli.Usagef("keys list new: name a file, such as keys.json, and public key files")
	}
	expires, err := o.expiry(nil)
	if err != nil {
		return err
	}
	keys, err := sign.ReadKeys(env.Args[2:])
	if err != nil {
		return err
	}
	l, err := sign.NewList(env.Args[1], keys, expires)
	if errors.Is(err, fs.ErrExist) {
		return cli.Hint(err, "a list is never overwritten, since its serial number would start again: \"kedge keys list add\" or \"revoke\" changes it")
	}
	if err != nil {
		return err
	}
	return showList(env.Stdout, env.Args[1], l)
}

// expiry returns when a list expires that did so at before, nil for never.
func (o keyListOptions) expiry(before *time.Time) (*time.Time, error) {
	switch o.expires {
	case "":
		return before, nil
	case "never":
		return nil, nil
	}
	day, err := time.Parse(time.DateOnly, o.expires)
	if err != nil {
		return nil, cli.Usagef("keys list: --expires: a day such as 2027-12-31 is wanted, or never, not %q", o.expires)
	}
	day = day.AddDate(0, 0, 1) // the day itself counts
	return &day, nil
}

func (o keyListOptions) change(env cli.Env, want string, change func(l *keylist.List, names []string) error) error {
	// A list may be renewed and keep its keys.
	if len(env.Args) < 2 || len(env.Args) == 2 && o.expires == "" {
		return cli.Usagef("keys list: name %s", want)
	}
	if _, err := o.expiry(nil); err != nil {
		return err
	}
	l, err := sign.ChangeList(env.Args[1], func(l *keylist.List) (err error) {
		if l.Expires, err = o.expiry(l.Expires); err != nil {
			return err
		}
		return change(l, env.Args[2:])
	})
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Hint(err, "\"kedge keys list new FILE\" writes the first list")
	}
	if err != nil {
		return err
	}
	return showList(env.Stdout, env.Args[1], l)
}

func (o keyListOptions) sign(env cli.Env) error {
	file, err := oneArgument(env, "a list, such as keys.json")
	if err != nil {
		return err
	}
	key, err := readSecretKey(o.key, o.password)
	if err != nil {
		return err
	}
	l, err := sign.SignList(file, key)
	if err != nil {
		return err
	}
	if l.Revokes(key.Public().ID) {
		fmt.Fprintf(env.Stderr, "kedge: the list revokes the key that signs it: only machines that still trust that key take it\n")
	}
	_, err = fmt.Fprintf(env.Stdout, "%s%s: key list %d, signed with key %s\n", file, keylist.SignatureSuffix, l.Serial, key.Public().ID)
	return err
}

// readSecretKey reads the key that signs.
func readSecretKey(file, password string) (minisign.SecretKey, error) {
	if file == "" {
		return minisign.SecretKey{}, cli.Hint(cli.Usagef("sign: --key FILE is needed"), "\"kedge keys new NAME\" makes one")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return minisign.SecretKey{}, err
	}
	secret, err := readPassword(password)
	if err != nil {
		return minisign.SecretKey{}, err
	}
	key, err := minisign.ParseSecretKey(text, secret)
	if errors.Is(err, minisign.ErrEncrypted) {
		return key, cli.Hint(fmt.Errorf("read %s: %w", file, err), "--password-file FILE gives the password")
	}
	if err != nil {
		return key, fmt.Errorf("read %s: %w", file, err)
	}
	return key, nil
}

func showList(w io.Writer, file string, l keylist.List) error {
	fmt.Fprintf(w, "%s: key list %d\n", file, l.Serial)
	for _, text := range l.Keys {
		key, err := minisign.ParsePublicKey(text)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "trusted: %s %s\n", key.ID, key)
	}
	for _, id := range l.Revoked {
		fmt.Fprintf(w, "revoked: %s\n", id)
	}
	if l.Expires != nil {
		fmt.Fprintf(w, "expires: %s\n", l.Expires.UTC().Format(time.RFC3339))
	}
	if l.Expired(time.Now()) {
		fmt.Fprintf(w, "expired: no machine takes it; \"kedge keys list add %s --expires DAY\" renews it\n", file)
	}
	if _, err := os.Stat(file + keylist.SignatureSuffix); err != nil {
		fmt.Fprintf(w, "not signed: \"kedge keys list sign %s --key FILE\" signs it\n", file)
	}
	return nil
}
