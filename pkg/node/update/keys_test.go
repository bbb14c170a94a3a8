package update

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/keylist"
	"github.com/kedgeos/kedge/pkg/format/minisign"
)

func newKey(t *testing.T) minisign.SecretKey {
	t.Helper()
	k, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(t *testing.T, l keylist.List, by minisign.SecretKey) (list, signature []byte) {
	t.Helper()
	list = l.Encode()
	signature, err := minisign.Sign(by, bytes.NewReader(list), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return list, signature
}

// TestKeyring rotates a key over a restart, and tries to get the old one back.
func TestKeyring(t *testing.T) {
	ours, fresh := newKey(t), newKey(t)
	path := filepath.Join(t.TempDir(), "keys.json")
	own := []string{ours.Public().String()}
	open := func() *Keyring {
		t.Helper()
		k, err := OpenKeyring(own, path)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := keylist.List{Serial: 1, Keys: []string{fresh.Public().String()}}
	second := keylist.List{Serial: 2, Keys: first.Keys, Revoked: []string{ours.Public().ID.String()}}
	k := open()
	for _, l := range []keylist.List{first, second} {
		list, signature := signed(t, l, ours)
		if err := k.Take(list, signature, noon); err != nil {
			t.Fatal(err)
		}
		k = open()
		if k.List.Serial != l.Serial {
			t.Fatalf("after a restart the list is %d", k.List.Serial)
		}
	}
	if got := k.Trusted(noon); len(got) != 1 || got[0] != fresh.Public() {
		t.Errorf("trusted: %v", got)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		list keylist.List
		by   minisign.SecretKey
		want error
	}{
		"the first list again":             {first, fresh, keylist.ErrOlder},
		"one by the revoked key":           {keylist.List{Serial: 3, Keys: own}, ours, minisign.ErrUnknownKey},
		"one by a stranger":                {keylist.List{Serial: 3}, newKey(t), minisign.ErrUnknownKey},
		"one that takes the last key away": {keylist.List{Serial: 3, Revoked: append(second.Revoked, fresh.Public().ID.String())}, fresh, keylist.ErrNone},
	} {
		list, signature := signed(t, c.list, c.by)
		if err := k.Take(list, signature, noon); !errors.Is(err, c.want) {
			t.Errorf("%s: Take = %v, want %v", name, err, c.want)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) || k.List.Serial != 2 {
		t.Errorf("a refused list has changed what is kept: %v", err)
	}
	if err := os.WriteFile(path, before[:len(before)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyring(own, path); !errors.Is(err, keylist.ErrList) || !strings.Contains(err.Error(), path) {
		t.Errorf("OpenKeyring with a torn list = %v", err)
	}
	if _, err := OpenKeyring([]string{"x"}, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a damaged key of its own is passed over")
	}
	if k.Trusted(time.Unix(0, 0))[0] != fresh.Public() {
		t.Error("a clock at 1970 changes whom the machine trusts")
	}
}
