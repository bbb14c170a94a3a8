package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/minisign"
)

// TestTrustImage: what does not come from the running medium is installed only
// when somebody has signed it whom the system or the configuration trusts.
func TestTrustImage(t *testing.T) {
	key, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().File("")
	if err != nil {
		t.Fatal(err)
	}
	ours := t.TempDir()
	if err := os.WriteFile(filepath.Join(ours, "ours.pub"), public, 0o644); err != nil {
		t.Fatal(err)
	}
	signed, unsigned := makeImage(t, imageSpec{version: "0.2.0", key: &key}), makeImage(t, imageSpec{version: "0.2.0"})
	for _, c := range []struct {
		name   string
		image  []byte
		policy config.Upgrade
		keys   string // folder
		want   error
		says   string
	}{
		{"by a key of the system", signed, config.Upgrade{}, ours, nil, "install: signed: kedge 0.2.0"},
		{"by a key of the configuration", signed, config.Upgrade{Keys: []string{string(public)}}, t.TempDir(), nil, "install: signed: kedge 0.2.0"},
		{"by a stranger", signed, config.Upgrade{}, t.TempDir(), minisign.ErrUnknownKey, ""},
		{"by nobody", unsigned, config.Upgrade{}, ours, release.ErrUnsigned, ""},
		{"by nobody, which is allowed", unsigned, config.Upgrade{AllowUnsigned: true}, ours, nil, "WARNING"},
	} {
		i, err := release.Open(bytes.NewReader(c.image), int64(len(c.image)))
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		err = trustImage(t.Context(), i, c.policy, filepath.Join(c.keys, "*.pub"), &said)
		if !errors.Is(err, c.want) || !strings.Contains(said.String(), c.says) || c.want != nil && !strings.Contains(err.Error(), "0.2.0") {
			t.Errorf("%s: %v, said %q", c.name, err, said.String())
		}
	}
}

// An installation that cannot begin says why, and is closed.
func TestInstallerThatCannotBegin(t *testing.T) {
	i, err := newInstaller(t.Context(), installOptions{config: filepath.Join(t.TempDir(), "missing.yaml")}, io.Discard)
	if i != nil || err == nil {
		t.Errorf("newInstaller = %v, %v", i, err)
	}
}
