package update

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/kedgeos/kedge/pkg/api/keylist"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// KeyListFile is where the newest key list that this machine took is kept. Its
// signature was checked when it was taken.
const KeyListFile = "/var/lib/kedge/keys.json"

// ErrRevoked means that the key that signed is trusted no more.
var ErrRevoked = errors.New("signed by a revoked key")

// A Keyring says whose signature counts on this machine; see pkg/api/keylist
// for the rule.
type Keyring struct {
	Own  []minisign.PublicKey // of the configuration and the image
	List keylist.List         // zero for none

	path string
}

// OpenKeyring reads the machine's own keys, each the text of a public key file
// or its second line, and the key list at path, if there is one.
func OpenKeyring(own []string, path string) (*Keyring, error) {
	k := &Keyring{path: path}
	for _, text := range own {
		key, err := minisign.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("read trusted key: %w", err)
		}
		k.Own = append(k.Own, key)
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		k.List, err = keylist.Decode(b)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return k, nil
}

// Trusted returns the keys whose signature counts.
func (k *Keyring) Trusted(now time.Time) []minisign.PublicKey { return k.List.Trusted(k.Own, now) }

// Take makes a newer list the one that counts, and keeps it. On an error, one of
// keylist.List.Next, the list before it stays.
func (k *Keyring) Take(list, signature []byte, now time.Time) error {
	next, err := k.List.Next(k.Own, list, signature, now)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(k.path, next.Encode(), 0o644); err != nil {
		return err
	}
	k.List = next
	return nil
}

// Verify says whether somebody whom this machine trusts has signed the image,
// and returns the trusted comment of the signature. The error wraps ErrRevoked,
// or is one of release.Image.VerifySignature.
func (k *Keyring) Verify(i *release.Image, now time.Time) (comment string, err error) {
	if comment, err = i.VerifySignature(k.Trusted(now)); !errors.Is(err, minisign.ErrUnknownKey) {
		return comment, err
	}
	before := k.List
	before.Revoked = nil
	if _, then := i.VerifySignature(before.Trusted(k.Own, now)); then == nil {
		return "", fmt.Errorf("%w, says key list %d: %w", ErrRevoked, k.List.Serial, err)
	}
	return "", err
}
