package minisign

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/crypto/blake2b"
)

const (
	signatureSize = 2 + len(KeyID{}) + ed25519.SignatureSize

	// maxLegacy is the longest message read whole for a legacy signature.
	maxLegacy = 64 << 20
)

// Signature is the content of a signature file. Nothing in it can be believed
// before Verify has returned nil, and Comment not even then.
type Signature struct {
	ID             KeyID // of the key that signed
	Prehashed      bool  // false in a legacy signature
	TrustedComment string
	Comment        string // untrusted

	signature [ed25519.SignatureSize]byte // over the message or its digest
	global    [ed25519.SignatureSize]byte // over signature and TrustedComment
}

// Sign returns the signature file for message, which is read to its end. An
// empty untrusted comment becomes the tool's own. The error comes from reading
// or tells what is wrong with a comment.
func Sign(key SecretKey, message io.Reader, trustedComment, untrustedComment string) ([]byte, error) {
	if untrustedComment == "" {
		untrustedComment = "signature from minisign secret key"
	}
	if err := checkComment(untrustedComment, maxComment); err != nil {
		return nil, fmt.Errorf("sign: untrusted comment: %w", err)
	}
	if err := checkComment(trustedComment, maxTrusted); err != nil {
		return nil, fmt.Errorf("sign: trusted comment: %w", err)
	}
	s := Signature{ID: key.id, Prehashed: true, TrustedComment: trustedComment, Comment: untrustedComment}
	signed, err := s.signed(message)
	if err != nil {
		return nil, fmt.Errorf("sign: read message: %w", err)
	}
	copy(s.signature[:], ed25519.Sign(key.key, signed))
	copy(s.global[:], ed25519.Sign(key.key, s.globallySigned()))
	return s.file(), nil
}

// ParseSignature reads a signature file. The error wraps ErrFormat.
func ParseSignature(file []byte) (Signature, error) {
	s, err := parseSignature(file)
	if err != nil {
		return Signature{}, fmt.Errorf("read signature: %w", err)
	}
	return s, nil
}

func parseSignature(file []byte) (s Signature, err error) {
	l, err := lines(string(file), 4)
	if err != nil {
		return s, err
	}
	if s.Comment, err = comment(l[0], commentPrefix, maxComment); err != nil {
		return s, err
	}
	b, err := decode(l[1], signatureSize)
	if err != nil {
		return s, err
	}
	if s.TrustedComment, err = comment(l[2], trustedPrefix, maxTrusted); err != nil {
		return s, err
	}
	global, err := decode(l[3], ed25519.SignatureSize)
	if err != nil {
		return s, err
	}
	switch algorithm := string(b[:2]); algorithm {
	case hashedAlgorithm:
		s.Prehashed = true
	case keyAlgorithm:
	default:
		return s, fmt.Errorf("%w: algorithm %q, want %q or %q", ErrFormat, algorithm, hashedAlgorithm, keyAlgorithm)
	}
	s.ID = KeyID(b[2:10])
	copy(s.signature[:], b[10:])
	copy(s.global[:], global)
	return s, nil
}

// Verify returns nil if one of keys has signed message and the trusted comment.
// The message is read to its end once the trusted comment is found right;
// under a legacy signature it must not exceed 64 MiB, which are held in memory.
// The error wraps ErrUnknownKey, ErrSignature or what reading returns.
func (s Signature) Verify(keys []PublicKey, message io.Reader) error {
	if !slices.ContainsFunc(keys, func(k PublicKey) bool { return k.ID == s.ID }) {
		return fmt.Errorf("%w: %s, trusted: %s", ErrUnknownKey, s.ID, list(keys))
	}
	global := s.globallySigned()
	i := slices.IndexFunc(keys, func(k PublicKey) bool {
		return k.ID == s.ID && !k.empty() && ed25519.Verify(k.Key[:], global, s.global[:])
	})
	if i < 0 {
		return fmt.Errorf("%w: key %s has not signed this trusted comment", ErrSignature, s.ID)
	}
	signed, err := s.signed(message)
	if err != nil {
		return fmt.Errorf("verify: read message: %w", err)
	}
	if !ed25519.Verify(keys[i].Key[:], signed, s.signature[:]) {
		return fmt.Errorf("%w: key %s has not signed this message", ErrSignature, s.ID)
	}
	return nil
}

// signed returns the bytes that the first signature covers.
func (s Signature) signed(message io.Reader) ([]byte, error) {
	if !s.Prehashed {
		b, err := io.ReadAll(io.LimitReader(message, maxLegacy+1))
		if err == nil && len(b) > maxLegacy {
			err = fmt.Errorf("more than %d bytes under a legacy signature", maxLegacy)
		}
		return b, err
	}
	h, err := blake2b.New512(nil)
	if err != nil {
		panic(err) // only a key that is too long is refused
	}
	if _, err := io.Copy(h, message); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// globallySigned returns the bytes that the global signature covers.
func (s Signature) globallySigned() []byte {
	return append(slices.Clone(s.signature[:]), s.TrustedComment...)
}

// file returns the signature file.
func (s Signature) file() []byte {
	algorithm := keyAlgorithm
	if s.Prehashed {
		algorithm = hashedAlgorithm
	}
	b := slices.Concat([]byte(algorithm), s.ID[:], s.signature[:])
	return []byte(commentPrefix + s.Comment + "\n" + encode(b) + "\n" +
		trustedPrefix + s.TrustedComment + "\n" + encode(s.global[:]) + "\n")
}

func list(keys []PublicKey) string {
	if len(keys) == 0 {
		return "none"
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.ID.String()
	}
	return strings.Join(ids, ", ")
}
