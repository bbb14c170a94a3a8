package plans

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// An openAPI is a schema of a resource definition, as far as plans use it.
type openAPI struct {
	Type       string
	Properties map[string]openAPI
	Items      *openAPI
	Required   []string
	Enum       []any
	Pattern    string
	Minimum    *float64
	Maximum    *float64
	MinLength  int
	MaxLength  *int
	MaxItems   *int
	Either     bool                             `json:"x-kubernetes-int-or-string"`
	Rules      []struct{ Rule, Message string } `json:"x-kubernetes-validations"`
	Additional *struct{ Type string }           `json:"additionalProperties"`
}

// definition returns what the API server checks plans against.
func definition(t *testing.T) openAPI {
	t.Helper()
	text, err := upgrade.Manifests.ReadFile("manifests/upgrade.kedgeos.io_plans.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Spec struct {
			Versions []struct {
				Schema struct{ OpenAPIV3Schema openAPI }
			}
		}
	}
	if err := yaml.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// check returns what is wrong with a value.
func (s openAPI) check(t *testing.T, at string, v any) (problems []string) {
	wrong := func(format string, args ...any) {
		problems = append(problems, at+": "+fmt.Sprintf(format, args...))
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" {
			wrong("an object")
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				wrong("%s is missing", name)
			}
		}
		for name, value := range v {
			p, known := s.Properties[name]
			switch {
			case known:
				problems = append(problems, p.check(t, at+"."+name, value)...)
			case s.Additional == nil && at+"."+name != ".metadata.name":
				wrong("%s is not known", name)
			}
		}
	case []any:
		if s.Type != "array" || s.MaxItems != nil && len(v) > *s.MaxItems {
			wrong("a list of %d", len(v))
		} else {
			for i, item := range v {
				problems = append(problems, s.Items.check(t, fmt.Sprintf("%s[%d]", at, i), item)...)
			}
		}
	case string:
		switch {
		case s.Type != "string" && !s.Either:
			wrong("a string")
		case s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v):
			wrong("%q does not match %s", v, s.Pattern)
		case len(v) < s.MinLength || s.MaxLength != nil && len(v) > *s.MaxLength:
			wrong("%d characters", len(v))
		}
	case json.Number:
		n, err := v.Float64()
		if s.Type != "integer" && !s.Either || err != nil || s.Minimum != nil && n < *s.Minimum || s.Maximum != nil && n > *s.Maximum {
			wrong("%s", v)
		}
	case bool:
		if s.Type != "boolean" {
			wrong("true or false")
		}
	default:
		wrong("%T", v)
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		wrong("%v is none of %v", v, s.Enum)
	}
	for _, r := range s.Rules {
		if !holds(t, r.Rule, v) {
			wrong("%s", r.Message)
		}
	}
	return problems
}

// holds evaluates a rule of a definition.
func holds(t *testing.T, rule string, self any) bool {
	t.Helper()
	if n, ok := self.(json.Number); ok {
		i, err := n.Int64()
		if err != nil {
			t.Fatal(err)
		}
		self = i
	}
	env, err := cel.NewEnv(cel.Variable("self", cel.DynType))
	if err != nil {
		t.Fatal(err)
	}
	ast, issues := env.Compile(rule)
	if issues.Err() != nil {
		t.Fatalf("%s: %v", rule, issues.Err())
	}
	program, err := env.Program(ast)
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := program.Eval(map[string]any{"self": self})
	if err != nil {
		t.Fatalf("%s: %v", rule, err)
	}
	return out.Value() == true
}

func problemsOf(t *testing.T, text []byte) []string {
	t.Helper()
	j, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(j))
	d.UseNumber()
	var o map[string]any
	if err := d.Decode(&o); err != nil {
		t.Fatal(err)
	}
	return definition(t).check(t, "", o)
}

// TestValid holds drafts and examples to what the API server and the controller
// take.
func TestValid(t *testing.T) {
	files, err := filepath.Glob("testdata/new*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const images = "../../../images/plans/"
	for _, file := range append(files, images+"canary.yaml", images+"many-clusters/kedge/plan.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problemsOf(t, text) {
			t.Errorf("%s: %s", file, problem)
		}
		var p v1alpha1.Plan
		if err := yaml.UnmarshalStrict(text, &p); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := upgrade.Validate(&p); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestValidSees proves that the check can fail.
func TestValidSees(t *testing.T) {
	for text, want := range map[string]string{
		"spec: {}": "name either a channel",
		"spec: {os: {image: a}, maxUnavailable: 0}":                                 "a number of at least 1",
		"spec: {os: {image: a}, maxUnavailable: 0%}":                                "does not match",
		"spec: {os: {image: a}, stage: Soon}":                                       "none of",
		"spec: {os: {}}":                                                            "image is missing",
		"spec: {os: {image: a}, paces: 1}":                                          "paces is not known",
		"spec: {os: {image: a}, windows: [{start: '02:00', duration: 1s}]}":         "from 1m to 168h",
		"spec: {os: {image: a}, windows: [{days: [Sa], start: '2', duration: 1h}]}": "none of",
		"spec: {os: {image: a}, failure: {retries: 11}}":                            "11",
	} {
		if got := strings.Join(problemsOf(t, []byte(text)), "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: problems %q, want %q", text, got, want)
		}
	}
}
