package plans

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files again")

// noon is a Saturday.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// berlin is where the tests are.
var berlin = time.FixedZone("CET", 3600)

// A world is what a cluster holds.
type world struct {
	plans    []*v1alpha1.Plan
	upgrades []v1alpha1.NodeUpgrade
	nodes    []corev1.Node
	events   []corev1.Event
}

// read reads the objects of a file. Anchors hold over all of them, so they are
// one document to the parser.
func read(t *testing.T, file string) (w world) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, doc := range strings.Split(string(text), "\n---\n") {
		for i, line := range strings.Split(strings.TrimSpace(doc), "\n") {
			if strings.HasPrefix(line, "#") {
				continue
			}
			if list.Len() == 0 || i == 0 {
				list.WriteString("- " + line + "\n")
			} else {
				list.WriteString("  " + line + "\n")
			}
		}
	}
	var objects []json.RawMessage
	if err := yaml.Unmarshal([]byte(list.String()), &objects); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, raw := range objects {
		var kind struct{ Kind string }
		var err error
		if err := json.Unmarshal(raw, &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.Kind {
		case "Plan":
			p := &v1alpha1.Plan{}
			err = strict(raw, p)
			w.plans = append(w.plans, p)
		case "NodeUpgrade":
			w.upgrades = append(w.upgrades, v1alpha1.NodeUpgrade{})
			err = strict(raw, &w.upgrades[len(w.upgrades)-1])
		case "Node":
			w.nodes = append(w.nodes, corev1.Node{})
			err = strict(raw, &w.nodes[len(w.nodes)-1])
		case "Event":
			w.events = append(w.events, corev1.Event{})
			err = strict(raw, &w.events[len(w.events)-1])
		default:
			t.Fatalf("%s: kind %q", file, kind.Kind)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return w
}

func strict(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// picture is that of the first plan.
func (w world) picture() Picture {
	return paint(noon, w.plans[0], w.plans, w.upgrades, w.nodes, w.events)
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("%s: %v; got\n%s", file, err, got)
	}
}

func TestDraw(t *testing.T) {
	golden(t, "fleet.txt", Draw(read(t, "fleet.yaml").picture(), berlin, 0))
}

// edited is the world of a file, with its plan changed.
func edited(t *testing.T, edit func(*v1alpha1.Plan)) world {
	w := read(t, "fleet.yaml")
	edit(w.plans[0])
	return w
}

func halt(p *v1alpha1.Plan) {
	p.Spec.Failure.Retries, p.Spec.Failure.HaltAfter = 0, nil
	p.Status.Phase, p.Status.Failed = v1alpha1.PlanHalted, 1
	p.Status.Message = "halted: 1 of 1 allowed failures: edge-1: not healthy within 15m0s: the node is not Ready"
	p.Status.Conditions[0].Reason = "Halted"
	p.Status.Conditions = append(p.Status.Conditions, condition(v1alpha1.ConditionHalted, "Failures", ""))
}

func TestDrawHalted(t *testing.T) {
	p := edited(t, halt).picture()
	got := Draw(p, time.FixedZone("EST", -5*3600), 3)
	golden(t, "halted.txt", got)
	if p.Outcome() != Wrong || !p.Halted {
		t.Error("it is not seen that it halted")
	}
}

func TestDrawParts(t *testing.T) {
	never := func(p *v1alpha1.Plan) {
		p.Spec.Windows = []v1alpha1.Window{{Cron: "0 2 * * 0", TimeZone: "Asia/Tokyo"}}
		p.Spec.Windows[0].Duration.Duration = time.Hour
	}
	for _, c := range []struct {
		name, want string
		edit       func(*v1alpha1.Plan)
	}{
		{"a window in another zone", "Window    opens Sun 22 Nov 02:00 Asia/Tokyo (here Sat 21 Nov 18:00), in 5h\n", never},
		{"no window", "Away      2, of 2 allowed\n\nNODE", func(p *v1alpha1.Plan) { p.Spec.Windows = nil }},
		{"a soak", "Step 1    [##############################] 1/1, rests for 10m more\n", func(p *v1alpha1.Plan) { p.Spec.Steps[0].Soak.Duration = 2 * time.Hour }},
		{"a new plan", "fleet: New, registry.example/kedge:v1.4.0\n", func(p *v1alpha1.Plan) {
			p.UID, p.Status, p.CreationTimestamp.Time = "another", v1alpha1.PlanStatus{}, noon.Add(-time.Second)
		}},
		{"no controller", "note: no controller has looked at it yet", func(p *v1alpha1.Plan) { p.Status = v1alpha1.PlanStatus{} }},
		{"a change not seen", "note: the controller has not looked at the last change yet\n", func(p *v1alpha1.Plan) { p.Generation++ }},
		{"a channel that went back", "note: os v1.4.0 is kept: the channel went back from serial 4 to 3\n", func(p *v1alpha1.Plan) {
			p.Status.Conditions = append(p.Status.Conditions, condition(v1alpha1.ConditionResolved, "Kept", "os v1.4.0 is kept: the channel went back from serial 4 to 3"))
		}},
		{"a health check", "server-1  failed       v1.4.0  v1.36.3     1h50m   health check web does not hold", func(p *v1alpha1.Plan) {
			p.Status.Failures = []v1alpha1.NodeFailure{{Node: "server-1", Message: "health check web does not hold since its upgrade: 0 of 3"}}
		}},
		{"paused", "\"kedge plan resume fleet\" goes on.\n", func(p *v1alpha1.Plan) { p.Spec.Paused = true }},
	} {
		if got := Draw(edited(t, c.edit).picture(), berlin, 0); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q is not in\n%s", c.name, c.want, got)
		}
	}
}

func condition(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}
}

