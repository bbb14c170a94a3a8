package main

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/kedgeos/kedge/pkg/api/chunk"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/host/delta"
	"github.com/kedgeos/kedge/pkg/host/embed"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// An index beside an image goes along, if it is of that image.
func TestPushWithIndex(t *testing.T) {
	dir := t.TempDir()
	image, file := filepath.Join(dir, "image.iso"), filepath.Join(dir, "image.iso"+chunk.Suffix)
	if err := writeImage(image); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := delta.WriteIndex(image, &b); err != nil {
		t.Fatal(err)
	}
	index := b.Bytes()
	stale := bytes.Clone(index)
	stale[24]++
	for _, c := range []struct {
		name  string
		index []byte
		says  string
		found bool
	}{
		{"none", nil, "upgrades to " + image + " fetch the whole image: there is no " + file, false},
		{"of another image", stale, "the whole image: " + file + " is of another image", false},
		{"good", index, "push image.iso.chunks", true},
		{"made before there was a configuration", index, "push image.iso.chunks", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
			defer s.Close()
			if c.index != nil {
				if err := os.WriteFile(file, c.index, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if strings.Contains(c.name, "configuration") {
				if _, err := embed.Set(image, "config.yaml", []byte("hostname: a\n"), true); err != nil {
					t.Fatal(err)
				}
			}
			ref := s.Listener.Addr().String() + "/kedge:v1"
			var out, said bytes.Buffer
			code := cli.Main(t.Context(), cli.Env{Stdout: &out, Stderr: &said, Args: []string{"kedge", "push", image, ref}}, pushCommand())
			if code != 0 || !strings.HasPrefix(out.String(), ref+"@sha256:") || !strings.Contains(said.String(), c.says) {
				t.Fatalf("push ends with %d: %s%s", code, &out, &said)
			}
			r, err := registry.Find(t.Context(), strings.TrimSpace(out.String()), "amd64", registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := r.Attached(t.Context(), registry.ChunksType, chunk.MaxIndex)
			if c.found != (err == nil) || c.found && !bytes.Equal(got, index) {
				t.Errorf("Attached = %d bytes, %v", len(got), err)
			}
		})
	}
}
