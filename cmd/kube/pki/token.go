package pki

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// Token is what a machine joins with. It trusts the server because the server
// can sign with the secret; a pin names the cluster's CA beside that.
type Token struct {
	ID     string // 6 letters, public
	Secret string // 16 letters
	Pin    string // hex SHA-256 of the PEM file of the CA, or ""
}

var bootstrap = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)

// ParseToken understands three forms: any pass phrase, a bootstrap token
// (id.secret), and either of them behind a pin: K10<hash>::[user:]token.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Token{}, errors.New("token is empty")
	}
	var t Token
	if rest, ok := strings.CutPrefix(s, "K10"); ok {
		pin, phrase, found := strings.Cut(rest, "::")
		if raw, err := hex.DecodeString(pin); !found || err != nil || len(raw) != sha256.Size || phrase == "" {
			return Token{}, errors.New("token begins with K10 but is not K10<64 hex digits>::<token>")
		}
		t.Pin = strings.ToLower(pin)
		s = phrase
		for _, user := range []string{"server:", "node:"} {
			s = strings.TrimPrefix(s, user)
		}
	}
	if m := bootstrap.FindStringSubmatch(s); m != nil {
		t.ID, t.Secret = m[1], m[2]
		return t, nil
	}
	derived, err := derive(s)
	t.ID, t.Secret = derived[:6], derived[6:]
	return t, err
}

// String is the bootstrap token.
func (t Token) String() string { return t.ID + "." + t.Secret }

// derive makes the 22 letters of a bootstrap token out of a pass phrase.
func derive(phrase string) (string, error) {
	key, err := hkdf.Key(sha256.New, []byte(phrase), []byte("kedge"), "bootstrap token", 32)
	if err != nil {
		return "", fmt.Errorf("derive token: %w", err)
	}
	text := strings.Repeat("0", 50) + new(big.Int).SetBytes(key).Text(36)
	return text[len(text)-22:], nil
}

// NewPhrase is a random pass phrase of 128 bits.
func NewPhrase() string {
	raw := make([]byte, 16)
	rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

// Pin is the hash that a K10 token carries of a CA's PEM bytes.
func Pin(ca []byte) string {
	sum := sha256.Sum256(ca)
	return hex.EncodeToString(sum[:])
}
