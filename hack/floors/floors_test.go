// Package floors checks that the building stands as pkg/doc.go draws it.
package floors

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/kedgeos/kedge/"

// floor says how high each folder stands. Folders of one height do not
// import each other.
var floor = map[string]int{
	"pkg/format": 0, "pkg/api": 1, "pkg/generated": 1, "pkg/sys": 2,
	"pkg/host": 3, "pkg/node": 3, "pkg/cluster": 3,
	"pkg/cli": 4, "cmd": 5, "hack": 6,
}

// only says, for an import that starts with the key, where it may stand.
var only = map[string][]string{
	"k8s.io/":                  {"pkg/api/upgrade", "pkg/generated", "pkg/cluster"},
	"os/exec":                  {"pkg/sys", "hack", "_test.go"},
	"golang.org/x/sys/":        {"pkg/sys"},
	module + "pkg/cluster":     {"pkg/cluster"}, // and cmd/kube, a module of its own
	module + "pkg/sys/systest": {"_test.go"},
}

// top is all that may stand at the top of the tree, dot files aside.
var top = []string{
	"LICENSE", "Makefile", "README.md", "cmd", "config.yaml.example", "go.mod", "go.sum",
	"hack", "images", "kernel", "overlay", "pkg",
	"bin", "dist", // made by make, ignored by git
}

// nested lists the folders whose modules are not part of this building.
var nested = []string{"cmd/kube", "images"}

func within(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }

// room returns the folder of floor that dir lies in, or "".
func room(dir string) string {
	for r := range floor {
		if within(dir, r) {
			return r
		}
	}
	return ""
}

// sources calls f with every Go file of the main module below root.
func sources(t *testing.T, root string, f func(file string, parsed *ast.File)) {
	t.Helper()
	// Parsed in this process, not by running "go list": go test caches a
	// result until a file the test itself opened has changed.
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (slices.Contains(nested, file) || file != "." && strings.HasPrefix(file, ".") || path.Base(file) == "testdata") {
			return fs.SkipDir
		}
		if path.Ext(file) != ".go" || file == "pkg/doc.go" {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path.Join(root, file), nil, parser.ImportsOnly|parser.ParseComments)
		if err == nil {
			f(file, parsed)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFloors(t *testing.T) {
	documented := map[string]bool{}
	sources(t, "../..", func(file string, f *ast.File) {
		dir := path.Dir(file)
		documented[dir] = documented[dir] || f.Doc != nil
		for _, problem := range check(file, f.Imports) {
			t.Error(problem)
		}
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment", dir)
		}
	}
	if len(documented) == 0 {
		t.Error("no package was looked at")
	}
}

// check returns what is wrong with the imports of one file.
func check(file string, imports []*ast.ImportSpec) (problems []string) {
	from := room(path.Dir(file))
	if from == "" {
		return []string{file + ": on no floor"}
	}
	for _, spec := range imports {
		imp, _ := strconv.Unquote(spec.Path.Value)
		to, ours := strings.CutPrefix(imp, module)
		if ours && room(to) != from && floor[room(to)] >= floor[from] {
			problems = append(problems, file+": "+from+" imports "+to+", which is not on a lower floor")
		}
		for prefix, places := range only {
			if strings.HasPrefix(imp, prefix) && !allowed(file, places) {
				problems = append(problems, file+": imports "+imp+", which belongs to "+strings.Join(places, " "))
			}
		}
	}
	return problems
}

func allowed(file string, places []string) bool {
	for _, p := range places {
		if within(path.Dir(file), p) || strings.HasSuffix(file, p) {
			return true
		}
	}
	return false
}

// TestCheckSees proves that check can fail.
func TestCheckSees(t *testing.T) {
	for _, c := range []struct{ file, imp, want string }{
		{"pkg/format/deb/deb.go", module + "pkg/sys/mount", "not on a lower floor"},
		{"pkg/node/boot/boot.go", module + "pkg/host/build", "not on a lower floor"},
		{"pkg/node/boot/boot.go", module + "pkg/node/control", ""},
		{"pkg/node/boot/boot.go", "os/exec", "belongs to"},
		{"pkg/node/boot/boot_test.go", "os/exec", ""},
		{"cmd/agent/main.go", "k8s.io/client-go/kubernetes", "belongs to"},
		{"pkg/util/util.go", "fmt", "on no floor"},
	} {
		got := strings.Join(check(c.file, []*ast.ImportSpec{{Path: &ast.BasicLit{Value: strconv.Quote(c.imp)}}}), "\n")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("check(%s imports %s) = %q, want %q", c.file, c.imp, got, c.want)
		}
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(top, e.Name()) {
			t.Errorf("%s: not a name for the top level", e.Name())
		}
	}
}
