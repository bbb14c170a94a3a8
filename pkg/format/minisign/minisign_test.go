package minisign

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// someKey returns a key that is the same every time.
func someKey(seed byte) SecretKey {
	k, err := NewKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 40)))
	if err != nil {
		panic(err)
	}
	return k
}

// changed returns a file with the bytes under base64 in one of its lines changed.
func changed(t testing.TB, file string, line int, change func(b []byte) []byte) string {
	t.Helper()
	l := strings.Split(file, "\n")
	b, err := base64.StdEncoding.DecodeString(l[line])
	if err != nil {
		t.Fatal(err)
	}
	l[line] = encode(change(b))
	return strings.Join(l, "\n")
}

// put returns a change that overwrites bytes.
func put(at int, with string) func([]byte) []byte {
	return func(b []byte) []byte { copy(b[at:], with); return b }
}

func TestKeyID(t *testing.T) {
	id := KeyID{0x7F, 0x1E, 0xAF, 0xEA, 0x5B, 0x3F, 0x7F, 0x0B}
	if got := id.String(); got != "0B7F3F5BEAAF1E7F" {
		t.Errorf("String = %s", got)
	}
}

func TestLines(t *testing.T) {
	if _, err := lines(strings.Repeat("x", maxFile), 1); err != nil {
		t.Errorf("a file of the largest size: %v", err)
	}
	if _, err := lines(strings.Repeat("x", maxFile+1), 1); !errors.Is(err, ErrFormat) {
		t.Errorf("a larger file: %v", err)
	}
}

func TestNewKey(t *testing.T) {
	if _, err := NewKey(bytes.NewReader(make([]byte, 39))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short of random bytes: %v", err)
	}
	if a, b := someKey(1).Public(), someKey(2).Public(); a.ID == b.ID || a.Key == b.Key {
		t.Error("two keys are alike")
	}
}

// TestSecretStaysSecret prints a key in all ways that come to mind.
func TestSecretStaysSecret(t *testing.T) {
	k := someKey('k')
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
		for _, v := range []any{k, &k} {
			if got := fmt.Sprintf(verb, v); got != "secret key 6B6B6B6B6B6B6B6B" {
				t.Errorf("%s prints %s", verb, got)
			}
		}
	}
}

// accept are changes of a file that make no difference.
var accept = map[string]func(string) string{
	"as it is":          func(f string) string { return f },
	"no newline at end": func(f string) string { return strings.TrimSuffix(f, "\n") },
	"CR LF":             func(f string) string { return strings.ReplaceAll(f, "\n", "\r\n") },
	"another comment":   func(f string) string { return "untrusted comment: ü\t " + f[strings.Index(f, "\n"):] },
	"longest comment": func(f string) string {
		return commentPrefix + strings.Repeat("x", maxComment) + f[strings.Index(f, "\n"):]
	},
}

// refuse are changes that leave no file of any kind.
var refuse = map[string]func(string) string{
	"nothing":           func(string) string { return "" },
	"newlines":          func(string) string { return strings.Repeat("\n", maxFile) },
	"too large":         func(f string) string { return f + strings.Repeat("\n", maxFile) },
	"empty line":        func(f string) string { return f + "\n" },
	"line at end":       func(f string) string { return f + "more\n" },
	"no first line":     func(f string) string { return f[1:] },
	"no comment prefix": func(f string) string { return strings.Replace(f, "untrusted comment: ", "comment: ", 1) },
	"comment too long": func(f string) string {
		return commentPrefix + strings.Repeat("x", maxComment+1) + f[strings.Index(f, "\n"):]
	},
	"CR in comment":      func(f string) string { return strings.Replace(f, "comment: ", "comment: \r", 1) },
	"zero in comment":    func(f string) string { return strings.Replace(f, "comment: ", "comment: \x00", 1) },
	"escape in comment":  func(f string) string { return strings.Replace(f, "comment: ", "comment: \x1b", 1) },
	"C1 in comment":      func(f string) string { return strings.Replace(f, "comment: ", "comment: \u009b", 1) },
	"no UTF-8":           func(f string) string { return strings.Replace(f, "comment: ", "comment: \xff", 1) },
	"short base64":       func(f string) string { return strings.Replace(f, "\nRW", "\nR", 1) },
	"blank in base64":    func(f string) string { return strings.Replace(f, "\nRW", "\n W", 1) },
	"CR in base64":       func(f string) string { return strings.Replace(f, "\nRW", "\nR\r", 1) },
	"CR between base64":  func(f string) string { return strings.Replace(f, "\nRW", "\nR\rW", 1) },
	"newline in base64":  func(f string) string { return strings.Replace(f, "\nRW", "\nR\n", 1) },
	"URL base64":         func(f string) string { return strings.Replace(f, "\nRW", "\nR_", 1) },
	"base64 cut":         func(f string) string { return strings.Replace(f, "\nRW", "\n", 1) },
	"base64 padded":      func(f string) string { return f[:len(f)-4] + "===\n" },
	"another algorithm":  func(f string) string { return strings.Replace(f, "\nRW", "\nRX", 1) },
	"a PEM file instead": func(string) string { return "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" },
}

