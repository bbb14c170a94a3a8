package minisign

import (
	"bytes"
	"crypto/ed25519"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/scrypt"
)

// Where things stand in the second line of a secret key file. Numbers are
// little-endian. Everything from the ID on is XORed with what scrypt makes of
// the password.
const (
	kdfAt      = 2         // after the algorithm: kdfScrypt or kdfNone
	chkAt      = kdfAt + 2 // chkBlake2b
	saltAt     = chkAt + 2
	opsAt      = saltAt + 32 // see cost
	memoryAt   = opsAt + 8
	idAt       = memoryAt + 8
	secretAt   = idAt + len(KeyID{})               // seed and public key
	checksumAt = secretAt + ed25519.PrivateKeySize // over algorithm, ID, seed and public key
	secretSize = checksumAt + blake2b.Size256

	kdfScrypt  = "Sc"
	kdfNone    = "\x00\x00"
	chkBlake2b = "B2"
)

// maxPassword is the longest password that can be typed twice into the tool.
const maxPassword = 1022

// SecretKey signs. Make one with NewKey or ParseSecretKey; the zero value
// panics when used.
type SecretKey struct {
	id  KeyID
	key ed25519.PrivateKey
}

// NewKey makes a key from 40 random bytes of rand.
func NewKey(rand io.Reader) (SecretKey, error) {
	var b [len(KeyID{}) + ed25519.SeedSize]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return SecretKey{}, fmt.Errorf("make secret key: %w", err)
	}
	return SecretKey{KeyID(b[:8]), ed25519.NewKeyFromSeed(b[8:])}, nil
}

// Public returns the key that verifies what k signs.
func (k SecretKey) Public() PublicKey {
	return PublicKey{k.id, [ed25519.PublicKeySize]byte(k.key[ed25519.SeedSize:])}
}

// Format prints the ID, whatever the verb, so that no log shows a key.
func (k SecretKey) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "secret key %s", k.id) }

// File returns the secret key file, encrypted with password. That takes 1 GiB
// of memory for some seconds, and so does reading it. An empty password leaves
// the key unencrypted, like "minisign -W". The error tells of a password that
// cannot be typed into the tool, or comes from rand.
func (k SecretKey) File(password []byte, rand io.Reader) ([]byte, error) {
	b, err := k.file(password, rand, cost{maxOps, maxMemory})
	if err != nil {
		return nil, fmt.Errorf("write secret key: %w", err)
	}
	return b, nil
}

func (k SecretKey) file(password []byte, rand io.Reader, c cost) ([]byte, error) {
	b := make([]byte, secretSize)
	copy(b, keyAlgorithm+kdfNone+chkBlake2b)
	copy(b[idAt:], k.id[:])
	copy(b[secretAt:], k.key)
	// The tool leaves the checksum of an unencrypted key empty.
	title := "minisign unencrypted secret key "
	if len(password) > 0 {
		if len(password) > maxPassword || bytes.ContainsAny(password, "\x00\r\n") {
			return nil, fmt.Errorf("password: a line break, a zero or more than %d bytes", maxPassword)
		}
		title = "minisign encrypted secret key "
		copy(b[kdfAt:], kdfScrypt)
		if _, err := io.ReadFull(rand, b[saltAt:opsAt]); err != nil {
			return nil, err
		}
		binary.LittleEndian.PutUint64(b[opsAt:], c.ops)
		binary.LittleEndian.PutUint64(b[memoryAt:], c.memory)
		copy(b[checksumAt:], checksum(b))
		if err := crypt(b, password, c); err != nil {
			return nil, err
		}
	}
	return []byte(commentPrefix + title + k.id.String() + "\n" + encode(b) + "\n"), nil
}

// ParseSecretKey reads a secret key file; password is ignored when the key is
// not encrypted. The error wraps ErrFormat, ErrEncrypted when password is
// empty but needed, or ErrPassword, which may also mean that the file is
// damaged. Decryption takes what the file asks for, at most 1 GiB of memory
// and some seconds; a file that asks for more is refused.
func ParseSecretKey(file, password []byte) (SecretKey, error) {
	k, err := parseSecretKey(file, password)
	if err != nil {
		return SecretKey{}, fmt.Errorf("read secret key: %w", err)
	}
	return k, nil
}

