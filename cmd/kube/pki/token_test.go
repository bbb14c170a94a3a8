package pki

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestParseToken(t *testing.T) {
	hash := strings.Repeat("0123456789abcdef", 4)
	for _, tt := range []struct{ in, bootstrap, hash string }{
		{"abcdef.0123456789abcdef", "abcdef.0123456789abcdef", ""},
		{" abcdef.0123456789abcdef\n", "abcdef.0123456789abcdef", ""},
		{"K10" + hash + "::abcdef.0123456789abcdef", "abcdef.0123456789abcdef", hash},
		{"K10" + hash + "::server:abcdef.0123456789abcdef", "abcdef.0123456789abcdef", hash},
	} {
		got, err := ParseToken(tt.in)
		if err != nil || got.Bootstrap != tt.bootstrap || got.CAHash != tt.hash {
			t.Errorf("ParseToken(%q) = %+v, %v", tt.in, got, err)
		}
	}
}

func TestParseTokenDerivesFromPassphrase(t *testing.T) {
	form := regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`) // of bootstrap tokens
	hash := strings.Repeat("ab", 32)
	seen := map[string]string{}
	for _, phrase := range []string{"x", "correct horse", "pass:word", "ABCDEF.0123456789ABCDEF", strings.Repeat("long ", 99)} {
		plain, err := ParseToken(phrase)
		if err != nil || !form.MatchString(plain.Bootstrap) {
			t.Errorf("ParseToken(%q) = %+v, %v", phrase, plain, err)
		}
		pinned, err := ParseToken("K10" + hash + "::server:" + phrase)
		if err != nil || pinned.Bootstrap != plain.Bootstrap {
			t.Errorf("ParseToken of pinned %q = %q, %v, want %q as without the pin", phrase, pinned.Bootstrap, err, plain.Bootstrap)
		}
		if other, ok := seen[plain.Bootstrap]; ok {
			t.Errorf("%q and %q give the same token", phrase, other)
		}
		seen[plain.Bootstrap] = phrase
	}
	// The derivation is part of the contract between server and agent versions.
	if got, _ := ParseToken("correct horse"); got.Bootstrap != derivedOfCorrectHorse {
		t.Errorf("ParseToken(correct horse) = %s, want %s: agents of another version could not join", got.Bootstrap, derivedOfCorrectHorse)
	}
}

func TestParseTokenErrors(t *testing.T) {
	for _, in := range []string{"", " \n"} {
		if _, err := ParseToken(in); err == nil {
			t.Errorf("ParseToken(%q) = nil, want an error", in)
		}
	}
	for _, in := range []string{"K10", "K10abc::x", "K10" + strings.Repeat("a", 64), "K10" + strings.Repeat("a", 64) + "::"} {
		if _, err := ParseToken(in); !errors.Is(err, ErrTokenForm) {
			t.Errorf("ParseToken(%q) = %v, want ErrTokenForm", in, err)
		}
	}
}

func TestNodeTokenComesBack(t *testing.T) {
	ca := []byte("-----BEGIN CERTIFICATE-----")
	for _, secret := range []string{"abcdef.0123456789abcdef", "correct horse"} {
		want, err := ParseToken(secret)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseToken(NodeToken(secret, ca))
		if err != nil || got.Bootstrap != want.Bootstrap || got.CAHash != CAHash(ca) {
			t.Errorf("ParseToken(NodeToken(%q)) = %+v, %v", secret, got, err)
		}
		if again := NodeToken(NodeToken(secret, ca), ca); again != NodeToken(secret, ca) {
			t.Errorf("NodeToken of a node token = %q", again)
		}
	}
}

func TestNewSecretIsABootstrapToken(t *testing.T) {
	a, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	if a == b {
		t.Errorf("NewSecret = %q twice", a)
	}
	if token, err := ParseToken(a); err != nil || token.Bootstrap != a {
		t.Errorf("ParseToken(%q) = %+v, %v", a, token, err)
	}
}

const derivedOfCorrectHorse = "pq2ra7.alfnsypjybapcmpa"
