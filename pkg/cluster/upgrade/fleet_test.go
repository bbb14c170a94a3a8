package upgrade

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

type (
	planSpec = v1alpha1.PlanSpec
	nodeUp   = v1alpha1.NodeUpgrade
)

// noon is a Saturday.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func digest(version string) string {
	return "sha256:" + strings.Repeat("0", 64-len(version)) + strings.Map(func(r rune) rune {
		if r == '.' || r == 'v' {
			return 'f'
		}
		return r
	}, version)
}

// osTarget is a system image; kubernetes is the version in it, "" for none.
func osTarget(version, kubernetes string) v1alpha1.Target {
	return v1alpha1.Target{OS: &v1alpha1.OSTarget{Image: "reg/kedge:" + version, Digest: digest(version), Version: version, KubernetesVersion: kubernetes}}
}

// A fleet is what the tests decide about.
type fleet struct {
	Input
	running string // version of the system that nodes have before
	kubelet string
}

func newFleet() *fleet {
	return &fleet{Input: Input{Now: noon, Resolutions: map[string]Resolution{}, Checks: map[string][]CheckResult{}}, running: "v1.0.0", kubelet: "v1.35.2"}
}

// plan adds a plan for v2.0.0 that is as old as its place in the list.
func (f *fleet) plan(name string, edits ...func(*planSpec)) *v1alpha1.Plan {
	p := &v1alpha1.Plan{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID("uid-" + name), Generation: 1,
		CreationTimestamp: metav1.NewTime(noon.Add(time.Duration(len(f.Plans))*time.Hour - 100*time.Hour)),
	}}
	p.Spec.OS = &v1alpha1.OSRelease{Image: "reg/kedge:v2.0.0"}
	for _, edit := range edits {
		if edit != nil {
			edit(&p.Spec)
		}
	}
	t := v1alpha1.Target{}
	if p.Spec.OS != nil {
		t = osTarget(strings.TrimPrefix(p.Spec.OS.Image, "reg/kedge:"), "")
	}
	if k := p.Spec.Kubernetes; k != nil {
		t.Kubernetes = &v1alpha1.KubernetesTarget{Version: k.Version, Image: k.Image}
	}
	f.Plans = append(f.Plans, p)
	f.Resolutions[name] = Resolution{Target: t}
	return p
}

// nodes adds nodes: words such as "w1:staged,zone=a". A name that begins with s
// is a control-plane node. What follows says how the node stands to the first
// plan.
func (f *fleet) nodes(text string) {
	for _, word := range strings.Fields(text) {
		name, rest, _ := strings.Cut(word, ":")
		n := Node{Name: name, Ready: true, ReadyChanged: noon.Add(-48 * time.Hour), BootID: "boot-1", Kubelet: f.kubelet, Labels: map[string]string{"kubernetes.io/hostname": name}, ControlPlane: name[0] == 's'}
		nu := &nodeUp{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}}
		nu.Status = v1alpha1.NodeUpgradeStatus{ObservedGeneration: 1, Phase: v1alpha1.NodeIdle, BootID: "boot-1",
			Running: &v1alpha1.Release{OS: &v1alpha1.Version{Version: f.running, Digest: digest(f.running)}, Kubernetes: &v1alpha1.Version{Version: f.kubelet}}}
		silent := false
		if rest != "" {
			for _, attribute := range strings.Split(rest, ",") {
				silent = silent || attribute == "silent"
				f.stand(&n, nu, attribute)
			}
		}
		f.Nodes = append(f.Nodes, n)
		if !silent {
			f.NodeUpgrades = append(f.NodeUpgrades, nu)
		}
	}
}

