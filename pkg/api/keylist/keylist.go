// Package keylist knows the list of keys by which the owner of machines changes
// whom they trust: a JSON file with a serial number, and a minisign signature
// beside it by a key that is trusted already.
//
// A machine trusts the keys of its configuration, those in its image, and those
// of the newest list that it has taken, without the ones that this list revokes.
// So a list can add a key, and take one away wherever it stands. What an earlier
// list said counts no more; therefore a list repeats what it revokes.
//
// A machine takes a list only if its serial number is higher than that of the
// one it has, if it is signed by a key that the machine trusts at that moment,
// and if it leaves a key to trust. The time at which a list expires is for its
// keys: no release is trusted by them any longer then, and what it revokes stays
// revoked. They may still sign the next list, or an expired one could never be
// renewed. A clock that is behind leaves an expired list in force and breaks
// nothing.
package keylist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/format/minisign"
)

// Kind stands in every list: what else a key has signed is none.
const Kind = "kedge key list"

// Schema is the number of the list's form.
const Schema = 1

// SignatureSuffix is what the name of a list's signature ends in.
const SignatureSuffix = ".minisig"

// ImagePath is where a release carries a list for the machines that run it; its
// signature stands beside it. The root is covered by the release's own digests,
// and an overlay of the recipe puts a list there.
const ImagePath = "/usr/lib/kedge/keys/keys.json"

// MaxSize bounds a list and a signature, in bytes.
const MaxSize = 64 << 10

// Errors that callers tell apart.
var (
	ErrList    = errors.New("bad key list")
	ErrOlder   = errors.New("it is not newer than the list that this machine has")
	ErrExpired = errors.New("it has expired")
	ErrNone    = errors.New("it leaves no key to trust")
)

// A List is one list. The zero value is that of a machine that has none.
type List struct {
	Kind    string     `json:"kind"`
	Schema  int        `json:"schema"`
	Serial  int64      `json:"serial"`            // from 1 on
	Expires *time.Time `json:"expires,omitempty"` // nil for never
	Keys    []string   `json:"keys"`              // as in a .pub file, its second line
	Revoked []string   `json:"revoked"`           // IDs of keys
}

// Decode reads a list. It is strict: a list decides about trust. The error wraps
// ErrList.
func Decode(b []byte) (List, error) {
	var l List
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return List{}, fmt.Errorf("%w: %w", ErrList, err)
	}
	if d.More() {
		return List{}, fmt.Errorf("%w: something follows it", ErrList)
	}
	if err := l.check(); err != nil {
		return List{}, fmt.Errorf("%w: %w", ErrList, err)
	}
	return l, nil
}

func (l List) check() error {
	switch {
	case l.Kind != Kind:
		return fmt.Errorf("kind %q, not %q", l.Kind, Kind)
	case l.Schema != Schema:
		return fmt.Errorf("schema %d, this program knows %d", l.Schema, Schema)
	case l.Serial < 1:
		return fmt.Errorf("serial %d", l.Serial)
	}
	if _, err := l.keys(); err != nil {
		return err
	}
	for _, text := range l.Revoked {
		if _, err := ParseID(text); err != nil {
			return err
		}
	}
	return nil
}

// ParseID reads the 16 digits by which a key is known.
func ParseID(text string) (minisign.KeyID, error) {
	var id minisign.KeyID
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil || len(text) != 2*len(id) {
		return id, fmt.Errorf("%q is no ID of a key: 16 hexadecimal digits are wanted", text)
	}
	for i := range id { // as minisign.KeyID.String shows them
		id[i] = byte(n >> (8 * i))
	}
	return id, nil
}

func (l List) keys() ([]minisign.PublicKey, error) {
	var keys []minisign.PublicKey
	for _, text := range l.Keys {
		k, err := minisign.ParsePublicKey(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// Encode returns the list as it is written and signed.
func (l List) Encode() []byte {
	l.Kind, l.Schema = Kind, Schema
	l.Keys, l.Revoked = append([]string{}, l.Keys...), append([]string{}, l.Revoked...)
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		panic(err) // strings, numbers and a time always have a JSON form
	}
	return append(b, '\n')
}

// Expired tells whether the keys of the list are trusted no more.
func (l List) Expired(now time.Time) bool { return l.Expires != nil && now.After(*l.Expires) }

// Revokes tells whether the list takes a key away.
func (l List) Revokes(id minisign.KeyID) bool {
	return slices.ContainsFunc(l.Revoked, func(text string) bool { return strings.EqualFold(text, id.String()) })
}

// Trusted returns the keys that a machine trusts with this list, besides its
// own keys: those of its configuration and its image.
func (l List) Trusted(own []minisign.PublicKey, now time.Time) []minisign.PublicKey {
	if l.Expired(now) {
		l.Keys = nil
	}
	return l.signers(own)
}

// signers returns the keys that may sign the next list, whether or not this one
// has expired.
func (l List) signers(own []minisign.PublicKey) (trusted []minisign.PublicKey) {
	all := slices.Clone(own)
	if listed, err := l.keys(); err == nil {
		all = append(all, listed...)
	}
	for _, k := range all {
		if !l.Revokes(k.ID) && !slices.Contains(trusted, k) {
			trusted = append(trusted, k)
		}
	}
	return trusted
}

// Next decides whether a machine that has this list, and keys of its own, takes
// another one, and returns that. The error wraps ErrList, ErrOlder, ErrExpired
// or ErrNone, or those of minisign about the signature.
func (l List) Next(own []minisign.PublicKey, list, signature []byte, now time.Time) (List, error) {
	next, err := Decode(list)
	if err != nil {
		return List{}, err
	}
	// Nobody vouches for the number yet, but it can only lead to a refusal: that
	// of an old list, whose key may be revoked by now.
	if next.Serial <= l.Serial {
		return List{}, fmt.Errorf("%w: serial %d, this machine has %d", ErrOlder, next.Serial, l.Serial)
	}
	s, err := minisign.ParseSignature(signature)
	if err != nil {
		return List{}, err
	}
	if err := s.Verify(l.signers(own), bytes.NewReader(list)); err != nil {
		return List{}, fmt.Errorf("verify signature: %w", err)
	}
	switch {
	case next.Expired(now):
		return List{}, fmt.Errorf("%w: %s", ErrExpired, next.Expires.UTC().Format(time.RFC3339))
	case len(next.Trusted(own, now)) == 0:
		return List{}, ErrNone
	}
	return next, nil
}