func TestList(t *testing.T) {
	fresh := &v1alpha1.Plan{}
	fresh.Name, fresh.Spec.Kubernetes = "kube", &v1alpha1.KubernetesRelease{Version: "v1.36.3"}
	fresh.CreationTimestamp.Time = noon
	golden(t, "list.txt", List([]Picture{Summary(noon, read(t, "fleet.yaml").plans[0]), Summary(noon, fresh)}))
}

// TestJSON holds the names by which programs read a picture.
func TestJSON(t *testing.T) {
	text, err := json.MarshalIndent(read(t, "fleet.yaml").picture(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "fleet.json", string(text)+"\n")
}

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		phase    v1alpha1.PlanPhase
		rollback bool
		want     Outcome
	}{
		{v1alpha1.PlanComplete, false, Reached}, {v1alpha1.PlanRolledBack, true, Reached}, {v1alpha1.PlanRolledBack, false, Wrong},
		{v1alpha1.PlanHalted, false, Wrong}, {v1alpha1.PlanInvalid, false, Wrong}, {v1alpha1.PlanRollingBack, false, Going},
		{v1alpha1.PlanPaused, false, Going}, {"", false, Going},
	} {
		p := &v1alpha1.Plan{}
		p.Generation, p.Status.ObservedGeneration, p.Status.Phase, p.Spec.Rollback = 2, 2, c.phase, c.rollback
		if got := Summary(noon, p).Outcome(); got != c.want {
			t.Errorf("%s, rollback %v: outcome %d, want %d", c.phase, c.rollback, got, c.want)
		}
		p.Generation++
		if got := Summary(noon, p).Outcome(); got != Going {
			t.Errorf("%s of an older spec: outcome %d", c.phase, got)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", -time.Hour: "0s", 61 * time.Second: "1m1s", 2 * time.Hour: "2h", 26*time.Hour + 5*time.Minute: "1d2h", 2*time.Hour + 30*time.Second: "2h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		through, begun, n int
		want              string
	}{
		{0, 0, 0, strings.Repeat(".", 30)},
		{1, 1, 1, strings.Repeat("#", 30)},
		{0, 1, 1000, ">" + strings.Repeat(".", 29)},
		{1, 2, 3, strings.Repeat("#", 10) + strings.Repeat(">", 10) + strings.Repeat(".", 10)},
		{999, 1000, 1000, strings.Repeat("#", 29) + ">"},
	} {
		if got := bar(c.through, c.begun, c.n); got != c.want {
			t.Errorf("bar(%d, %d, %d) = %s, want %s", c.through, c.begun, c.n, got, c.want)
		}
	}
}

func TestNews(t *testing.T) {
	old := read(t, "fleet.yaml").picture()
	if lines := News(old, old); len(lines) > 0 {
		t.Errorf("nothing changed, but %q", lines)
	}
	w := edited(t, halt)
	w.upgrades[4].Status.Downloaded = 65
	w.upgrades[3].Status.Message = ""
	w.nodes = w.nodes[:6]
	want := []string{
		"fleet: Halted 1/7, 1 failed: halted: 1 of 1 allowed failures: edge-1: not healthy within 15m0s: the node is not Ready",
		"edge-1: failed: not healthy within 15m0s: the node is not Ready",
		"edge-6: is not of this plan any more",
	}
	if got := News(old, w.picture()); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("news:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