// stand gives a node one attribute.
func (f *fleet) stand(n *Node, nu *nodeUp, attribute string) {
	name, value, _ := strings.Cut(attribute, "=")
	var plan *v1alpha1.Plan
	target := osTarget("v9.0.0", "")
	if len(f.Plans) > 0 {
		plan = f.Plans[0]
		target = f.Resolutions[plan.Name].Target
	}
	ago := func(d time.Duration) *metav1.Time { return stamp(f.Now.Add(-d)) }
	goal := func(state v1alpha1.GoalState, phase v1alpha1.NodePhase, granted time.Duration) {
		nu.Spec = v1alpha1.NodeUpgradeSpec{State: state, Target: target.DeepCopy(), Attempt: 1}
		if plan != nil {
			nu.Spec.Plan = &v1alpha1.PlanRef{Name: plan.Name, UID: plan.UID, Generation: plan.Generation}
		}
		if granted >= 0 {
			nu.Spec.GrantedAt = ago(granted)
			nu.Spec.Drain = &v1alpha1.Drain{Mode: v1alpha1.DrainAuto, WhenBlocked: v1alpha1.DrainGiveUp, Timeout: &metav1.Duration{Duration: 30 * time.Minute}}
			nu.Spec.HealthDeadline = &metav1.Duration{Duration: 15 * time.Minute}
		}
		nu.Status.Phase, nu.Status.Since = phase, ago(max(granted-time.Minute, 0))
		nu.Status.Staged = releaseOf(&target)
	}
	runTarget := func() {
		nu.Status.Previous, nu.Status.Staged = nu.Status.Running, nil
		nu.Status.Running = releaseOf(&target)
		if target.Kubernetes != nil {
			n.Kubelet = target.Kubernetes.Version
		}
	}
	parse := func(otherwise time.Duration) time.Duration {
		if value == "" {
			return otherwise
		}
		d, err := time.ParseDuration(value)
		if err != nil {
			panic(err)
		}
		return d
	}
	switch name {
	case "silent":
	case "staged":
		goal(v1alpha1.GoalStaged, v1alpha1.NodeStaged, -1)
	case "fetching":
		goal(v1alpha1.GoalStaged, v1alpha1.NodeFetching, -1)
		nu.Status.Staged, nu.Status.Downloaded = nil, 40
	case "granted":
		goal(v1alpha1.GoalActive, v1alpha1.NodeStaged, parse(time.Minute))
	case "draining":
		goal(v1alpha1.GoalActive, v1alpha1.NodeDraining, parse(5*time.Minute))
		n.Cordoned, nu.Status.Cordoned = true, true
	case "armed":
		goal(v1alpha1.GoalActive, v1alpha1.NodeArmed, parse(5*time.Minute))
	case "trial":
		goal(v1alpha1.GoalActive, v1alpha1.NodeTrial, parse(5*time.Minute))
		runTarget()
	case "done":
		goal(v1alpha1.GoalActive, v1alpha1.NodeCommitted, parse(2*time.Hour))
		nu.Status.CommittedAt = ago(parse(2 * time.Hour))
		runTarget()
	case "runs": // by no plan's doing
		runTarget()
	case "rolledback":
		goal(v1alpha1.GoalActive, v1alpha1.NodeRolledBack, parse(time.Hour))
		nu.Status.Message = "kubelet did not start"
		if target.OS != nil {
			nu.Status.Bad = []v1alpha1.BadRelease{{Digest: target.OS.Digest, Message: "kubelet did not start"}}
		}
	case "failed":
		goal(v1alpha1.GoalStaged, v1alpha1.NodeFailed, -1)
		nu.Status.Message, nu.Status.Since = "no space", ago(parse(time.Hour))
	case "calledback":
		goal(v1alpha1.GoalStaged, v1alpha1.NodeStaged, parse(time.Minute))
	case "gaveup":
		goal(v1alpha1.GoalStaged, v1alpha1.NodeStaged, parse(time.Minute)+20*time.Minute)
		nu.Spec.GaveUp = &v1alpha1.GaveUp{At: *ago(parse(time.Minute)), Message: "it has not begun"}
	case "back": // told to go back
		goal(v1alpha1.GoalRolledBack, v1alpha1.NodeCommitted, parse(time.Minute))
		runTarget()
	case "wentback":
		goal(v1alpha1.GoalRolledBack, v1alpha1.NodeRolledBack, parse(time.Hour))
	case "bad":
		nu.Status.Bad = []v1alpha1.BadRelease{{Digest: target.OS.Digest, Message: "it panicked"}}
	case "unseen":
		nu.Generation++
	case "notready":
		n.Ready, n.ReadyChanged = false, f.Now.Add(-parse(3*time.Minute))
	case "cordoned":
		n.Cordoned = true
	case "skip":
		n.Labels[v1alpha1.SkipLabel] = "true"
	case "os":
		nu.Status.Running.OS = &v1alpha1.Version{Version: value, Digest: digest(value)}
	case "nodigest":
		nu.Status.Running.OS.Digest = ""
	case "k":
		n.Kubelet = value
		nu.Status.Running.Kubernetes = &v1alpha1.Version{Version: value}
	case "attempt":
		n, err := strconv.Atoi(value)
		if err != nil {
			panic(err)
		}
		nu.Spec.Attempt, nu.Spec.Again = int32(n), n > 1
	case "boot":
		n.BootID = value
	case "says":
		nu.Status.Message = strings.ReplaceAll(value, "_", " ")
	case "asked":
		nu.Spec.SnapshotRequestedAt = ago(parse(time.Minute))
	case "saved":
		nu.Spec.SnapshotRequestedAt = ago(parse(time.Minute))
		nu.Status.Snapshot = &v1alpha1.Snapshot{RequestedAt: nu.Spec.SnapshotRequestedAt, Name: "before"}
	case "nothingbefore":
		nu.Status.Previous = nil
	case "baseline":
		nu.Spec.Failing = []string{value}
	case "retry":
		nu.Spec.Retry = 1
	default:
		n.Labels[name] = value
	}
}

