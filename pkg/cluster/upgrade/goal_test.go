package upgrade

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rancher/wrangler/v3/pkg/summary"
	lua "github.com/yuin/gopher-lua"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// one returns the goal of the only node that gets one.
func one(t *testing.T, f *fleet) Goal {
	t.Helper()
	d := Decide(f.Input)
	if len(d.Goals) != 1 {
		t.Fatalf("%d goals, want 1:\n%s", len(d.Goals), f.text(d))
	}
	return d.Goals[0]
}

func TestActiveGoalCarriesAllThatANodeNeeds(t *testing.T) {
	f := newFleet()
	f.plan("p", saturday("11:00", 2*time.Hour, ""), func(p *planSpec) {
		p.Drain = &v1alpha1.Drain{WhenBlocked: v1alpha1.DrainForce}
		p.Health = &v1alpha1.Health{Deadline: duration(7 * time.Minute), Probes: []v1alpha1.Probe{{Name: "shop", TCP: "localhost:80"}}}
		p.Hooks = &v1alpha1.Hooks{Pre: []v1alpha1.Hook{{Name: "tell", Image: "tell"}}}
		p.AllowDowngrade = true
	})
	f.nodes("w1:staged w2:done")
	f.Checks["p"] = []CheckResult{{Name: "b"}, {Name: "a", Message: "down"}}
	f.NodeUpgrades[1].Spec.Failing = []string{"a"}
	g := one(t, f)
	s := g.Spec
	if s.State != v1alpha1.GoalActive || g.Plan != "p" || s.Plan.UID != "uid-p" || s.Target.OS.Digest != digest("v2.0.0") || s.Attempt != 1 {
		t.Errorf("goal is %+v", s)
	}
	if !s.GrantedAt.Equal(stamp(noon)) || !s.NotAfter.Equal(stamp(noon.Add(time.Hour))) {
		t.Errorf("leave from %s to %s", s.GrantedAt, s.NotAfter)
	}
	if d := s.Drain; d == nil || d.Mode != v1alpha1.DrainAuto || d.WhenBlocked != v1alpha1.DrainForce || d.Timeout.Duration != 30*time.Minute {
		t.Errorf("drain is %+v", d)
	}
	if s.HealthDeadline.Duration != 7*time.Minute || len(s.Probes) != 1 || len(s.Hooks.Pre) != 1 || !s.AllowDowngrade || strings.Join(s.Failing, " ") != "a" {
		t.Errorf("health %v, probes %v, hooks %v, failing %v", s.HealthDeadline, s.Probes, s.Hooks, s.Failing)
	}
	if f.Plans[0].Spec.Drain.Mode != "" {
		t.Error("the plan was changed")
	}
}

func TestDrainMode(t *testing.T) {
	for _, c := range []struct {
		name  string
		mode  v1alpha1.DrainMode
		nodes string
		want  bool
	}{
		{"a single node is not drained", "", "s1:staged", false},
		{"a single node is drained if that is wanted", v1alpha1.DrainAlways, "s1:staged", true},
		{"one of two nodes is drained", v1alpha1.DrainAuto, "s1:staged w1", true},
		{"a node of another plan counts", "", "s1:staged w1:skip", true},
		{"no node is drained if that is wanted", v1alpha1.DrainNever, "s1:staged w1:done", false},
	} {
		f := newFleet()
		f.plan("p", func(p *planSpec) { p.Drain = &v1alpha1.Drain{Mode: c.mode} })
		f.nodes(c.nodes)
		for _, g := range Decide(f.Input).Goals {
			if g.Spec.State == v1alpha1.GoalActive && (g.Spec.Drain != nil) != c.want {
				t.Errorf("%s: drain is %v", c.name, g.Spec.Drain)
			}
		}
	}
}

func TestStatusCounts(t *testing.T) {
	f := newFleet()
	f.plan("p", func(p *planSpec) { p.MaxUnavailable, p.Failure = number(3), &v1alpha1.Failure{HaltAfter: number(4)} })
	f.nodes("w1:done w2:trial w3:staged w4:rolledback w5:notready w6:fetching w7:staged,cordoned w8:runs")
	s := Decide(f.Input).Statuses["p"]
	got := []int32{s.Nodes, s.Updated, s.Updating, s.Staged, s.Failed, s.Unavailable}
	// w7 is told to restart by this very decision, in its own place.
	want := []int32{8, 2, 2, 1, 1, 3}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("nodes, updated, updating, staged, failed, unavailable are %v, want %v: %s", got, want, s.Message)
			break
		}
	}
	if s.Progress != "2/8" || s.TargetText != "os v2.0.0" || len(s.Failures) != 1 || s.Failures[0].Node != "w4" || s.ObservedGeneration != 1 {
		t.Errorf("status is %+v", s)
	}
	if len(s.Conditions) != 6 {
		t.Errorf("conditions are %v", s.Conditions)
	}
}

