package minisign

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false, "let the tool make testdata anew")
	full   = flag.Bool("full", false, "also encrypt and decrypt at full cost: 1 GiB of memory, more under -race")
)

const password = "correct horse: ü"

// Keys that the tool makes: without a password, with one under little memory,
// which makes them cheap, and with one at full cost.
var keys = []struct {
	name     string
	password string
	kib      int // address space of the tool; 0 means no limit
}{
	{"plain", "", 0},
	{"sealed", password, 60000},
	{"larger", password, 100000},
	{"full", password, 0},
}

// Signatures that the tool makes of testdata/message.
var signatures = []struct {
	name, key string
	prehashed bool
	trusted   string // empty means the tool's own, which begins with a time
	flags     []string
}{
	{"prehashed", "plain", true, "version:1.2.3\tüber", []string{"-c", "from a test"}},
	{"legacy", "plain", false, "version:1.2.3\tüber", []string{"-l"}},
	{"own", "sealed", true, "", nil},
}

// minisign runs the tool in dir and types the password as often as it is asked.
func minisign(t *testing.T, dir, password string, kib int, args ...string) (string, error) {
	t.Helper()
	c := exec.Command("minisign", args...)
	if kib > 0 {
		c = exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -v %d && exec minisign "$@"`, kib), "sh"}, args...)...)
	}
	c.Dir = dir
	c.Stdin = strings.NewReader(password + "\n" + password + "\n")
	b, err := c.CombinedOutput()
	return string(b), err
}

func mustMinisign(t *testing.T, dir, password string, kib int, args ...string) {
	t.Helper()
	if out, err := minisign(t, dir, password, kib, args...); err != nil {
		t.Fatalf("minisign %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func needTool(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("minisign"); err != nil {
		t.Skip(err)
	}
}

func read(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// makeVectors lets the tool make all keys and signatures in dir.
func makeVectors(t *testing.T, dir string) {
	write(t, dir, "message", []byte("Kedge\x00\r\n"+strings.Repeat("release ", 100)))
	of := map[string]string{}
	for _, k := range keys {
		if k.name == "full" && !*full && !*update {
			continue
		}
		args := []string{"-G", "-f", "-p", k.name + ".pub", "-s", k.name + ".key"}
		if k.password == "" {
			args = append(args, "-W")
		}
		mustMinisign(t, dir, k.password, k.kib, args...)
		of[k.name] = k.password
	}
	for _, s := range signatures {
		args := append([]string{"-S", "-s", s.key + ".key", "-x", s.name + ".minisig", "-m", "message"}, s.flags...)
		if s.trusted != "" {
			args = append(args, "-t", s.trusted)
		}
		mustMinisign(t, dir, of[s.key], 0, args...)
	}
}

// readVectors reads what the tool has made in dir.
func readVectors(t *testing.T, dir string) {
	for _, k := range keys {
		t.Run(k.name, func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(dir, k.name+".pub")); err != nil && k.name == "full" {
				t.Skip("needs -full")
			}
			readKey(t, dir, k.name, k.password)
		})
	}
	for _, s := range signatures {
		t.Run(s.name, func(t *testing.T) {
			file := read(t, dir, s.name+".minisig")
			got, err := ParseSignature(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.file(), file) {
				t.Errorf("written again:\n%s\nwant:\n%s", got.file(), file)
			}
			if own := strings.HasPrefix(got.TrustedComment, "timestamp:"); got.Prehashed != s.prehashed || s.trusted != "" && got.TrustedComment != s.trusted || s.trusted == "" && !own {
				t.Errorf("ParseSignature = %+v", got)
			}
			var all []PublicKey
			for _, name := range []string{"larger", "sealed", "plain"} {
				all = append(all, publicKey(t, dir, name))
			}
			message := read(t, dir, "message")
			if err := got.Verify(all, bytes.NewReader(message)); err != nil {
				t.Errorf("Verify: %v", err)
			}
			if err := got.Verify(all, bytes.NewReader(message[1:])); !errors.Is(err, ErrSignature) {
				t.Errorf("Verify another message = %v, want ErrSignature", err)
			}
			if err := got.Verify(all[:1], bytes.NewReader(message)); !errors.Is(err, ErrUnknownKey) {
				t.Errorf("Verify with another key = %v, want ErrUnknownKey", err)
			}
		})
	}
}

func publicKey(t testing.TB, dir, name string) PublicKey {
	t.Helper()
	k, err := ParsePublicKey(string(read(t, dir, name+".pub")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// readKey reads a pair of keys of the tool.
func readKey(t *testing.T, dir, name, password string) {
	text := read(t, dir, name+".pub")
	public := publicKey(t, dir, name)
	if file, err := public.File(""); err != nil || !bytes.Equal(unpad(file), unpad(text)) {
		t.Errorf("File = %s, %v, want %s", file, err, text)
	}
	if short, err := ParsePublicKey(public.String()); err != nil || short != public || !bytes.Contains(text, []byte(short.String()+"\n")) {
		t.Errorf("ParsePublicKey(%s) = %+v, %v", public, short, err)
	}
	file := read(t, dir, name+".key")
	if password != "" {
		if _, err := ParseSecretKey(file, nil); !errors.Is(err, ErrEncrypted) {
			t.Errorf("without password: %v, want ErrEncrypted", err)
		}
		if name == "full" && !*full {
			return
		}
		if _, err := ParseSecretKey(file, []byte(password+" ")); !errors.Is(err, ErrPassword) {
			t.Errorf("another password: %v, want ErrPassword", err)
		}
	}
	secret, err := ParseSecretKey(file, []byte(password))
	if err != nil || secret.Public() != public {
		t.Fatalf("ParseSecretKey = %v, %v, want the secret of %s", secret, err, public.ID)
	}
	if password == "" {
		again, err := secret.File(nil, nil)
		if err != nil || secondLine(again) != secondLine(file) {
			t.Errorf("File = %s, %v, want as in %s", again, err, file)
		}
	}
}

// unpad drops the zeros that an ID begins with; the tool does so before 0.12.
func unpad(file []byte) []byte { return regexp.MustCompile("key 0+").ReplaceAll(file, []byte("key ")) }

func secondLine(file []byte) string { return strings.Split(string(file), "\n")[1] }

// TestVectors reads testdata, which the tool made: minisign 0.11 of Debian 12.
func TestVectors(t *testing.T) {
	if *update {
		makeVectors(t, "testdata")
	}
	readVectors(t, "testdata")
}

func TestReadWhatTheToolWrites(t *testing.T) {
	needTool(t)
	dir := t.TempDir()
	makeVectors(t, dir)
	readVectors(t, dir)
}

// TestReadWithoutPasswordAnyMore reads a key that was encrypted once.
func TestReadWithoutPasswordAnyMore(t *testing.T) {
	needTool(t)
	dir := t.TempDir()
	write(t, dir, "sealed.key", read(t, "testdata", "sealed.key"))
	mustMinisign(t, dir, password, 0, "-C", "-W", "-s", "sealed.key")
	k, err := ParseSecretKey(read(t, dir, "sealed.key"), nil)
	if err != nil || k.Public() != publicKey(t, "testdata", "sealed") {
		t.Errorf("ParseSecretKey = %v, %v", k, err)
	}
}

// TestTheToolReadsOurs lets the tool verify and sign with what we write.
func TestTheToolReadsOurs(t *testing.T) {
	needTool(t)
	costs := map[string]cost{"none": {}, "least": {minOps, minMemory}, "parallel": {1 << 21, minMemory}}
	if *full {
		costs["full"] = cost{maxOps, maxMemory}
	}
	for name, c := range costs {
		t.Run(name, func(t *testing.T) {
			typed := password
			if name == "none" {
				typed = ""
			}
			toolReads(t, typed, c)
		})
	}
}

func toolReads(t *testing.T, typed string, c cost) {
	dir := t.TempDir()
	key, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := key.file([]byte(typed), rand.Reader, c)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().File("")
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("a message\n")
	signature, err := Sign(key, bytes.NewReader(message), "trusted\tünd long "+strings.Repeat("x", 3000), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"key": secret, "pub": public, "message": message, "changed": []byte("another"), "sig": signature} {
		write(t, dir, name, b)
	}

	mustMinisign(t, dir, "", 0, "-V", "-H", "-p", "pub", "-x", "sig", "-m", "message")
	mustMinisign(t, dir, "", 0, "-V", "-H", "-P", key.Public().String(), "-x", "sig", "-m", "message")
	if out, err := minisign(t, dir, "", 0, "-V", "-p", "pub", "-x", "sig", "-m", "changed"); err == nil {
		t.Errorf("the tool verifies anything:\n%s", out)
	}

	mustMinisign(t, dir, typed, 0, "-R", "-f", "-s", "key", "-p", "again.pub")
	if b := read(t, dir, "again.pub"); !bytes.Equal(unpad(b), unpad(public)) {
		t.Errorf("public key by the tool:\n%s\nby us:\n%s", b, public)
	}
	mustMinisign(t, dir, typed, 0, "-S", "-s", "key", "-x", "by-tool", "-m", "message")
	s, err := ParseSignature(read(t, dir, "by-tool"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify([]PublicKey{key.Public()}, bytes.NewReader(message)); err != nil {
		t.Error(err)
	}
	// Ed25519 leaves no choice: both must sign the same bytes.
	if ours, _ := ParseSignature(signature); ours.signature != s.signature {
		t.Error("the tool signs another way")
	}
}
