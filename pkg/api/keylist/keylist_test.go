package keylist

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/format/minisign"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newKey(t *testing.T) minisign.SecretKey {
	t.Helper()
	k, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t *testing.T, k minisign.SecretKey, b []byte) []byte {
	t.Helper()
	s, err := minisign.Sign(k, bytes.NewReader(b), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func public(keys ...minisign.SecretKey) (all []minisign.PublicKey) {
	for _, k := range keys {
		all = append(all, k.Public())
	}
	return all
}

func list(serial int64, keys []minisign.PublicKey, revoked ...minisign.PublicKey) List {
	l := List{Kind: Kind, Schema: Schema, Serial: serial}
	for _, k := range keys {
		l.Keys = append(l.Keys, k.String())
	}
	for _, k := range revoked {
		l.Revoked = append(l.Revoked, k.ID.String())
	}
	return l
}

func ids(keys []minisign.PublicKey) string {
	var all []string
	for _, k := range keys {
		all = append(all, k.ID.String())
	}
	return strings.Join(all, " ")
}

func TestTrusted(t *testing.T) {
	a, b, c := newKey(t), newKey(t), newKey(t)
	past, future := noon.Add(-time.Hour), noon.Add(time.Hour)
	expired, valid := list(1, public(b), a.Public()), list(1, public(b), a.Public())
	expired.Expires, valid.Expires = &past, &future
	for _, tc := range []struct {
		name string
		list List
		own  []minisign.PublicKey
		now  time.Time
		want []minisign.PublicKey
	}{
		{"no list", List{}, public(a), noon, public(a)},
		{"no list, no keys", List{}, nil, noon, nil},
		{"one more", list(1, public(b)), public(a), noon, public(a, b)},
		{"the same twice", list(1, public(a)), public(a, a), noon, public(a)},
		{"one of its own revoked", list(1, public(b), a.Public()), public(a), noon, public(b)},
		{"one that it lists itself", list(1, public(b, c), b.Public()), public(a), noon, public(a, c)},
		{"not expired", valid, public(a, c), noon, public(c, b)},
		{"expired: its keys go, what it revokes stays so", expired, public(a, c), noon, public(c)},
		{"expired, says a clock that is right", expired, public(a, c), time.Unix(0, 0), public(c, b)},
	} {
		if got := tc.list.Trusted(tc.own, tc.now); ids(got) != ids(tc.want) {
			t.Errorf("%s: %s, want %s", tc.name, ids(got), ids(tc.want))
		}
	}
}

func TestNext(t *testing.T) {
	ours, fresh, stranger := newKey(t), newKey(t), newKey(t)
	own := public(ours)
	past, future := noon.Add(-time.Hour), noon.Add(time.Hour)
	expired := list(9, public(fresh))
	expired.Expires = &past
	later := list(9, public(fresh))
	later.Expires = &future
	has := list(4, public(fresh))
	over := list(4, public(fresh), ours.Public())
	over.Expires = &past
	without := list(4, public(fresh), ours.Public()) // ours is revoked
	for _, c := range []struct {
		name string
		has  List
		next List
		key  minisign.SecretKey
		now  time.Time
		want error
	}{
		{"the first one", List{}, list(1, public(fresh)), ours, noon, nil},
		{"a newer one", has, list(5, public(fresh)), ours, noon, nil},
		{"a newer one, signed by a key of the last", has, list(5, public(fresh), ours.Public()), fresh, noon, nil},
		{"one that revokes the key that signs it", has, list(5, public(fresh), ours.Public()), ours, noon, nil},
		{"the same again", has, has, ours, noon, ErrOlder},
		{"a rollback", has, list(3, public(stranger)), ours, noon, ErrOlder},
		{"by a revoked key, which it lists", without, list(5, public(ours)), ours, noon, minisign.ErrUnknownKey},
		{"by a revoked key, which lifts that", without, list(99, public(ours, fresh)), ours, noon, minisign.ErrUnknownKey},
		{"by a stranger, who is listed in it", has, list(5, public(stranger)), stranger, noon, minisign.ErrUnknownKey},
		{"expired", has, expired, ours, noon, ErrExpired},
		{"to expire", has, later, ours, noon, nil},
		{"after one that has expired, by a key of it", over, later, fresh, noon, nil},
		{"after one that has expired, by a key that it revokes", over, later, ours, noon, minisign.ErrUnknownKey},
		{"after one that has expired, by a stranger", over, later, stranger, noon, minisign.ErrUnknownKey},
		{"expired, with a clock at 1970", has, expired, ours, time.Unix(0, 0), nil},
		{"nothing left to trust", List{}, list(1, nil, ours.Public()), ours, noon, ErrNone},
	} {
		b := c.next.Encode()
		got, err := c.has.Next(own, b, sign(t, c.key, b), c.now)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: Next = %v, want %v", c.name, err, c.want)
		}
		if err == nil && got.Serial != c.next.Serial || err != nil && got.Serial != 0 {
			t.Errorf("%s: Next returns serial %d", c.name, got.Serial)
		}
	}
	b := list(1, public(fresh)).Encode()
	signature := sign(t, ours, b)
	if _, err := (List{}).Next(own, bytes.Replace(b, []byte(`"serial": 1`), []byte(`"serial": 7`), 1), signature, noon); !errors.Is(err, minisign.ErrSignature) {
		t.Errorf("a changed list: %v", err)
	}
	for _, none := range []string{"", "no signature"} {
		if _, err := (List{}).Next(own, b, []byte(none), noon); !errors.Is(err, minisign.ErrFormat) {
			t.Errorf("an unsigned list: %v", err)
		}
	}
	if _, err := (List{}).Next(nil, b, signature, noon); !errors.Is(err, minisign.ErrUnknownKey) {
		t.Errorf("a machine without keys: %v", err)
	}
	// Another thing that the key has signed.
	other := []byte(`{"schema": 1, "name": "kedge", "version": "0.1.0"}`)
	if _, err := (List{}).Next(own, other, sign(t, ours, other), noon); !errors.Is(err, ErrList) {
		t.Errorf("a manifest as a list: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for text, says := range map[string]string{
		``:                           "EOF",
		`{}`:                         `kind ""`,
		`{"kind": "kedge key list"}`: "schema 0",
		`{"kind": "kedge key list", "schema": 1}`:                                 "serial 0",
		`{"kind": "kedge key list", "schema": 1, "serial": 1, "keys": ["x"]}`:     "public key",
		`{"kind": "kedge key list", "schema": 1, "serial": 1, "revoked": ["12"]}`: "16 hexadecimal digits",
		`{"kind": "kedge key list", "schema": 1, "serial": 1, "revoke": []}`:      "unknown field",
		`{"kind": "kedge key list", "schema": 1, "serial": 1} {}`:                 "something follows",
		`{"kind": "kedge key list", "schema": 1, "serial": 1, "expires": "2026"}`: "2026",
		`{"kind": "kedge key list", "schema": 1, "serial": 99999999999999999999}`: "serial",
	} {
		if _, err := Decode([]byte(text)); !errors.Is(err, ErrList) || !strings.Contains(err.Error(), says) {
			t.Errorf("Decode(%s) = %v, want %q", text, err, says)
		}
	}
}

func TestParseID(t *testing.T) {
	k := newKey(t).Public()
	if id, err := ParseID(strings.ToLower(k.ID.String())); err != nil || id != k.ID {
		t.Errorf("ParseID(%s) = %s, %v", k.ID, id, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(list(3, nil).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := Decode(l.Encode()); err != nil || string(again.Encode()) != string(l.Encode()) {
			t.Errorf("%s: read again: %v", b, err)
		}
	})
}