func TestParsePublicKey(t *testing.T) {
	want := someKey('p').Public()
	good, err := want.File("a comment")
	if err != nil || string(good) != "untrusted comment: a comment\n"+want.String()+"\n" {
		t.Fatalf("File = %s, %v", good, err)
	}
	for name, change := range accept {
		if k, err := ParsePublicKey(change(string(good))); err != nil || k != want {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	for _, line := range []string{want.String(), want.String() + "\n", want.String() + "\r\n"} {
		if k, err := ParsePublicKey(line); err != nil || k != want {
			t.Errorf("%q: %v, %v", line, k, err)
		}
	}
	for name, change := range refuse {
		if k, err := ParsePublicKey(change(string(good))); !errors.Is(err, ErrFormat) || k != (PublicKey{}) {
			t.Errorf("%s: %v, %v, want ErrFormat", name, k, err)
		}
	}
	secret, _ := someKey('p').File(nil, nil)
	for name, text := range map[string]string{
		"zeros":        PublicKey{ID: want.ID}.String(),
		"two lines":    want.String() + "\n" + want.String(),
		"blank before": " " + want.String(),
		"blank after":  want.String() + " ",
		"longer":       changed(t, want.String(), 0, func(b []byte) []byte { return append(b, 0) }),
		"shorter":      changed(t, want.String(), 0, func(b []byte) []byte { return b[:len(b)-2] }),
		"secret key":   string(secret),
		"prehashed":    changed(t, want.String(), 0, put(0, hashedAlgorithm)),
	} {
		if _, err := ParsePublicKey(text); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error = %v, want ErrFormat", name, err)
		}
	}
	for _, comment := range []string{"two\nlines", "\r", "\x7f", "\xff", strings.Repeat("x", maxComment+1)} {
		if _, err := want.File(comment); err == nil {
			t.Errorf("File takes the comment %.10q", comment)
		}
	}
}

func TestParseSecretKey(t *testing.T) {
	want := someKey('s')
	plain, err := want.File(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	least := cost{minOps, minMemory}
	sealed, err := want.file([]byte("open"), bytes.NewReader(make([]byte, 32)), least)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(plain), "untrusted comment: minisign unencrypted secret key 7373737373737373\n") ||
		!strings.HasPrefix(string(sealed), "untrusted comment: minisign encrypted secret key 7373737373737373\n") {
		t.Errorf("comments of %s%s", plain, sealed)
	}
	for name, file := range map[string][]byte{"plain": plain, "sealed": sealed} {
		for change, f := range accept {
			k, err := ParseSecretKey([]byte(f(string(file))), []byte("open"))
			if err != nil || k.Public() != want.Public() || !bytes.Equal(k.key, want.key) {
				t.Errorf("%s, %s: %v, %v", name, change, k, err)
			}
		}
		for change, f := range refuse {
			if k, err := ParseSecretKey([]byte(f(string(file))), []byte("open")); !errors.Is(err, ErrFormat) || k.key != nil {
				t.Errorf("%s, %s: %v, %v, want ErrFormat", name, change, k, err)
			}
		}
	}
	le := func(at int, hex string) func([]byte) []byte { return put(at, unhex(hex)) }
	for _, c := range []struct {
		name     string
		file     []byte
		change   func([]byte) []byte
		password string
		want     error
	}{
		{"wrong password", sealed, nil, "opem", ErrPassword},
		{"no password", sealed, nil, "", ErrEncrypted},
		{"damaged", sealed, put(secretAt, "x"), "open", ErrPassword},
		{"damaged checksum", sealed, put(secretSize-1, "x"), "open", ErrPassword},
		{"another salt", sealed, put(saltAt, "x"), "open", ErrPassword},
		{"more operations", sealed, le(opsAt, "0100000200000000"), "open", ErrFormat},
		{"all operations", sealed, le(opsAt, "ffffffffffffffff"), "open", ErrFormat},
		{"fewer operations", sealed, le(opsAt, "ff7f000000000000"), "open", ErrFormat},
		{"more memory", sealed, le(memoryAt, "0100004000000000"), "open", ErrFormat},
		{"less memory", sealed, le(memoryAt, "ffffff0000000000"), "open", ErrFormat},
		{"no memory", sealed, le(memoryAt, "0000000000000000"), "open", ErrFormat},
		{"another derivation", sealed, put(kdfAt, "Ar"), "open", ErrFormat},
		{"another checksum kind", plain, put(chkAt, "S2"), "", ErrFormat},
		{"wrong checksum", plain, put(checksumAt, "x"), "", ErrFormat},
		{"other half", plain, put(secretAt+32, "x"), "", ErrFormat},
		{"other seed", plain, put(secretAt, "x"), "", ErrFormat},
		{"longer", plain, func(b []byte) []byte { return append(b, 0) }, "", ErrFormat},
		{"shorter", plain, func(b []byte) []byte { return b[:secretSize-1] }, "", ErrFormat},
		{"said to be plain", sealed, put(kdfAt, kdfNone), "", ErrFormat},
	} {
		file := string(c.file)
		if c.change != nil {
			file = changed(t, file, 1, c.change)
		}
		if k, err := ParseSecretKey([]byte(file), []byte(c.password)); !errors.Is(err, c.want) || k.key != nil {
			t.Errorf("%s: %v, %v, want %v", c.name, k, err, c.want)
		}
	}
	withSum := changed(t, string(plain), 1, func(b []byte) []byte { return append(b[:checksumAt], checksum(b)...) })
	if k, err := ParseSecretKey([]byte(withSum), nil); err != nil || k.Public() != want.Public() {
		t.Errorf("with the right checksum: %v, %v", k, err)
	}
}

func unhex(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestSecretKeyFileRefuses(t *testing.T) {
	salt := make([]byte, 32)
	for name, c := range map[string]struct {
		password string
		rand     []byte
	}{
		"line break":   {"a\nb", salt},
		"CR":           {"a\r", salt},
		"zero":         {"a\x00", salt},
		"too long":     {strings.Repeat("x", maxPassword+1), salt},
		"short random": {"a", salt[1:]},
	} {
		if file, err := someKey('s').file([]byte(c.password), bytes.NewReader(c.rand), cost{minOps, minMemory}); err == nil || file != nil {
			t.Errorf("%s: File = %s, %v", name, file, err)
		}
	}
}

// TestDerive holds what libsodium 1.0.18 returned for the password "kedge" and
// the salt 0, 1, … 31: the first 8 and the last 4 of 104 bytes.
func TestDerive(t *testing.T) {
	var salt [32]byte
	for i := range salt {
		salt[i] = byte(i)
	}
	for _, c := range []struct {
		cost
		want string
	}{
		{cost{1 << 15, 1 << 24}, "6c418af6ce40022d c26dd301"},
		{cost{32769, 17000001}, "6c418af6ce40022d c26dd301"},
		{cost{100000, 1 << 25}, "1aad486c0ef569b7 78ee278c"},
		{cost{1 << 19, 1 << 24}, "254e248c682fe9f2 76d7e609"},
		{cost{1 << 20, 1 << 25}, "0a9c8108d5891d28 cb45befe"},
		{cost{1 << 21, 1 << 24}, "d9ec8bbda6e927fc 0603916c"},
		{cost{1500000, 20000000}, "ab4c9465f0f7a08d b58b806a"},
	} {
		b, err := c.derive([]byte("kedge"), salt[:], 104)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x %x", b[:8], b[100:]); got != c.want {
			t.Errorf("%+v: %s, want %s", c.cost, got, c.want)
		}
	}
	if n, p := (cost{maxOps, maxMemory}).scrypt(); n != 1<<20 || p != 1 {
		t.Errorf("full cost: N %d, p %d", n, p)
	}
}

func TestSign(t *testing.T) {
	key := someKey('k')
	trusted := []PublicKey{someKey('a').Public(), key.Public()}
	for _, c := range []struct{ message, trusted, untrusted string }{
		{"", "", ""},
		{"message", "version:1\tü", "untrusted"},
		{strings.Repeat("long", 1<<20), strings.Repeat("x", maxTrusted), strings.Repeat("x", maxComment)},
	} {
		file, err := Sign(key, iotest.HalfReader(strings.NewReader(c.message)), c.trusted, c.untrusted)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseSignature(file)
		if err != nil {
			t.Fatal(err)
		}
		if c.untrusted == "" {
			c.untrusted = "signature from minisign secret key"
		}
		if s.ID != key.Public().ID || !s.Prehashed || s.TrustedComment != c.trusted || s.Comment != c.untrusted {
			t.Errorf("ParseSignature = %+v", s)
		}
		if err := s.Verify(trusted, strings.NewReader(c.message)); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct{ trusted, untrusted string }{
		{"two\nlines", ""}, {"", "two\nlines"}, {"\r", ""}, {"", "\x00"}, {"\xff", ""}, {"", "\x1b"},
		{strings.Repeat("x", maxTrusted+1), ""}, {"", strings.Repeat("x", maxComment+1)},
	} {
		if file, err := Sign(key, strings.NewReader(""), c.trusted, c.untrusted); err == nil || file != nil {
			t.Errorf("Sign takes the comments %.10q, %.10q", c.trusted, c.untrusted)
		}
	}
	if file, err := Sign(key, iotest.ErrReader(io.ErrNoProgress), "", ""); !errors.Is(err, io.ErrNoProgress) || file != nil {
		t.Errorf("Sign = %s, %v", file, err)
	}
}

func TestParseSignatureRefuses(t *testing.T) {
	b, err := Sign(someKey('k'), strings.NewReader("message"), "trusted", "")
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Replace(string(b), "\nRU", "\nRW", 1) // so that refuse finds its place; legacy
	for name, change := range accept {
		if _, err := ParseSignature([]byte(change(good))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range refuse {
		if s, err := ParseSignature([]byte(change(good))); !errors.Is(err, ErrFormat) || s != (Signature{}) {
			t.Errorf("%s: %v, %v, want ErrFormat", name, s, err)
		}
	}
	l := strings.SplitAfter(good, "\n")
	for name, file := range map[string]string{
		"no trusted comment":       l[0] + l[1],
		"no global signature":      l[0] + l[1] + l[2],
		"no trusted prefix":        l[0] + l[1] + l[0] + l[3],
		"trusted comment too long": l[0] + l[1] + trustedPrefix + strings.Repeat("x", maxTrusted+1) + "\n" + l[3],
		"control character":        l[0] + l[1] + trustedPrefix + "\x1b[2J\n" + l[3],
		"short global signature":   changed(t, good, 3, func(b []byte) []byte { return b[:63] }),
		"long signature":           changed(t, good, 1, func(b []byte) []byte { return append(b, 0) }),
		"loose bits in base64":     l[0] + l[1] + l[2] + l[3][:85] + string(l[3][85]+1) + "==\n",
		"algorithm":                changed(t, good, 1, put(0, "eD")),
	} {
		if _, err := ParseSignature([]byte(file)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error = %v, want ErrFormat", name, err)
		}
	}
}

func TestVerify(t *testing.T) {
	key, other := someKey('k').Public(), someKey('o').Public()
	sameID := PublicKey{key.ID, other.Key}
	for _, name := range []string{"Sign", "prehashed", "legacy"} {
		file, signer := []byte(nil), key
		message := read(t, "testdata", "message")
		if name == "Sign" {
			var err error
			if file, err = Sign(someKey('k'), bytes.NewReader(message), "trusted", ""); err != nil {
				t.Fatal(err)
			}
		} else {
			file, signer = read(t, "testdata", name+".minisig"), publicKey(t, "testdata", "plain")
			sameID.ID = signer.ID
		}
		s, err := ParseSignature(file)
		if err != nil {
			t.Fatal(err)
		}
		with := func(change func(*Signature)) Signature { c := s; change(&c); return c }
		for _, c := range []struct {
			name    string
			s       Signature
			keys    []PublicKey
			message string
			want    error
		}{
			{"one key", s, []PublicKey{signer}, string(message), nil},
			{"one of two", s, []PublicKey{other, signer}, string(message), nil},
			{"one of two with the same ID", s, []PublicKey{sameID, signer}, string(message), nil},
			{"another comment", with(func(s *Signature) { s.Comment = "anything" }), []PublicKey{signer}, string(message), nil},
			{"no key", s, nil, string(message), ErrUnknownKey},
			{"another key", s, []PublicKey{other}, string(message), ErrUnknownKey},
			{"another key of this ID", s, []PublicKey{sameID}, string(message), ErrSignature},
			{"another message", s, []PublicKey{signer}, string(message) + " ", ErrSignature},
			{"no message", s, []PublicKey{signer}, "", ErrSignature},
			{"another trusted comment", with(func(s *Signature) { s.TrustedComment += " " }), []PublicKey{signer}, string(message), ErrSignature},
			{"another ID", with(func(s *Signature) { s.ID = other.ID }), []PublicKey{signer, other}, string(message), ErrSignature},
			{"another way", with(func(s *Signature) { s.Prehashed = !s.Prehashed }), []PublicKey{signer}, string(message), ErrSignature},
			{"signatures swapped", with(func(s *Signature) { s.signature, s.global = s.global, s.signature }), []PublicKey{signer}, string(message), ErrSignature},
		} {
			err := c.s.Verify(c.keys, strings.NewReader(c.message))
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s, %s: Verify = %v, want %v", name, c.name, err, c.want)
			}
		}
		for i := range len(s.signature) * 8 {
			bit := byte(1) << (i % 8)
			for _, c := range []Signature{
				with(func(s *Signature) { s.signature[i/8] ^= bit }),
				with(func(s *Signature) { s.global[i/8] ^= bit }),
			} {
				if err := c.Verify([]PublicKey{signer}, bytes.NewReader(message)); !errors.Is(err, ErrSignature) {
					t.Errorf("%s, bit %d flipped: Verify = %v, want ErrSignature", name, i, err)
				}
			}
		}
	}
}

// TestVerifySays holds the texts that a person acts on.
func TestVerifySays(t *testing.T) {
	s := Signature{ID: someKey('k').Public().ID, Prehashed: true}
	for _, c := range []struct {
		keys []PublicKey
		want string
	}{
		{nil, "signed by an unknown key: 6B6B6B6B6B6B6B6B, trusted: none"},
		{[]PublicKey{someKey('a').Public(), someKey('b').Public()}, "signed by an unknown key: 6B6B6B6B6B6B6B6B, trusted: 6161616161616161, 6262626262626262"},
		{[]PublicKey{someKey('k').Public()}, "wrong signature: key 6B6B6B6B6B6B6B6B has not signed this trusted comment"},
	} {
		if err := s.Verify(c.keys, strings.NewReader("")); err == nil || err.Error() != c.want {
			t.Errorf("Verify = %v, want %s", err, c.want)
		}
	}
}

// TestVerifyKeyOfZeros tries what everybody can make for a key of zeros: a
// point of order 4, so that about every fourth trusted comment would pass.
func TestVerifyKeyOfZeros(t *testing.T) {
	for i := range 64 {
		s := Signature{Prehashed: true, TrustedComment: fmt.Sprint(i)}
		s.signature[0], s.global[0] = 1, 1 // R is the neutral point, S is 0
		if err := s.Verify(make([]PublicKey, 1), strings.NewReader("")); !errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), "comment") {
			t.Fatalf("Verify = %v", err)
		}
	}
}

// endless counts what is read of it.
type endless struct{ n int64 }

func (e *endless) Read(b []byte) (int, error) { e.n += int64(len(b)); return len(b), nil }

// TestVerifyReads holds when and how much of a message is read.
func TestVerifyReads(t *testing.T) {
	legacy, err := ParseSignature(read(t, "testdata", "legacy.minisig"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := []PublicKey{publicKey(t, "testdata", "plain")}
	var e endless
	if err := legacy.Verify(trusted, &e); err == nil || errors.Is(err, ErrSignature) || e.n > maxLegacy+1 {
		t.Errorf("Verify = %v after %d bytes", err, e.n)
	}
	e.n = 0
	if err := legacy.Verify(nil, &e); !errors.Is(err, ErrUnknownKey) || e.n > 0 {
		t.Errorf("Verify = %v after %d bytes", err, e.n)
	}
	legacy.TrustedComment = ""
	if err := legacy.Verify(trusted, &e); !errors.Is(err, ErrSignature) || e.n > 0 {
		t.Errorf("Verify = %v after %d bytes", err, e.n)
	}
	hashed, err := ParseSignature(read(t, "testdata", "prehashed.minisig"))
	if err != nil {
		t.Fatal(err)
	}
	if err := hashed.Verify(trusted, iotest.ErrReader(io.ErrNoProgress)); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Verify = %v, want the reader's error", err)
	}
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add(string(read(f, "testdata", "plain.pub")))
	f.Add(someKey('p').Public().String())
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParsePublicKey(text)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("error = %v, want ErrFormat", err)
			}
			return
		}
		file, err := k.File("")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParsePublicKey(string(file)); err != nil || again != k || !strings.Contains(text, k.String()) {
			t.Errorf("%q is read as %s, then as %s, %v", text, k, again, err)
		}
	})
}

