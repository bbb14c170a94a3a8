package upgrade

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// TestGenerated writes again what "make generate" writes, and compares.
func TestGenerated(t *testing.T) {
	const room = "../../api/upgrade/v1alpha1"
	source, err := os.ReadFile(filepath.Join(room, "doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(source), "//go:generate go ")
	if !ok {
		t.Fatal("no go:generate line")
	}
	line, _, _ = strings.Cut(line, "\n")
	out := t.TempDir()
	var args []string
	for _, arg := range strings.Fields(line) {
		switch {
		case strings.HasPrefix(arg, "output:crd:dir="):
			arg = "output:crd:dir=" + out
		case arg == "object":
			args = append(args, "output:object:dir="+out)
		}
		args = append(args, arg)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = room
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	written, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(written) != 3 {
		t.Errorf("%d files are generated, want 3", len(written))
	}
	for _, f := range written {
		folder := "manifests"
		if filepath.Ext(f.Name()) == ".go" {
			folder = room
		}
		want, err := os.ReadFile(filepath.Join(out, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what follows from the types: run \"make generate\" (%v)", f.Name(), err)
		}
	}
}

// object is a manifest as far as these tests read it.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		MatchConditions []struct{ Expression string }
		Versions        []struct {
			AdditionalPrinterColumns []struct{ Name, JSONPath string }
			Schema                   struct{ OpenAPIV3Schema schema }
		}
	}
}

type schema struct {
	Description string
	Properties  map[string]schema
	Items       *schema
}

func manifests(t *testing.T) (objects []object) {
	t.Helper()
	files, err := fs.Glob(Manifests, "manifests/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := Manifests.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split("\n"+string(b), "\n---\n") {
			var o object
			j, err := yaml.YAMLToJSON([]byte(doc))
			if err == nil {
				err = json.Unmarshal(j, &o)
			}
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if o.Kind != "" {
				objects = append(objects, o)
			}
		}
	}
	return objects
}

func TestManifests(t *testing.T) {
	var names []string
	for _, o := range manifests(t) {
		names = append(names, o.Kind+"/"+o.Metadata.Name)
		for _, v := range o.Spec.Versions {
			explained(t, o.Metadata.Name, v.Schema.OpenAPIV3Schema)
			for _, c := range v.AdditionalPrinterColumns {
				if strings.HasPrefix(c.JSONPath, ".metadata.") {
					continue
				}
				at := v.Schema.OpenAPIV3Schema
				for _, field := range strings.Split(c.JSONPath[1:], ".") {
					at = at.Properties[field]
				}
				if at.Description == "" {
					t.Errorf("%s: column %s shows %s, which is no field", o.Metadata.Name, c.Name, c.JSONPath)
				}
			}
		}
		for _, c := range o.Spec.MatchConditions {
			if !strings.Contains(c.Expression, NodeAccount) {
				t.Errorf("%s does not know %s", o.Metadata.Name, NodeAccount)
			}
		}
	}
	want := "ValidatingAdmissionPolicy/nodeupgrades.upgrade.kedgeos.io ValidatingAdmissionPolicyBinding/nodeupgrades.upgrade.kedgeos.io ValidatingAdmissionPolicy/nodes.upgrade.kedgeos.io ValidatingAdmissionPolicyBinding/nodes.upgrade.kedgeos.io CustomResourceDefinition/nodeupgrades.upgrade.kedgeos.io CustomResourceDefinition/plans.upgrade.kedgeos.io"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("manifests are %s, want %s", got, want)
	}
}

// explained checks that "kubectl explain" has something to say about a field.
func explained(t *testing.T, path string, s schema) {
	t.Helper()
	if s.Description == "" && !strings.HasSuffix(path, ".metadata") {
		t.Errorf("%s is not explained", path)
	}
	for name, p := range s.Properties {
		explained(t, path+"."+name, p)
	}
}

func TestDeepCopy(t *testing.T) {
	p := &v1alpha1.Plan{Spec: planSpec{Windows: []v1alpha1.Window{{Days: []v1alpha1.Weekday{"Sat"}}}}}
	p.DeepCopy().Spec.Windows[0].Days[0] = "Sun"
	if p.Spec.Windows[0].Days[0] != "Sat" {
		t.Error("a copy shares days with the plan")
	}
}
