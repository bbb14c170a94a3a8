package minisign

import (
	"crypto/ed25519"
	"fmt"
	"strings"
)

const publicSize = 2 + len(KeyID{}) + ed25519.PublicKeySize

// PublicKey verifies signatures.
type PublicKey struct {
	ID  KeyID
	Key [ed25519.PublicKeySize]byte
}

// ParsePublicKey reads a public key file, or its second line alone. The error
// wraps ErrFormat.
func ParsePublicKey(text string) (PublicKey, error) {
	k, err := parsePublicKey(text)
	if err != nil {
		return PublicKey{}, fmt.Errorf("read public key: %w", err)
	}
	return k, nil
}

func parsePublicKey(text string) (PublicKey, error) {
	n := 1
	if strings.HasPrefix(text, commentPrefix) {
		n = 2
	}
	l, err := lines(text, n)
	if err != nil {
		return PublicKey{}, err
	}
	if n == 2 {
		if _, err := comment(l[0], commentPrefix, maxComment); err != nil {
			return PublicKey{}, err
		}
	}
	b, err := decode(l[n-1], publicSize)
	if err != nil {
		return PublicKey{}, err
	}
	if string(b[:2]) != keyAlgorithm {
		return PublicKey{}, fmt.Errorf("%w: algorithm %q, want %q", ErrFormat, b[:2], keyAlgorithm)
	}
	k := PublicKey{ID: KeyID(b[2:10]), Key: [ed25519.PublicKeySize]byte(b[10:])}
	if k.empty() {
		return PublicKey{}, fmt.Errorf("%w: a key of zeros", ErrFormat)
	}
	return k, nil
}

// empty reports a key that was never set. Ed25519 takes zeros for a point of
// small order, under which everybody can sign.
func (k PublicKey) empty() bool { return k.Key == [ed25519.PublicKeySize]byte{} }

// String returns the key as one line of base64, without a newline.
func (k PublicKey) String() string {
	b := append([]byte(keyAlgorithm), k.ID[:]...)
	return encode(append(b, k.Key[:]...))
}

// File returns the public key file. An empty comment becomes the tool's own,
// which names the ID. The error tells what is wrong with the comment.
func (k PublicKey) File(comment string) ([]byte, error) {
	if comment == "" {
		comment = "minisign public key " + k.ID.String()
	}
	if err := checkComment(comment, maxComment); err != nil {
		return nil, fmt.Errorf("write public key: comment: %w", err)
	}
	return []byte(commentPrefix + comment + "\n" + k.String() + "\n"), nil
}
