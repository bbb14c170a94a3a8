package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clientPair makes a certificate that signs itself, and its key, both PEM.
func clientPair(t *testing.T) (certificate, key []byte, pool *x509.CertPool) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text}), pool
}

func TestClientCertificate(t *testing.T) {
	certificate, key, pool := clientPair(t)
	s := httptest.NewUnstartedServer(newServer(t, nil))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	s.StartTLS()
	defer s.Close()
	ref, one := s.Listener.Addr().String()+"/kedge:v1", images(t, "amd64")
	o := quick()
	o.SkipVerify, o.Tries = true, 1
	if _, err := Push(t.Context(), ref, one, o); err == nil {
		t.Error("nobody was let in")
	}
	o.Certificate, o.Key = certificate, key
	if _, err := Push(t.Context(), ref, one, o); err != nil {
		t.Fatal(err)
	}
	o.Key = []byte("no key")
	if _, err := Push(t.Context(), ref, one, o); err == nil || !strings.Contains(err.Error(), "read client certificate") {
		t.Errorf("Push with a bad key = %v", err)
	}
}

func TestSkipVerify(t *testing.T) {
	s := httptest.NewUnstartedServer(newServer(t, nil))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	o := quick()
	o.SkipVerify = true
	if _, err := Push(t.Context(), s.Listener.Addr().String()+"/kedge:v1", images(t, "amd64"), o); err != nil {
		t.Error(err)
	}
}

func TestMirrorWithAnotherName(t *testing.T) {
	mirror, one := newServer(t, nil), images(t, "amd64")
	if _, err := Push(t.Context(), mirror.host()+"/cache/renamed:v1", one, quick()); err != nil {
		t.Fatal(err)
	}
	o := quick()
	o.Mirrors = []Mirror{{Name: mirror.host() + "/cache", Repository: "renamed"}}
	file := filepath.Join(t.TempDir(), "f")
	if _, err := Pull(t.Context(), "registry.invalid/os/kedge:v1", "amd64", file, o); err != nil {
		t.Fatal(err)
	}
	same(t, file, one[0].File)
}

// Begin hears of the size before anything is written, and can call it off: no
// other source is asked then.
func TestPullIsCalledOff(t *testing.T) {
	s, one := newServer(t, nil), images(t, "amd64")
	if _, err := Push(t.Context(), s.host()+"/kedge:v1", one, quick()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, full := filepath.Join(dir, "f"), errors.New("no room")
	o, asked := quick(), 0
	o.Mirrors = []Mirror{{Name: s.host()}}
	o.Begin = func(size, have int64) error {
		if asked++; size != 300_000 || have != 0 {
			t.Errorf("Begin(%d, %d)", size, have)
		}
		return full
	}
	if _, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", file, o); !errors.Is(err, full) || asked != 1 {
		t.Errorf("Pull = %v, asked %d times", err, asked)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// A part counts, and a file that is the image is not fetched again.
	if err := os.WriteFile(file+".part", noise(300_000, 1)[:200_000], 0o644); err != nil {
		t.Fatal(err)
	}
	o.Begin = func(size, have int64) error {
		if have != 200_000 {
			t.Errorf("Begin(%d, %d) with a part", size, have)
		}
		return nil
	}
	s.requests("")
	for range 2 {
		if _, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", file, o); err != nil {
			t.Fatal(err)
		}
		same(t, file, one[0].File)
	}
	if asked := s.requests("bytes="); len(asked) != 1 {
		t.Errorf("asked for %q, want the end of the image once", asked)
	}
	o.Begin = func(int64, int64) error { return full }
	if _, err := Pull(t.Context(), s.host()+"/kedge:v1", "amd64", file, o); err != nil {
		t.Errorf("Pull of what is there = %v", err)
	}
}

func TestSplit(t *testing.T) {
	for ref, want := range map[string]string{
		"registry.example:5000/os/kedge:v1":                        "registry.example:5000 os/kedge",
		"registry.example/kedge@sha256:" + strings.Repeat("a", 64): "registry.example kedge",
		"docker.io/library/kedge":                                  "index.docker.io library/kedge",
		"oci:/srv/kedge:v1":                                        " ",
		"oci-archive:kedge.tar":                                    " ",
	} {
		host, repository, err := Split(ref)
		if err != nil || host+" "+repository != want {
			t.Errorf("Split(%s) = %q, %q, %v, want %q", ref, host, repository, err, want)
		}
	}
	if _, _, err := Split("registry.example/UPPER"); err == nil {
		t.Error("Split takes a bad reference")
	}
}
