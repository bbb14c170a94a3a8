package judge

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestEmptyFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "state.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 8<<20); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if out, status, err := run(ctx, "", "mkfs.ext4", "-q", image); err != nil || status != 0 {
		t.Fatalf("mkfs.ext4: %s (%v)", out, err)
	}
	const script = `mkdir "/lib"
mkdir "/lib/a b"
write /dev/null "/lib/a b/0123456789abcdef.key"
write /dev/null "/lib/was-empty"
write /etc/passwd "/lib/whole"
symlink "/lib/link" whole
`
	if out, status, err := run(ctx, script, "debugfs", "-w", "-f", "-", image); err != nil || status != 0 {
		t.Fatalf("debugfs: %s (%v)", out, err)
	}
	end := contents{
		folders: []string{"", "lib", "lib/a b", "gone"},
		full:    map[string]bool{"lib/a b/0123456789abcdef.key": true, "lib/whole": true, "gone/file": true},
	}
	entries, err := list(ctx, image, end.folders)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if e.path != "lost+found" {
			all = append(all, e.path)
		}
	}
	if want := []string{"lib", "lib/a b", "lib/was-empty", "lib/whole", "lib/a b/0123456789abcdef.key"}; !slices.Equal(all, want) {
		t.Errorf("entries %q, want %q", all, want)
	}
	c := &Room{judge: &Judge{end: end}}
	if got, err := c.empty(ctx, image); err != nil || !slices.Equal(got, []string{"lib/a b/*.key"}) {
		t.Errorf("empty: %q, %v", got, err)
	}
}
