package apply

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/go-crypt/crypt"
	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/md5crypt"
	"github.com/go-crypt/crypt/algorithm/sha1crypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// Hash returns the sha512-crypt hash of a clear password, with a new salt and
// the usual 5000 rounds: the clear text stands in the configuration anyway.
func Hash(password string) (string, error) {
	const letters = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	for i, b := range salt {
		salt[i] = letters[b%64]
	}
	h, err := shacrypt.New(shacrypt.WithSHA512(), shacrypt.WithIterations(shacrypt.IterationsDefaultOmitted))
	if err != nil {
		return "", err
	}
	d, err := h.HashWithSalt(password, salt)
	if err != nil {
		return "", err
	}
	return d.Encode(), nil
}

// Errors of Check.
var (
	ErrNoPassword = errors.New("no password is set")
	ErrWrong      = errors.New("wrong password")
)

// Check tells whether password is that of user in the text of /etc/shadow. A
// locked user (*, !) has none: the error wraps ErrNoPassword.
func Check(shadow, user, password string) error {
	for line := range strings.Lines(shadow) {
		fields := strings.Split(strings.TrimRight(line, "\n"), ":")
		if fields[0] != user || len(fields) < 2 {
			continue
		}
		if !strings.HasPrefix(fields[1], "$") {
			return fmt.Errorf("user %s: %w", user, ErrNoPassword)
		}
		ok, err := verify(password, fields[1])
		if err != nil {
			return fmt.Errorf("user %s: check password: %w", user, err)
		}
		if ok {
			return nil
		}
	}
	return ErrWrong
}

// verify compares a password with a hash; see decoder.
func verify(password, hash string) (bool, error) {
	d, err := decoder()
	if err != nil {
		return false, err
	}
	digest, err := d.Decode(hash)
	if err != nil {
		return false, err
	}
	return digest.MatchAdvanced(password)
}

// decoder reads the hashes of crypt(5) that people use: $1$, $2…$, $5$, $6$
// and $sha1$.
func decoder() (*crypt.Decoder, error) {
	d := crypt.NewDecoder()
	for _, register := range []func(algorithm.DecoderRegister) error{
		md5crypt.RegisterDecoder, bcrypt.RegisterDecoder, shacrypt.RegisterDecoder, sha1crypt.RegisterDecoder,
	} {
		if err := register(d); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// readable tells whether a login with this hash can work at all.
func readable(hash string) error {
	d, err := decoder()
	if err != nil {
		return err
	}
	if _, err := d.Decode(hash); err != nil {
		return errors.New(`this kind of hash is not known; one that works comes from "openssl passwd -6"`)
	}
	return nil
}

// HasPassword tells whether user can log in with a password.
func HasPassword(shadow, user string) bool {
	for line := range strings.Lines(shadow) {
		if fields := strings.Split(line, ":"); fields[0] == user && len(fields) > 1 && strings.HasPrefix(fields[1], "$") {
			return true
		}
	}
	return false
}
