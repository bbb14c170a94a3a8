// Package minisign reads and writes the keys and signatures of minisign.
//
// A key signs with Ed25519: the BLAKE2b-512 digest of a message (prehashed) or
// the message itself (legacy). This package signs prehashed and verifies both.
// A second signature, the global one, covers the first and the trusted comment;
// nothing covers an untrusted comment. The key ID is random and only tells
// which key to try.
//
// Sizes are bytes. Reading is stricter than the tool: the prefix of every
// comment must be there, nothing may follow the last line, and a comment is
// UTF-8 without control characters but the tab. A line may end in CR LF.
// Callers decide which keys they trust and what a trusted comment means.
//
// Source: https://jedisct1.github.io/minisign/, from "Signature format" on;
// limits from minisign.h of minisign 0.12.
package minisign

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Errors that callers tell apart.
var (
	ErrFormat     = errors.New("not in minisign's format")
	ErrEncrypted  = errors.New("a password is needed")
	ErrPassword   = errors.New("wrong password")
	ErrUnknownKey = errors.New("signed by an unknown key")
	ErrSignature  = errors.New("wrong signature")
)

const (
	maxFile    = 16 << 10
	maxComment = 1003 // the tool reads a line of 1023 bytes, prefix and newline included
	maxTrusted = 8173 // here 8191

	commentPrefix = "untrusted comment: "
	trustedPrefix = "trusted comment: "

	keyAlgorithm    = "Ed" // in keys, and in legacy signatures
	hashedAlgorithm = "ED" // in prehashed signatures
)

// KeyID tells keys apart, as the bytes in a file.
type KeyID [8]byte

// String returns the 16 digits that the tool prints: the bytes as a
// little-endian number in upper-case hex. Before 0.12 the tool leaves out
// leading zeros.
func (id KeyID) String() string {
	return fmt.Sprintf("%016X", binary.LittleEndian.Uint64(id[:]))
}

// lines returns the n lines of a file. The last newline may be missing.
func lines(file string, n int) ([]string, error) {
	if len(file) > maxFile {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrFormat, len(file), maxFile)
	}
	l := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
	if len(l) != n {
		return nil, fmt.Errorf("%w: %d lines, want %d", ErrFormat, len(l), n)
	}
	for i := range l {
		l[i] = strings.TrimSuffix(l[i], "\r")
	}
	return l, nil
}

// decode returns the n bytes that a line of base64 stands for.
func decode(line string, n int) ([]byte, error) {
	if want := base64.StdEncoding.EncodedLen(n); len(line) != want {
		return nil, fmt.Errorf("%w: %d characters of base64, want %d", ErrFormat, len(line), want)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(b) != n { // there was a CR inside, or padding
		return nil, fmt.Errorf("%w: %d bytes in base64, want %d", ErrFormat, len(b), n)
	}
	return b, nil
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// comment returns what follows prefix in a line.
func comment(line, prefix string, most int) (string, error) {
	text, ok := strings.CutPrefix(line, prefix)
	if !ok {
		return "", fmt.Errorf("%w: no line that begins with %q", ErrFormat, prefix)
	}
	if err := checkComment(text, most); err != nil {
		return "", fmt.Errorf("%w: %s%w", ErrFormat, prefix, err)
	}
	return text, nil
}

// checkComment holds a comment to one line of at most so many bytes.
func checkComment(text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("%d bytes, more than %d", len(text), most)
	}
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\t' }
	if !utf8.ValidString(text) || strings.ContainsFunc(text, control) {
		return errors.New("a line break, a control character or no UTF-8")
	}
	return nil
}
