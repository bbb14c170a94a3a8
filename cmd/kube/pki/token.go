package pki

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A Token is the secret that joins a node, in the forms a user may write it.
type Token struct {
	Bootstrap string // Kubernetes bootstrap token, "id.secret"
	CAHash    string // hex SHA-256 of the CA's PEM file; "" when the user gave none
}

var (
	bootstrapForm = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	secureForm    = regexp.MustCompile(`^K10([0-9a-f]{64})::(?:[^:]*:)?(.+)$`)
)

// ErrTokenForm is for a token that begins like the secure form but is not.
var ErrTokenForm = errors.New("token begins with K10 but is not K10<64 hexadecimal digits>::<secret>")

// ParseToken reads K10<hash of CA>::[user:]secret, a bootstrap token, or any
// other passphrase. A passphrase becomes a bootstrap token through HKDF-SHA-256,
// the same on server and agent.
func ParseToken(s string) (Token, error) {
	var t Token
	secret := strings.TrimSpace(s)
	if secret == "" {
		return t, errors.New("token is empty")
	}
	if strings.HasPrefix(secret, "K10") {
		m := secureForm.FindStringSubmatch(secret)
		if m == nil {
			return t, ErrTokenForm
		}
		t.CAHash, secret = m[1], m[2]
	}
	if bootstrapForm.MatchString(secret) {
		t.Bootstrap = secret
		return t, nil
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "kedge bootstrap token", 22)
	if err != nil {
		return t, err
	}
	t.Bootstrap = bootstrapToken(key)
	return t, nil
}

// bootstrapToken spells 22 bytes in the alphabet of bootstrap tokens.
func bootstrapToken(key []byte) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	out := make([]byte, len(key))
	for i, b := range key {
		out[i] = alphabet[int(b)%len(alphabet)]
	}
	return string(out[:6]) + "." + string(out[6:])
}

// NewSecret makes a random secret for a cluster whose user chose none.
func NewSecret() (string, error) {
	key := make([]byte, 22)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	return bootstrapToken(key), nil
}

// NodeToken is what a server shows for joining: the secret with the CA's hash.
func NodeToken(secret string, caPEM []byte) string {
	if m := secureForm.FindStringSubmatch(secret); m != nil {
		secret = m[2]
	}
	return fmt.Sprintf("K10%s::server:%s", CAHash(caPEM), secret)
}

// CAHash is the pin of a cluster's CA: the SHA-256 of its PEM file, in hex.
func CAHash(pem []byte) string {
	sum := sha256.Sum256(pem)
	return hex.EncodeToString(sum[:])
}
