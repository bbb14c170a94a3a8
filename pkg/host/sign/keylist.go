package sign

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/keylist"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// NewList writes the first list of keys. A file that is there is never
// overwritten. Expires is nil for never.
func NewList(file string, keys []minisign.PublicKey, expires *time.Time) (keylist.List, error) {
	l := keylist.List{Serial: 1, Expires: expires}
	for _, k := range keys {
		l.Keys = append(l.Keys, k.String())
	}
	return l, create(file, l.Encode(), 0o644)
}

// ReadList reads a list.
func ReadList(file string) (keylist.List, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return keylist.List{}, err
	}
	l, err := keylist.Decode(b)
	if err != nil {
		return l, fmt.Errorf("read %s: %w", file, err)
	}
	return l, nil
}

// ChangeList changes a list with a higher serial number. The signature of the
// one before is removed: it is none of this one.
func ChangeList(file string, change func(*keylist.List) error) (keylist.List, error) {
	l, err := ReadList(file)
	if err != nil {
		return l, err
	}
	if err := change(&l); err != nil {
		return l, fmt.Errorf("change %s: %w", file, err)
	}
	l.Serial++
	if err := os.Remove(file + keylist.SignatureSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	return l, atomicfile.WriteFile(file, l.Encode(), 0o644)
}

// AddKeys puts keys into a list. One that it revokes is refused: its ID would
// take the key away again.
func AddKeys(l *keylist.List, keys []minisign.PublicKey) error {
	for _, k := range keys {
		if l.Revokes(k.ID) {
			return fmt.Errorf("key %s is revoked: make a new one", k.ID)
		}
		if !slices.Contains(l.Keys, k.String()) {
			l.Keys = append(l.Keys, k.String())
		}
	}
	return nil
}

// RevokeKeys takes keys away, wherever a machine has them from.
func RevokeKeys(l *keylist.List, ids []minisign.KeyID) error {
	for _, id := range ids {
		if !l.Revokes(id) {
			l.Revoked = append(l.Revoked, id.String())
		}
		l.Keys = slices.DeleteFunc(l.Keys, func(text string) bool {
			k, err := minisign.ParsePublicKey(text)
			return err == nil && k.ID == id
		})
	}
	return nil
}

// KeyID reads the ID of a key: 16 digits, or a public key file that has it.
func KeyID(text string) (minisign.KeyID, error) {
	id, err := keylist.ParseID(text)
	if err == nil || !strings.HasSuffix(text, ".pub") {
		return id, err
	}
	keys, err := ReadKeys([]string{text})
	if err != nil {
		return id, err
	}
	return keys[0].ID, nil
}

// SignList writes the signature of a list beside it. The trusted comment names
// the list.
func SignList(file string, key minisign.SecretKey) (keylist.List, error) {
	l, err := ReadList(file)
	if err != nil {
		return l, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return l, err
	}
	signature, err := minisign.Sign(key, bytes.NewReader(b), fmt.Sprintf("%s %d", keylist.Kind, l.Serial), "")
	if err != nil {
		return l, err
	}
	return l, atomicfile.WriteFile(file+keylist.SignatureSuffix, signature, 0o644)
}
