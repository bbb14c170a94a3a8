package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files and generated files again")

// TestK3OSFiles reads files in all the forms that k3OS took. A golden file has
// what a machine applies, what it skips, and what validate says.
func TestK3OSFiles(t *testing.T) {
	paths, err := filepath.Glob("testdata/k3os/*.yaml")
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".golden", report(t, data))
		})
	}
}

func report(t *testing.T, data []byte) string {
	t.Helper()
	var b strings.Builder
	layer, skipped := Parse("f", data)
	applied, err := Marshal(layer.Config)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "== applied (k3os block: %v, script: %v)\n%s== skipped\n", layer.Config.HasK3OS, layer.Script != nil, applied)
	for _, p := range skipped {
		if p.Fatal {
			b.WriteString("! ")
		}
		fmt.Fprintln(&b, p)
	}
	b.WriteString("== validate\n")
	for _, p := range Validate("f", data) {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it again); got\n%s", path, got)
	}
}
