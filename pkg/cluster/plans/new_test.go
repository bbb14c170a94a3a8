package plans

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

func labelled(key string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: metav1.LabelSelectorOpExists}}}
}

func draft(t *testing.T, args ...string) Draft {
	t.Helper()
	var d Draft
	f := flag.NewFlagSet("new", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	d.Flags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	d.Name = f.Arg(0)
	return d
}

var image = []string{"--image", "registry.example/kedge:v1.4.0"}

func with(args ...string) []string { return append(image[:2:2], args...) }

func TestNew(t *testing.T) {
	for file, args := range map[string][]string{
		"new.yaml": image,
		"new_full.yaml": {"--image", "registry.example/kedge@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
			"--kubernetes", "registry.example/kubernetes:v1.36.3", "--selector", "site in (berlin,bonn),!spare", "--canary", "5%", "--soak", "90m",
			"--max-unavailable", "10%", "--max-downloads", "20", "--window", "Mon-Wed,Sat 22:00-04:30", "--window", "12:00-12:30", "--zone", "Europe/Berlin",
			"--spread", "topology.kubernetes.io/zone", "--halt-after", "2", "--retries", "1", "--rollback-all", "--late", "--allow-downgrade", "sites.berlin"},
	} {
		d := draft(t, args...)
		text, err := d.YAML()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, file, text)
		// What people see is what was meant.
		want, err := d.Plan()
		if err != nil {
			t.Fatal(err)
		}
		var got v1alpha1.Plan
		if err := yaml.UnmarshalStrict([]byte(text), &got); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if !equality.Semantic.DeepEqual(&got, want) {
			t.Errorf("%s is\n%+v\nwant\n%+v", file, got.Spec, want.Spec)
		}
	}
}

func TestNewNames(t *testing.T) {
	for _, name := range []string{"true", "no", "12", "1.5", "null", "a", "0x1f", "1e3"} {
		text, err := draft(t, append(image[:2:2], name)...).YAML()
		if err != nil {
			t.Fatal(err)
		}
		var got v1alpha1.Plan
		if err := yaml.UnmarshalStrict([]byte(text), &got); err != nil || got.Name != name {
			t.Errorf("%s became %q, %v", name, got.Name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "--image: what are the nodes to run? | registry.example"},
		{[]string{"--image", "Registry/UPPER"}, "--image: read reference"},
		{[]string{"--image", "oci:stick"}, "--image: oci:stick is on the disk of this machine, where no node can reach it | kedge push"},
		{[]string{"--kubernetes", "latest"}, `--kubernetes: "latest" is neither a version nor an image | v1.36.3`},
		{[]string{"--kubernetes", "oci:stick"}, "--kubernetes: oci:stick is on the disk"},
		{with("--canary", "0"), `--canary: "0" | at least 1`},
		{with("--canary", "101%"), `--canary: "101%" | 1% to 100%`},
		{with("--canary", "1", "--soak", "-1h"), `--soak: "-1h" | a duration such as 30m`},
		{with("--soak", "1h"), "--soak: there is no canary | --canary 1"},
		{with("--max-unavailable", "ten"), `--max-unavailable: "ten"`},
		{with("--max-downloads", "0"), `--max-downloads: "0"`},
		{with("--halt-after", "0%"), `--halt-after: "0%"`},
		{with("--retries", "11"), "--retries: 11 | 0 to 10"},
		{with("--window", "Sat"), `--window: "Sat": "Sat" is no time from and to | Sat 02:00-05:00`},
		{with("--window", "Sat 2-5"), `--window: "Sat 2-5": "2-5" is no time`},
		{with("--window", "Sa 02:00-05:00"), `--window: "Sa 02:00-05:00": "Sa" is no day of the week`},
		{with("--window", "Sat 02:00 05:00"), `--window: "Sat 02:00 05:00"`},
		{with("--window", "Sat 02:00-05:00", "--zone", "Europe/Berln"), `--zone: "Europe/Berln" is no time zone | Europe/Berlin`},
		{with("--window", "Sat 02:00-05:00", "--zone", "Local"), `--zone: "Local" is no time zone`},
		{with("--zone", "Europe/Berlin"), "--zone: there is no window that it would be of | --window"},
		{with("--selector", "site=a b"), "--selector: "},
		{with("--selector", "site in berlin"), "--selector: "},
		{with("--spread", "a b"), `--spread: "a b" is no label`},
		{with("Fleet!"), `name: "Fleet!" cannot be the name of a plan`},
	} {
		_, err := draft(t, c.args...).YAML()
		var input *InputError
		if !errors.As(err, &input) {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		problem, want, _ := strings.Cut(c.want, " | ")
		if !strings.HasPrefix(err.Error(), problem) || !strings.Contains(input.Want, want) {
			t.Errorf("%q: %v, want %q; the way out is %q, want %q", c.args, err, problem, input.Want, want)
		}
	}
}

func TestParseWindow(t *testing.T) {
	for text, want := range map[string]string{
		"Sat 02:00-05:00":         "[Sat] 02:00 3h0m0s",
		"02:00-05:00":             "[] 02:00 3h0m0s",
		"saturday,MON 22:00-4:30": "[Mon Sat] 22:00 6h30m0s",
		"Fri-Mon 00:00-24:00":     "[Mon Fri Sat Sun] 00:00 24h0m0s",
		"Sun 00:00-00:00":         "[Sun] 00:00 24h0m0s",
	} {
		w, err := parseWindow(text)
		got := strings.TrimSpace(strings.Join([]string{"[" + strings.Join(days(w.Days), " ") + "]", w.Start, w.Duration.Duration.String()}, " "))
		if err != nil || got != want {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
	}
}

func days(in []v1alpha1.Weekday) (out []string) {
	for _, d := range in {
		out = append(out, string(d))
	}
	return out
}