func TestStatusIsStable(t *testing.T) {
	f := newFleet()
	p := f.plan("p", canary)
	f.nodes("w1:done=10m w2:staged")
	first := Decide(f.Input).Statuses["p"]
	p.Status = first
	f.Now = f.Now.Add(10 * time.Second)
	second := Decide(f.Input).Statuses["p"]
	a, _ := yaml.Marshal(first)
	b, _ := yaml.Marshal(second)
	if string(a) != string(b) {
		t.Errorf("nothing happened, and the status changed from\n%s\nto\n%s", a, b)
	}
}

func TestNodeOf(t *testing.T) {
	at := metav1.NewTime(noon)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "s1", Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"}}}
	n.Spec.Unschedulable = true
	n.Status.NodeInfo.BootID, n.Status.NodeInfo.KubeletVersion = "b", "v1.36.3"
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: at}}
	got := NodeOf(n)
	if got.Name != "s1" || !got.Ready || !got.ReadyChanged.Equal(noon) || !got.Cordoned || !got.ControlPlane || got.BootID != "b" || got.Kubelet != "v1.36.3" {
		t.Errorf("NodeOf = %+v", got)
	}
	n.Labels = nil
	n.Status.Conditions[1].Status = corev1.ConditionUnknown
	if got := NodeOf(n); got.Ready || got.ControlPlane {
		t.Errorf("NodeOf = %+v", got)
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct {
		v    intstr.IntOrString
		n    int
		want int
		ok   bool
	}{
		{*number(1), 10, 1, true}, {*number(20), 10, 20, true}, {*number(0), 10, 1, false}, {*number(-1), 10, 1, false},
		{*percent("10%"), 10, 1, true}, {*percent("25%"), 7, 1, true}, {*percent("100%"), 7, 7, true}, {*percent("1%"), 3, 1, true},
		{*percent("0%"), 3, 1, false}, {*percent("101%"), 3, 1, false}, {*percent("3"), 3, 1, false}, {*percent("x%"), 3, 1, false},
	} {
		if got, err := share(c.v, c.n); got != c.want || (err == nil) != c.ok {
			t.Errorf("share(%s of %d) = %d, %v", c.v.String(), c.n, got, err)
		}
	}
}

func TestMinor(t *testing.T) {
	for v, want := range map[string]int{"v1.36.3": 36, "1.36.3": 36, "v1.36.3+k3s1": 36, "v1.36": 36, "v2.0.0": -1, "": -1, "v1.": -1, "v1.x.3": -1, "v1..3": -1, "v1.99999.1": -1} {
		if got := minor(v); got != want {
			t.Errorf("minor(%q) = %d, want %d", v, got, want)
		}
	}
}

// TestExamplePlan follows the example as a user would apply it.
func TestExamplePlan(t *testing.T) {
	b, err := os.ReadFile("testdata/plan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var p v1alpha1.Plan
	if err := yaml.UnmarshalStrict(b, &p); err != nil {
		t.Fatal(err)
	}
	f := newFleet()
	f.nodes("s1 w1 w2")
	f.Plans = []*v1alpha1.Plan{&p}
	f.Resolutions[p.Name] = Resolution{Target: v1alpha1.Target{OS: &v1alpha1.OSTarget{Image: p.Spec.OS.Image, Digest: digest("v1.4.0"), Version: "v1.4.0"}}}
	if got := f.text(Decide(f.Input)); !strings.Contains(got, "Staging/Staging 0/3") {
		t.Errorf("the example does:\n%s", got)
	}
}

func TestPinnedDigestStays(t *testing.T) {
	f := newFleet()
	p := f.plan("p")
	f.nodes("w1")
	pinned := osTarget("v2.0.0", "")
	pinned.OS.Digest = digest("v2.0.0-pinned")
	p.Status.Target = &pinned
	if got := one(t, f).Spec.Target.OS.Digest; got != pinned.OS.Digest {
		t.Errorf("the goal is %s, the plan was pinned to %s", got, pinned.OS.Digest)
	}
	// The status is lost, a goal is not.
	p.Status = v1alpha1.PlanStatus{}
	f.nodes("w2:staged")
	f.NodeUpgrades[1].Spec.Target = &pinned
	f.NodeUpgrades[1].Status.Staged = releaseOf(&pinned)
	for _, g := range Decide(f.Input).Goals {
		if g.Spec.Target.OS.Digest != pinned.OS.Digest {
			t.Errorf("the goal of %s is %s, the plan was pinned to %s", g.Node, g.Spec.Target.OS.Digest, pinned.OS.Digest)
		}
	}
}

func TestGivingUpIsWrittenDown(t *testing.T) {
	f := newFleet()
	f.plan("p")
	f.nodes("w1:granted=20m w2:staged")
	g := one(t, f).Spec
	if g.GaveUp == nil || !g.GaveUp.At.Equal(stamp(noon)) || !strings.Contains(g.GaveUp.Message, "has not begun") || g.GrantedAt == nil || g.State != v1alpha1.GoalStaged {
		t.Errorf("goal is %+v", g)
	}
}

// TestReadySince holds that the condition which the API server gives to new
// plans gets a real time.
func TestReadySince(t *testing.T) {
	f := newFleet()
	p := f.plan("p")
	f.nodes("w1")
	p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "New", LastTransitionTime: metav1.Unix(0, 0)}}
	for _, c := range Decide(f.Input).Statuses["p"].Conditions {
		if c.Type == v1alpha1.ConditionReady && (c.Status != metav1.ConditionFalse || !c.LastTransitionTime.Time.Equal(noon)) {
			t.Errorf("Ready is %s since %s", c.Status, c.LastTransitionTime)
		}
	}
}