func parseSecretKey(file, password []byte) (SecretKey, error) {
	l, err := lines(string(file), 2)
	if err != nil {
		return SecretKey{}, err
	}
	if _, err := comment(l[0], commentPrefix, maxComment); err != nil {
		return SecretKey{}, err
	}
	b, err := decode(l[1], secretSize)
	if err != nil {
		return SecretKey{}, err
	}
	if string(b[:kdfAt]) != keyAlgorithm || string(b[chkAt:saltAt]) != chkBlake2b {
		return SecretKey{}, fmt.Errorf("%w: algorithm %q with checksum %q, want %q with %q", ErrFormat, b[:kdfAt], b[chkAt:saltAt], keyAlgorithm, chkBlake2b)
	}
	switch kdf := string(b[kdfAt:chkAt]); kdf {
	case kdfNone:
		// "minisign -G -W" leaves the checksum empty, "minisign -C -W" does not.
		if sum := b[checksumAt:]; !bytes.Equal(sum, make([]byte, len(sum))) && !bytes.Equal(sum, checksum(b)) {
			return SecretKey{}, fmt.Errorf("%w: wrong checksum", ErrFormat)
		}
	case kdfScrypt:
		if err := decrypt(b, password); err != nil {
			return SecretKey{}, err
		}
	default:
		return SecretKey{}, fmt.Errorf("%w: key derivation %q, want %q or %q", ErrFormat, kdf, kdfScrypt, kdfNone)
	}
	k := SecretKey{KeyID(b[idAt:secretAt]), ed25519.NewKeyFromSeed(b[secretAt : secretAt+ed25519.SeedSize])}
	if !bytes.Equal(k.key, b[secretAt:checksumAt]) {
		return SecretKey{}, fmt.Errorf("%w: the public half belongs to another secret", ErrFormat)
	}
	return k, nil
}

// decrypt turns the bytes of an encrypted key into those of a plain one.
func decrypt(b, password []byte) error {
	c := cost{binary.LittleEndian.Uint64(b[opsAt:]), binary.LittleEndian.Uint64(b[memoryAt:])}
	if err := c.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(password) == 0 {
		return ErrEncrypted
	}
	if err := crypt(b, password, c); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(b[checksumAt:], checksum(b)) == 0 {
		return ErrPassword
	}
	return nil
}

// crypt encrypts or decrypts in place.
func crypt(b, password []byte, c cost) error {
	stream, err := c.derive(password, b[saltAt:opsAt], secretSize-idAt)
	if err != nil {
		return err
	}
	subtle.XORBytes(b[idAt:], b[idAt:], stream)
	return nil
}

// checksum returns what belongs at checksumAt of a plain key.
func checksum(b []byte) []byte {
	sum := blake2b.Sum256(slices.Concat(b[:kdfAt], b[idAt:checksumAt]))
	return sum[:]
}

// The limits of cost: what libsodium names MIN and SENSITIVE. The tool asks
// for the largest and comes down by halves where memory is short.
const (
	minOps, minMemory = 1 << 15, 16 << 20
	maxOps, maxMemory = 1 << 25, 1 << 30
)

// A cost is what a try at a password takes: operations, and bytes of memory.
type cost struct{ ops, memory uint64 }

func (c cost) check() error {
	if c.ops < minOps || c.ops > maxOps || c.memory < minMemory || c.memory > maxMemory {
		return errors.New("a cost that the tool never asks for")
	}
	return nil
}

// scrypt returns the parameters N and p of scrypt; r is 8.
//
// Source: pickparams of crypto_pwhash_scryptsalsa208sha256 in libsodium 1.0.18.
func (c cost) scrypt() (n, p int) {
	if c.ops < c.memory/32 {
		return powerOf2(c.ops / 32), 1
	}
	n = powerOf2(c.memory / 1024)
	return n, int(c.ops/4/uint64(n)) / 8
}

// powerOf2 returns the largest one up to x, which is not 0.
func powerOf2(x uint64) int { return 1 << (bits.Len64(x) - 1) }

// derive returns size bytes that depend on password and salt.
func (c cost) derive(password, salt []byte, size int) ([]byte, error) {
	n, p := c.scrypt()
	return scrypt.Key(password, salt, n, 8, p, size)
}
