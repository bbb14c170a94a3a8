package source

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestClassify(t *testing.T) {
	here := func(name string) bool { return name == "registry.example/here" || name == "usb.img" }
	for name, want := range map[string]Kind{
		"usb":                          USB,
		"usb.img":                      File,
		"./usb":                        File,
		"/srv/kedge.iso":               File,
		"kedge-amd64.iso":              File,
		"images.d/kedge.ISO":           File,
		"registry.example/here":        File,
		"dist/kedge":                   File,
		"kedge":                        File,
		"https://a.example/kedge.iso":  Web,
		"HTTP://a.example/kedge":       Web,
		"oci:/srv/kedge:v1":            Layout,
		"oci-archive:kedge.tar":        Layout,
		"registry.example/kedge:v1":    Registry,
		"registry:5000/os/kedge":       Registry,
		"localhost/kedge":              Registry,
		"10.0.0.1/kedge@sha256:abcdef": Registry,
	} {
		if got, err := Classify(name, here); err != nil || got != want {
			t.Errorf("Classify(%s) = %v, %v, want %v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "ftp://a/b", "docker://a.example/b", "file:///a"} {
		if _, err := Classify(bad, here); !errors.Is(err, ErrForm) {
			t.Errorf("Classify(%s) = %v", bad, err)
		}
	}
}

func TestRoom(t *testing.T) {
	const m = 1 << 20
	for _, c := range []struct {
		size, have, free int64
		says             string // "" for room
	}{
		{140 * m, 0, 204 * m, ""},
		{140 * m, 0, 204*m - 1, "140.0 MiB, of which 0.0 MiB are here; 204.0 MiB are free in /var, and 64.0 MiB of them are left so"},
		{140 * m, 100 * m, 104 * m, ""},
		{140 * m, 100 * m, 103 * m, "of which 100.0 MiB are here; 103.0 MiB are free"},
		{140 * m, 140 * m, 64 * m, ""},
		{140 * m, 0, 10 * m, "10.0 MiB are free in /var, and 10.0 MiB of them"},
		{-1, 0, 64*m + 1, ""},
		{-1, 0, 64 * m, "64.0 MiB are free in /var, and 64.0 MiB of them"},
	} {
		err := Room(c.size, c.have, c.free)
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, ErrRoom) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("Room(%d, %d, %d) = %v, want %q", c.size, c.have, c.free, err, c.says)
		}
	}
}

func TestClockBehind(t *testing.T) {
	made := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	certificate := &x509.Certificate{NotBefore: made, NotAfter: made.AddDate(1, 0, 0)}
	err := fmt.Errorf("fetch: %w", x509.CertificateInvalidError{Cert: certificate, Reason: x509.Expired})
	if got := ClockBehind(err, time.Unix(180, 0)); !strings.Contains(got, "says 1970-01-01 00:03") || !strings.Contains(got, "2026-03-01") || !strings.Contains(got, "date -u -s") {
		t.Errorf("ClockBehind = %q", got)
	}
	for name, err := range map[string]error{
		"an expired one":  fmt.Errorf("fetch: %w", x509.CertificateInvalidError{Cert: certificate, Reason: x509.Expired}),
		"another problem": x509.UnknownAuthorityError{},
		"no problem":      nil,
	} {
		if got := ClockBehind(err, made.AddDate(2, 0, 0)); got != "" {
			t.Errorf("%s: ClockBehind = %q", name, got)
		}
	}
}