// TestGitOps holds what programs of GitOps make of a plan: Fleet by wrangler's
// summary, Flux by kstatus, Argo CD by the script in images/plans. It is as it
// should be when all nodes run the target, and an error when it cannot go on by
// itself.
func TestGitOps(t *testing.T) {
	for _, row := range []struct {
		name, nodes       string
		with              func(*planSpec)
		fleet, flux, argo string
	}{
		{"complete", "w1:done", nil, "active", "Current", "Healthy"},
		{"under way", "w1:staged w2:fetching", nil, "updating", "InProgress", "Progressing"},
		{"halted", "w1:rolledback w2:staged", nil, "error", "Failed", "Degraded"},
		{"not understood", "w1", func(p *planSpec) { p.MaxUnavailable = percent("x") }, "error", "Failed", "Degraded"},
		{"paused", "w1", func(p *planSpec) { p.Paused = true }, "updating", "InProgress", "Suspended"},
	} {
		f := newFleet()
		p := f.plan("p")
		if row.with != nil {
			row.with(&p.Spec)
		}
		f.nodes(row.nodes)
		p.Status = Decide(f.Input).Statuses["p"]
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{Object: object}
		flux, err := status.Compute(u)
		if err != nil {
			t.Fatal(err)
		}
		if fleet, argo := fleetState(u), argoHealth(t, u); fleet != row.fleet || flux.Status.String() != row.flux || argo != row.argo {
			t.Errorf("%s: it is %s for Fleet, %s for Flux, %s for Argo CD; want %s, %s, %s", row.name, fleet, flux.Status, argo, row.fleet, row.flux, row.argo)
		}
	}
}

func fleetState(u *unstructured.Unstructured) string {
	switch s := summary.Summarize(u); {
	case s.Error:
		return "error"
	case s.Transitioning:
		return "updating"
	}
	return "active"
}

// argoHealth runs the script that the users of Argo CD are given.
func argoHealth(t *testing.T, u *unstructured.Unstructured) string {
	text, err := os.ReadFile("../../../images/plans/argo-cd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cm corev1.ConfigMap
	if err := yaml.UnmarshalStrict(text, &cm); err != nil {
		t.Fatal(err)
	}
	l := lua.NewState()
	defer l.Close()
	l.SetGlobal("obj", luaValue(u.Object))
	if err := l.DoString(cm.Data["resource.customizations.health.upgrade.kedgeos.io_Plan"]); err != nil {
		t.Fatal(err)
	}
	health, _ := l.Get(-1).(*lua.LTable)
	if health == nil {
		t.Fatal("the script returns no table")
	}
	return lua.LVAsString(health.RawGetString("status"))
}

// luaValue is what scripts see of what they need: texts, numbers and objects.
func luaValue(v any) lua.LValue {
	switch v := v.(type) {
	case string:
		return lua.LString(v)
	case int64:
		return lua.LNumber(v)
	case map[string]any:
		table := &lua.LTable{}
		for name, value := range v {
			table.RawSetString(name, luaValue(value))
		}
		return table
	}
	return lua.LNil
}

// TestStalledEnds holds that a plan which goes on is not stalled any more.
func TestStalledEnds(t *testing.T) {
	f := newFleet()
	p := f.plan("p")
	f.nodes("w1:rolledback w2:staged")
	stalled := func() bool {
		p.Status = Decide(f.Input).Statuses["p"]
		return meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionStalled) != nil
	}
	if !stalled() {
		t.Error("it halted, and is not stalled")
	}
	p.Spec.Retry++
	if stalled() {
		t.Error("it is tried again, and is stalled")
	}
}
