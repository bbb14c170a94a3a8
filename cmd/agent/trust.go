package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/keylist"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/node/source"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// keyFiles are the public keys that an image trusts for what comes after it.
const keyFiles = "/usr/lib/kedge/keys/*.pub"

// keyring opens this machine's keyring. A newer key list that the running
// release brings, or that upgrade.keys_url has, is taken first; that one cannot
// be had is told to w, and the list before it counts.
func (u *upgrader) keyring(ctx context.Context, w io.Writer) (*update.Keyring, error) {
	own := slices.Clone(u.policy.Keys)
	files, _ := filepath.Glob(cmp.Or(u.keyFiles, keyFiles)) // the pattern is sound
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		own = append(own, string(text))
	}
	k, err := update.OpenKeyring(own, update.KeyListFile)
	if errors.Is(err, keylist.ErrList) {
		return nil, cli.Hint(err, "remove it, and take the newest list again: \"kedge upgrade keys FILE|URL\"")
	}
	if err != nil {
		return nil, err
	}
	for _, name := range []string{keylist.ImagePath, u.policy.KeysURL} {
		err := takeKeys(ctx, k, name, w)
		if err != nil && !errors.Is(err, keylist.ErrOlder) && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(w, "kedge: upgrade: WARNING: key list %s is not taken: %v\n", name, err)
		}
	}
	return k, nil
}

// takeKeys takes a key list from a file or URL, and tells that to w. The name ""
// is none.
func takeKeys(ctx context.Context, k *update.Keyring, name string, w io.Writer) error {
	if name == "" {
		return nil
	}
	list, err := readSmall(ctx, name)
	if err != nil {
		return err
	}
	signature, err := readSmall(ctx, signatureOf(name))
	if err != nil {
		return err
	}
	if err := k.Take(list, signature, time.Now()); err != nil {
		return err
	}
	fmt.Fprintf(w, "kedge: upgrade: key list %d is taken from %s\n", k.List.Serial, name)
	return nil
}

// signatureOf returns where the signature of a file or URL is.
func signatureOf(name string) string {
	if u, err := url.Parse(name); err == nil && strings.Contains(name, "://") {
		u.Path += keylist.SignatureSuffix
		return u.String()
	}
	return name + keylist.SignatureSuffix
}

// readSmall reads a key list or its signature from a file or URL.
func readSmall(ctx context.Context, name string) ([]byte, error) {
	if strings.Contains(name, "://") {
		// An upgrade from a stick must not wait long for a network that is not there.
		return fetch.Bytes(ctx, name, fetch.Options{Limit: keylist.MaxSize, Tries: 2, Stall: 10 * time.Second})
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, keylist.MaxSize+1))
	if err == nil && len(b) > keylist.MaxSize {
		err = fmt.Errorf("read %s: larger than %d KiB", name, keylist.MaxSize>>10)
	}
	return b, err
}

// trust says whether somebody whom this machine trusts has signed the image.
func (u *upgrader) trust(k *update.Keyring, i *release.Image, w io.Writer) error {
	comment, err := k.Verify(i, time.Now())
	switch {
	case err == nil:
		fmt.Fprintf(w, "kedge: %s: signed: %s\n", cmp.Or(u.verb, "upgrade"), comment)
		return nil
	case u.policy.AllowUnsigned:
		fmt.Fprintf(w, "kedge: %s: WARNING: %v; taken because unsigned images are allowed\n", cmp.Or(u.verb, "upgrade"), err)
		return nil
	}
	return err
}

// trustImage refuses to install an image that nobody has signed whom the
// configuration trusts, or a system whose keys are keyFiles.
func trustImage(ctx context.Context, i *release.Image, c config.Upgrade, keyFiles string, w io.Writer) error {
	u := &upgrader{policy: c, keyFiles: keyFiles, verb: "install"}
	k, err := u.keyring(ctx, w)
	if err != nil {
		return err
	}
	if err := u.trust(k, i, w); err != nil {
		return fmt.Errorf("refuse to install %s %s (%s): %w", i.Manifest.Name, i.Manifest.Version, i.Manifest.ID, err)
	}
	return nil
}

// keys takes a key list, if one is named, and tells whom this machine trusts.
func (u *upgrader) keys(ctx context.Context, env cli.Env) error {
	if len(env.Args) > 2 {
		return cli.Usagef("upgrade keys: at most one key list: a file or URL")
	}
	k, err := u.keyring(ctx, env.Stderr)
	if err != nil {
		return err
	}
	if len(env.Args) == 2 {
		if err := takeKeys(ctx, k, env.Args[1], env.Stderr); err != nil {
			return keysHint(fmt.Errorf("take key list %s: %w", env.Args[1], err), time.Now())
		}
	}
	for _, line := range describeKeys(k, time.Now()) {
		fmt.Fprintln(env.Stdout, line)
	}
	return nil
}

// describeKeys tells whom a machine trusts, and by which list.
func describeKeys(k *update.Keyring, now time.Time) (lines []string) {
	trusted := k.Trusted(now)
	for _, key := range trusted {
		from := "key list"
		if slices.Contains(k.Own, key) {
			from = "configuration or image"
		}
		lines = append(lines, fmt.Sprintf("Trusted     %s, %s, of the %s", key.ID, key, from))
	}
	if len(trusted) == 0 {
		lines = append(lines, "Trusted     nobody: no release is taken that must be signed")
	}
	for _, id := range k.List.Revoked {
		lines = append(lines, "Revoked     "+strings.ToUpper(id))
	}
	switch l := k.List; {
	case l.Serial == 0:
		lines = append(lines, "Key list    none")
	case l.Expired(now):
		lines = append(lines, fmt.Sprintf("Key list    %d, expired %s: what it revokes stays revoked", l.Serial, l.Expires.UTC().Format(time.DateTime)))
	case l.Expires != nil:
		lines = append(lines, fmt.Sprintf("Key list    %d, expires %s", l.Serial, l.Expires.UTC().Format(time.DateTime)))
	default:
		lines = append(lines, fmt.Sprintf("Key list    %d", l.Serial))
	}
	return lines
}

// keysHint tells the way out when a key list is not taken.
func keysHint(err error, now time.Time) error {
	clock := source.ClockBehind(err, now)
	switch {
	case clock != "":
		return cli.Hint(err, "%s", clock)
	case errors.Is(err, minisign.ErrUnknownKey):
		return cli.Hint(err, "a key that is trusted now has to sign it: \"kedge keys list sign\"; \"kedge upgrade keys\" lists them")
	case errors.Is(err, minisign.ErrSignature), errors.Is(err, minisign.ErrFormat), errors.Is(err, keylist.ErrList):
		return cli.Hint(err, "sign it again with \"kedge keys list sign\", and bring both files")
	case errors.Is(err, keylist.ErrOlder):
		return cli.Hint(err, "every change by \"kedge keys list\" raises the serial number; a list is never taken back, but followed by another")
	case errors.Is(err, keylist.ErrExpired):
		return cli.Hint(err, "\"kedge keys list add FILE --expires DAY\" on the host sets another day, and \"kedge keys list sign\" signs it")
	case errors.Is(err, keylist.ErrNone):
		return cli.Hint(err, "\"kedge keys list add\" puts a key into it")
	case errors.Is(err, fs.ErrNotExist):
		return cli.Hint(err, "a list and its signature stand side by side: keys.json and keys.json%s", keylist.SignatureSuffix)
	}
	return err
}