// FuzzParseSecretKey gives no password: with one every try would be slow.
func FuzzParseSecretKey(f *testing.F) {
	f.Add(read(f, "testdata", "plain.key"))
	f.Add(read(f, "testdata", "sealed.key"))
	f.Fuzz(func(t *testing.T, file []byte) {
		k, err := ParseSecretKey(file, nil)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrEncrypted) {
				t.Errorf("error = %v, want ErrFormat or ErrEncrypted", err)
			}
			return
		}
		written, err := k.File(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseSecretKey(written, nil); err != nil || again.id != k.id || !bytes.Equal(again.key, k.key) {
			t.Errorf("%v comes back as %v, %v", k, again, err)
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	for _, name := range []string{"prehashed", "legacy", "own"} {
		f.Add(read(f, "testdata", name+".minisig"))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := ParseSignature(file)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("error = %v, want ErrFormat", err)
			}
			return
		}
		if again, err := ParseSignature(s.file()); err != nil || again != s {
			t.Errorf("%+v comes back as %+v, %v", s, again, err)
		}
		unix := bytes.ReplaceAll(file, []byte("\r\n"), []byte("\n"))
		if !bytes.Equal(bytes.TrimSuffix(unix, []byte("\n")), bytes.TrimSuffix(s.file(), []byte("\n"))) {
			t.Errorf("%q is written as %q", file, s.file())
		}
	})
}