func releaseOf(t *v1alpha1.Target) *v1alpha1.Release {
	r := &v1alpha1.Release{}
	if t.OS != nil {
		r.OS = &v1alpha1.Version{Version: t.OS.Version, Digest: t.OS.Digest}
	}
	if t.Kubernetes != nil {
		r.Kubernetes = &v1alpha1.Version{Version: t.Kubernetes.Version}
	}
	return r
}

// text says a decision in a few lines.
func (f *fleet) text(d Decision) string {
	var b strings.Builder
	b.WriteString("goals:")
	for _, g := range d.Goals {
		fmt.Fprintf(&b, " %s=%s/%s", g.Node, g.Spec.State, g.Reason)
		if g.Spec.Attempt > 1 {
			fmt.Fprintf(&b, "#%d", g.Spec.Attempt)
		}
		if g.Spec.Again {
			b.WriteString("!")
		}
	}
	if len(d.Goals) == 0 {
		b.WriteString(" none")
	}
	b.WriteString("\n")
	for _, p := range f.Plans {
		if s, ok := d.Statuses[p.Name]; ok {
			reason := ""
			for _, c := range s.Conditions {
				if c.Type == v1alpha1.ConditionProgressing {
					reason = c.Reason
				}
			}
			fmt.Fprintf(&b, "%s: %s/%s %s failed %d step %q: %s\n", p.Name, s.Phase, reason, s.Progress, s.Failed, s.Step, s.Message)
		}
	}
	if d.Again.IsZero() {
		b.WriteString("again: never\n")
	} else {
		fmt.Fprintf(&b, "again: in %s\n", d.Again.Sub(f.Now))
	}
	return b.String()
}

func number(n int) *intstr.IntOrString { v := intstr.FromInt32(int32(n)); return &v }

func percent(p string) *intstr.IntOrString { v := intstr.FromString(p); return &v }

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

func step(n any, soak time.Duration) v1alpha1.Step {
	s := v1alpha1.Step{Soak: metav1.Duration{Duration: soak}}
	switch n := n.(type) {
	case int:
		s.Max = *number(n)
	case string:
		s.Max = *percent(n)
	}
	return s
}
