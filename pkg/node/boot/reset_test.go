package boot

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResetState(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"lib/kedge/config.d/50-install.yaml", "lib/kedge/machine-id", "lib/rancher/k3s/server/db/state.db", "log/x", "home/kedge/.ssh/known_hosts",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := markReset(dir); err != nil {
		t.Fatal(err)
	}
	if err := resetState(dir); err != nil {
		t.Fatal(err)
	}
	var left []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			left = append(left, name)
		}
		return err
	})
	if strings.Join(left, " ") != "lib/kedge/config.d/50-install.yaml" {
		t.Errorf("left: %v", left)
	}
}
