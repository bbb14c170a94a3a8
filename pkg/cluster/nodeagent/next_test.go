package nodeagent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	corev1 "k8s.io/api/core/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

// A row begins as a node that runs 1.0.0, with a goal of generation 2 that it has
// not seen; the functions change that.
type row struct {
	name string
	with []func(*View)
	want string // "PHASE/REASON ACTION"
}

func state(s v1alpha1.GoalState, t *v1alpha1.Target) func(*View) {
	return func(v *View) { v.Goal.Spec.State, v.Goal.Spec.Target = s, t }
}

var (
	staged2 = state(v1alpha1.GoalStaged, osTarget(2))
	active2 = state(v1alpha1.GoalActive, osTarget(2))
	back2   = state(v1alpha1.GoalRolledBack, osTarget(2))
)

func was(p v1alpha1.NodePhase) func(*View) {
	return func(v *View) { v.Goal.Status.Phase, v.Goal.Status.Since = p, stamp(noon.Add(-time.Minute)) }
}

func seen(v *View) { v.Goal.Status.ObservedGeneration = v.Goal.Generation }

func system2(p ask.Phase) func(*View) {
	return func(v *View) {
		v.Status.OS.Phase, v.Status.OS.To, v.Status.OS.Changed = p, system(2), noon
		v.Status.OS.Text = "it is " + string(p)
		switch p {
		case ask.Trial, ask.Committed:
			v.Status.OS.Running = system(2)
		case ask.RolledBack:
			v.Status.OS.Reason = "unhealthy"
		}
		if p == ask.Committed {
			r := system(1)
			v.Status.OS.Previous = &r
		}
	}
}

func kube4(p ask.Phase) func(*View) {
	return func(v *View) {
		v.Status.Kubernetes.Phase, v.Status.Kubernetes.To = p, named(ask.Kubernetes, digest(4))
		if p == ask.Committed {
			v.Status.Kubernetes.Running = v.Status.Kubernetes.To
			v.Status.Kubernetes.Previous = &ask.Release{Version: "v1.36.3"}
		}
	}
}

func bad2(v *View) {
	v.Status.OS.Bad = []ask.Bad{{Release: system(2), Reason: "unhealthy", Time: noon}}
}
func again(v *View) { v.Goal.Spec.Again = true }

func drain(when v1alpha1.BlockedDrain) func(*View) {
	return func(v *View) {
		v.Goal.Spec.Drain = &v1alpha1.Drain{Timeout: &metav1.Duration{Duration: 10 * time.Minute}, WhenBlocked: when}
	}
}

func leavingFor(d time.Duration) func(*View) {
	return func(v *View) { v.Node.Leaving = noon.Add(-d) }
}

func cordoned(ours bool) func(*View) {
	return func(v *View) { v.Node.Cordoned, v.Node.Ours = true, ours }
}

func held(v *View) { v.Status.OS.Held = true }

func after(d time.Duration) func(*View) { return func(v *View) { v.Now = v.Now.Add(d) } }

// hook gives the goal one hook, before or after, whose pod is in a phase; there
// is none yet in "".
func hook(stage string, phase corev1.PodPhase) func(*View) {
	return func(v *View) {
		one := []v1alpha1.Hook{{Name: "x", Image: "registry.example/x"}}
		v.Goal.Spec.Hooks = &v1alpha1.Hooks{Pre: one}
		if stage == "post" {
			v.Goal.Spec.Hooks = &v1alpha1.Hooks{Post: one}
		}
		if phase != "" {
			d := &decider{View: *v, goal: v.Goal.Spec}
			v.Hooks = map[string]HookPod{d.hookPod(stage, one[0]).Name: {Phase: phase, Made: noon}}
		}
	}
}

func left(v *View)   { v.Node.Left = []string{"shop/web"} }
func late(v *View)   { v.Goal.Spec.NotAfter = stamp(noon.Add(-time.Second)) }
func inTime(v *View) { v.Goal.Spec.NotAfter = stamp(noon) }

func work(verb string, n int, over bool, e *ask.Error) func(*View) {
	return func(v *View) {
		v.Status.Work = &ask.Work{Verb: verb, Begun: noon.Add(-30 * time.Second), Over: over, Error: e}
		if verb == ask.StageVerb {
			t := osTarget(n)
			v.Status.Work.Stage = &ask.Stage{OS: &ask.Image{Name: t.OS.Image, Digest: t.OS.Digest}}
		}
	}
}

func refusedWith(reason string) func(*View) {
	return func(v *View) { v.Refused = &ask.Error{Reason: reason, Message: "no"} }
}

func asked(v *View) { v.Goal.Spec.SnapshotRequestedAt = stamp(noon) }
func saved(v *View) { v.Status.Saved = &ask.Saved{At: noon, Name: "snap"} }

func brings(version string) func(*View) {
	return func(v *View) { v.Goal.Spec.Target.OS.KubernetesVersion = version }
}

func beside(own string) func(*View) { return func(v *View) { v.Status.Own = own } }

func api(version string) func(*View) { return func(v *View) { v.Node.Cluster = version } }

func both(s v1alpha1.GoalState) func(*View) {
	t := osTarget(2)
	t.Kubernetes = kubeTarget(4)
	return state(s, t)
}

func withoutDigest(v *View) {
	v.Status.OS.Running.Digest = ""
	v.Status.OS.Running.Version = "v2.0.0"
}

var rows = []row{
	{"nothing is wanted", nil, "Idle/"},
	{"nothing is wanted of one that was upgraded", []func(*View){was(v1alpha1.NodeCommitted)}, "Committed/"},
	{"nothing is wanted, and it is still cordoned", []func(*View){cordoned(true), leavingFor(time.Minute)}, "Idle/ return"},
	{"nothing is wanted, and a user has cordoned it", []func(*View){cordoned(false)}, "Idle/"},
	{"nothing is wanted any more, and it is fetched", []func(*View){was(v1alpha1.NodeFetching), work(ask.StageVerb, 2, false, nil)}, "Fetching/CalledOff cancel"},
	{"nothing is wanted, and somebody fetches something", []func(*View){work(ask.StageVerb, 2, false, nil)}, "Idle/"},

	{"stage", []func(*View){staged2}, "Fetching/Fetching stage"},
	{"stage what runs", []func(*View){state(v1alpha1.GoalStaged, osTarget(1))}, "Idle/"},
	{"stage what was upgraded to", []func(*View){staged2, system2(ask.Committed)}, "Committed/"},
	{"what runs has no digest, its version does", []func(*View){staged2, withoutDigest}, "Idle/"},
	{"stage goes on", []func(*View){staged2, work(ask.StageVerb, 2, false, nil)}, "Fetching/Fetching"},
	{"another is fetched", []func(*View){staged2, was(v1alpha1.NodeFetching), work(ask.StageVerb, 3, false, nil)}, "Fetching/CalledOff cancel"},
	{"somebody still fetches another", []func(*View){staged2, was(v1alpha1.NodeFetching), func(v *View) { v.Goal.Status.Reason = "Waiting" }, work(ask.StageVerb, 3, false, nil)}, "Fetching/Waiting"},
	{"somebody fetches another", []func(*View){staged2, work(ask.StageVerb, 3, false, nil)}, "Fetching/Waiting"},
	{"a snapshot comes first", []func(*View){staged2, work(ask.SnapshotVerb, 0, false, nil)}, "Fetching/Waiting"},
	{"staged", []func(*View){staged2, system2(ask.Staged)}, "Staged/Staged"},
	{"another is staged", []func(*View){state(v1alpha1.GoalStaged, osTarget(3)), system2(ask.Staged)}, "Fetching/Fetching stage"},
	{"the agent died while it fetched", []func(*View){staged2, was(v1alpha1.NodeFetching), seen}, "Fetching/Fetching stage"},
	{"a transfer failed", []func(*View){staged2, was(v1alpha1.NodeFetching), seen, work(ask.StageVerb, 2, true, &ask.Error{Reason: ask.NotFound, Message: "x"})}, "Fetching/Fetching"},
	{"it is not signed", []func(*View){staged2, was(v1alpha1.NodeFetching), seen, work(ask.StageVerb, 2, true, &ask.Error{Reason: ask.Untrusted, Message: "x"})}, "Failed/Untrusted"},
	{"an older transfer failed", []func(*View){staged2, was(v1alpha1.NodeStaged), work(ask.StageVerb, 2, true, &ask.Error{Reason: ask.Untrusted, Message: "x"})}, "Fetching/Fetching stage"},
	{"the request is refused", []func(*View){staged2, refusedWith(ask.Invalid)}, "Failed/Invalid"},
	{"the agent is busy", []func(*View){staged2, refusedWith(ask.Busy)}, "Fetching/Fetching stage"},
	{"failed, and the goal is the same", []func(*View){staged2, was(v1alpha1.NodeFailed), seen}, "Failed/"},
	{"failed, and the goal is another", []func(*View){staged2, was(v1alpha1.NodeFailed)}, "Fetching/Fetching stage"},
	{"it failed here before", []func(*View){staged2, bad2}, "Failed/KnownBad"},
	{"it failed here before, again", []func(*View){staged2, bad2, again}, "Fetching/Fetching stage"},
	{"it was taken back, again", []func(*View){staged2, bad2, system2(ask.RolledBack), again, was(v1alpha1.NodeRolledBack)}, "Fetching/Fetching stage"},
	{"it was taken back, again, and it is fetched", []func(*View){staged2, bad2, system2(ask.RolledBack), again, was(v1alpha1.NodeFetching), seen}, "Fetching/Fetching stage"},
	{"no target", []func(*View){state(v1alpha1.GoalStaged, nil)}, "Failed/NoTarget"},
	{"Kubernetes without an image", []func(*View){state(v1alpha1.GoalStaged, &v1alpha1.Target{Kubernetes: &v1alpha1.KubernetesTarget{Version: "v1.36.4"}})}, "Failed/NotPossible"},
	{"Kubernetes without an image, which runs", []func(*View){state(v1alpha1.GoalStaged, &v1alpha1.Target{Kubernetes: &v1alpha1.KubernetesTarget{Version: "1.36.3"}})}, "Idle/"},
	{"a system that is not installed", []func(*View){staged2, func(v *View) { v.Status.Fixed = "not installed" }}, "Failed/NotPossible"},
	{"called back while it drains", []func(*View){staged2, system2(ask.Staged), was(v1alpha1.NodeDraining), leavingFor(time.Minute), cordoned(true)}, "Staged/Staged return"},
	{"called back, cordoned by a user", []func(*View){staged2, system2(ask.Staged), leavingFor(time.Minute), cordoned(false)}, "Staged/Staged return"},

	{"activate what is not there", []func(*View){active2}, "Fetching/Fetching stage"},
	{"activate", []func(*View){active2, system2(ask.Staged)}, "Draining/Draining leave"},
	{"activate, drained first", []func(*View){active2, system2(ask.Staged), drain("")}, "Draining/Draining leave, cordoned"},
	{"activate, the user has cordoned it", []func(*View){active2, system2(ask.Staged), drain(""), cordoned(false)}, "Draining/Draining leave, cordoned"},
	{"activate what runs", []func(*View){active2, system2(ask.Committed)}, "Committed/Committed"},
	{"activate what runs, still cordoned", []func(*View){active2, system2(ask.Committed), leavingFor(time.Hour), cordoned(true)}, "Committed/Committed return"},
	{"just in time", []func(*View){active2, system2(ask.Staged), inTime}, "Draining/Draining leave"},
	{"too late to begin", []func(*View){active2, system2(ask.Staged), late}, "Staged/Late"},
	{"too late to go on", []func(*View){active2, system2(ask.Staged), late, drain(""), leavingFor(time.Hour), cordoned(true), was(v1alpha1.NodeDraining)}, "Staged/Late return"},
	{"pods are left", []func(*View){active2, system2(ask.Staged), drain(""), leavingFor(time.Minute), cordoned(true), left}, "Draining/PodsLeft evict pods"},
	{"pods are left too long", []func(*View){active2, system2(ask.Staged), drain(v1alpha1.DrainGiveUp), leavingFor(time.Hour), cordoned(true), left}, "Failed/DrainTimeout return"},
	{"pods are left too long, by default", []func(*View){active2, system2(ask.Staged), drain(""), leavingFor(time.Hour), cordoned(true), left}, "Failed/DrainTimeout return"},
	{"pods are left too long, wait", []func(*View){active2, system2(ask.Staged), drain(v1alpha1.DrainWait), leavingFor(time.Hour), cordoned(true), left}, "Draining/PodsLeft evict pods"},
	{"pods are left too long, force", []func(*View){active2, system2(ask.Staged), drain(v1alpha1.DrainForce), leavingFor(time.Hour), cordoned(true), left}, "Draining/PodsLeft delete pods"},
	{"somebody uncordoned it", []func(*View){active2, system2(ask.Staged), drain(""), leavingFor(time.Minute)}, "Draining/Draining leave, cordoned"},
	{"drained", []func(*View){active2, system2(ask.Staged), drain(""), leavingFor(time.Minute), cordoned(true)}, "Draining/Draining activate os"},
	{"drained by a user's cordon", []func(*View){active2, system2(ask.Staged), drain(""), leavingFor(time.Minute), cordoned(false)}, "Draining/Draining activate os"},
	{"not drained", []func(*View){active2, system2(ask.Staged), leavingFor(time.Minute), left}, "Draining/Draining activate os"},
	{"refused for good", []func(*View){active2, system2(ask.Staged), leavingFor(time.Minute), refusedWith(ask.KnownBad)}, "Failed/KnownBad return"},
	{"refused for now", []func(*View){active2, system2(ask.Staged), leavingFor(time.Minute), refusedWith(ask.Busy)}, "Draining/Draining activate os"},
	{"a hook before", []func(*View){active2, system2(ask.Staged), leavingFor(time.Minute), hook("pre", "")}, "Draining/Hook run hook x"},
	{"it waits for its image", []func(*View){active2, system2(ask.Staged), leavingFor(time.Minute), hook("pre", corev1.PodPending)}, "Draining/Hook"},
	{"it failed", []func(*View){active2, system2(ask.Staged), leavingFor(time.Minute), hook("pre", corev1.PodFailed)}, "Failed/HookFailed return"},
	{"it ended", []func(*View){active2, system2(ask.Staged), leavingFor(time.Minute), hook("pre", corev1.PodSucceeded)}, "Draining/Draining activate os"},
	{"nobody ends it", []func(*View){active2, system2(ask.Staged), leavingFor(time.Minute), hook("pre", corev1.PodRunning), after(7 * time.Minute)}, "Failed/HookFailed return"},
	{"a hook after", []func(*View){active2, system2(ask.Trial), leavingFor(time.Minute), hook("post", ""), held}, "Trial/Hook run hook x"},
	{"one after, while the node is not healthy", []func(*View){active2, system2(ask.Trial), leavingFor(time.Minute), hook("post", ""), held, func(v *View) { v.Status.Healthy = false }}, "Trial/Trial"},
	{"it failed after", []func(*View){active2, system2(ask.Trial), leavingFor(time.Minute), hook("post", corev1.PodFailed), held}, "Trial/HookFailed roll back os"},
	{"it ended after", []func(*View){active2, system2(ask.Trial), leavingFor(time.Minute), hook("post", corev1.PodSucceeded), held}, "Trial/Trial confirm os"},
	{"held, and the plan is gone", []func(*View){func(v *View) { v.Goal.Spec.State = "" }, system2(ask.Trial), held}, "Trial/Trial confirm os"},
	{"a release that is bad is staged by hand", []func(*View){active2, system2(ask.Staged), bad2}, "Failed/KnownBad"},

	{"no snapshot yet", []func(*View){active2, system2(ask.Staged), asked}, "Staged/Guard snapshot"},
	{"a snapshot is taken", []func(*View){active2, system2(ask.Staged), asked, work(ask.SnapshotVerb, 0, false, nil)}, "Staged/Guard"},
	{"a snapshot is there", []func(*View){active2, system2(ask.Staged), asked, saved}, "Draining/Draining leave"},
	{"a snapshot of a node at rest", []func(*View){asked}, "Idle/ snapshot"},
	{"a snapshot of a node that fetches", []func(*View){staged2, asked, work(ask.StageVerb, 2, false, nil)}, "Fetching/Fetching"},
	{"a snapshot on trial", []func(*View){active2, system2(ask.Trial), asked}, "Trial/Trial"},
	{"a snapshot that cannot be", []func(*View){asked, work(ask.SnapshotVerb, 0, true, &ask.Error{Reason: ask.NotPossible, Message: "etcd"}), func(v *View) { v.Status.Work.At = noon }}, "Idle/"},
	{"a snapshot that failed lately", []func(*View){asked, work(ask.SnapshotVerb, 0, true, &ask.Error{Reason: ask.Failed, Message: "x"}), func(v *View) { v.Status.Work.At = noon }}, "Idle/"},
	{"a snapshot that failed long ago", []func(*View){asked, work(ask.SnapshotVerb, 0, true, &ask.Error{Reason: ask.Failed, Message: "x"}), func(v *View) { v.Status.Work.At, v.Status.Work.Begun = noon, noon.Add(-time.Hour) }}, "Idle/ snapshot"},

	{"one minor version up", []func(*View){active2, brings("v1.37.0"), api("v1.37.0"), system2(ask.Staged)}, "Draining/Draining leave"},
	{"two minor versions up", []func(*View){active2, brings("v1.38.0"), api("v1.38.0"), system2(ask.Staged)}, "Staged/Guard"},
	{"one minor version down", []func(*View){active2, brings("v1.35.9"), api("v1.36.3"), system2(ask.Staged)}, "Staged/Guard"},
	{"one minor version down, under one that stays", []func(*View){active2, brings("v1.35.9"), beside("v1.35.0"), system2(ask.Staged)}, "Draining/Draining leave"},
	{"two minor versions over the one beside it", []func(*View){active2, brings("v1.38.0"), beside("v1.35.0"), api("v1.38.0"), system2(ask.Staged)}, "Staged/Guard"},
	{"newer than the API server", []func(*View){active2, brings("v1.37.0"), api("v1.36.3"), system2(ask.Staged)}, "Staged/Guard"},
	{"newer than the API server, while it drains", []func(*View){active2, brings("v1.37.0"), api("v1.36.3"), system2(ask.Staged), leavingFor(time.Minute), cordoned(true)}, "Staged/Guard return"},
	{"a server is newer than the others", []func(*View){active2, brings("v1.37.0"), api("v1.36.3"), system2(ask.Staged), func(v *View) { v.Node.ControlPlane = true }}, "Draining/Draining leave"},
	{"an API server that does not say", []func(*View){active2, brings("v1.37.0"), system2(ask.Staged)}, "Draining/Draining leave"},

	{"armed", []func(*View){active2, system2(ask.Armed), leavingFor(time.Minute)}, "Armed/Armed activate os"},
	{"armed, and the goal is withdrawn", []func(*View){system2(ask.Armed), leavingFor(time.Minute)}, "Armed/Armed activate os"},
	{"armed, and it is late", []func(*View){active2, late, system2(ask.Armed), leavingFor(time.Minute)}, "Armed/Armed activate os"},
	{"armed by a person", []func(*View){staged2, system2(ask.Armed)}, "Armed/Armed"},
	{"armed, failed before", []func(*View){active2, system2(ask.Armed), was(v1alpha1.NodeFailed), seen}, "Armed/Armed"},
	{"Kubernetes is armed", []func(*View){active2, kube4(ask.Armed), leavingFor(time.Minute)}, "Armed/Armed"},
	{"on trial", []func(*View){active2, system2(ask.Trial), leavingFor(time.Minute), cordoned(true)}, "Trial/Trial"},
	{"on trial, and called back", []func(*View){staged2, system2(ask.Trial), leavingFor(time.Minute), cordoned(true)}, "Trial/Trial"},
	{"on trial, given up", []func(*View){active2, system2(ask.Trial), func(v *View) { v.Status.OS.Reason = "unhealthy" }}, "Trial/GivenUp"},
	{"taken back", []func(*View){active2, system2(ask.RolledBack), bad2, leavingFor(time.Minute), cordoned(true), was(v1alpha1.NodeTrial)}, "RolledBack/TrialFailed return"},
	{"taken back, the status was lost", []func(*View){active2, system2(ask.RolledBack), bad2}, "RolledBack/TrialFailed"},
	{"taken back in another attempt", []func(*View){active2, system2(ask.RolledBack), bad2, again, was(v1alpha1.NodeTrial)}, "RolledBack/TrialFailed"},
	{"taken back, and the goal is the same", []func(*View){active2, system2(ask.RolledBack), again, was(v1alpha1.NodeRolledBack), seen}, "RolledBack/"},
	{"taken back long ago, another is wanted", []func(*View){state(v1alpha1.GoalStaged, osTarget(3)), system2(ask.RolledBack), bad2, was(v1alpha1.NodeRolledBack)}, "Fetching/Fetching stage"},

	{"both", []func(*View){both(v1alpha1.GoalStaged)}, "Fetching/Fetching stage"},
	{"both, one of them staged", []func(*View){both(v1alpha1.GoalStaged), system2(ask.Staged)}, "Fetching/Fetching stage"},
	{"both are staged", []func(*View){both(v1alpha1.GoalStaged), system2(ask.Staged), kube4(ask.Staged)}, "Staged/Staged"},
	{"both: the system first", []func(*View){both(v1alpha1.GoalActive), system2(ask.Staged), kube4(ask.Staged), leavingFor(time.Minute)}, "Draining/Draining activate os"},
	{"both: then Kubernetes", []func(*View){both(v1alpha1.GoalActive), system2(ask.Committed), kube4(ask.Staged), leavingFor(time.Hour), cordoned(true), was(v1alpha1.NodeTrial), late}, "Trial/Trial activate kubernetes"},
	{"both: Kubernetes later", []func(*View){both(v1alpha1.GoalActive), system2(ask.Committed), kube4(ask.Staged)}, "Draining/Draining leave"},
	{"both: Kubernetes refused", []func(*View){both(v1alpha1.GoalActive), system2(ask.Committed), kube4(ask.Staged), leavingFor(time.Hour), was(v1alpha1.NodeTrial), refusedWith(ask.Skew)}, "Failed/Skew return"},
	{"both: Kubernetes failed", []func(*View){both(v1alpha1.GoalActive), system2(ask.Committed), kube4(ask.RolledBack), leavingFor(time.Hour), was(v1alpha1.NodeTrial)}, "RolledBack/TrialFailed return"},
	{"both are there", []func(*View){both(v1alpha1.GoalActive), system2(ask.Committed), kube4(ask.Committed)}, "Committed/Committed"},
	{"the system brings Kubernetes", []func(*View){both(v1alpha1.GoalStaged), brings("v1.36.4"), system2(ask.Staged)}, "Staged/Staged"},

	{"back", []func(*View){back2, system2(ask.Committed)}, "Draining/Draining leave"},
	{"back, drained", []func(*View){back2, system2(ask.Committed), drain(""), leavingFor(time.Minute), cordoned(true)}, "Draining/Draining roll back os"},
	{"back, too late", []func(*View){back2, system2(ask.Committed), late}, "Committed/Late"},
	{"back from nothing", []func(*View){back2}, "RolledBack/Asked"},
	{"back to nothing", []func(*View){back2, system2(ask.Committed), func(v *View) { v.Status.OS.Previous = nil }}, "Failed/NoWayBack"},
	{"back, which failed", []func(*View){back2, func(v *View) {
		v.Status.OS.Running, v.Status.OS.Phase, v.Status.OS.To = system(2), ask.RolledBack, system(1)
	}}, "Failed/NoWayBack"},
	{"back, both: Kubernetes first", []func(*View){both(v1alpha1.GoalRolledBack), system2(ask.Committed), kube4(ask.Committed), leavingFor(time.Minute)}, "Draining/Draining roll back kubernetes"},
	{"back, both: then the system", []func(*View){both(v1alpha1.GoalRolledBack), system2(ask.Committed), leavingFor(time.Minute), was(v1alpha1.NodeTrial), late}, "Trial/Trial roll back os"},
	{"back is called off", []func(*View){active2, system2(ask.Committed), was(v1alpha1.NodeDraining), leavingFor(time.Minute), cordoned(true)}, "Committed/Committed return"},
	{"gone back, the goal is the same", []func(*View){back2, was(v1alpha1.NodeRolledBack), seen}, "RolledBack/"},
}

// viewOf is the view of a row.
func viewOf(with ...func(*View)) View {
	v := View{Now: noon, Goal: &v1alpha1.NodeUpgrade{ObjectMeta: metav1.ObjectMeta{Name: "n1", Generation: 2}}, Node: Node{Name: "n1"}}
	v.Goal.Status.ObservedGeneration = 1
	v.Status = &newMachine(func() time.Time { return noon }).s
	for _, f := range with {
		f(&v)
	}
	return v
}

func TestNext(t *testing.T) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			v := viewOf(r.with...)
			d := Next(v)
			got := fmt.Sprintf("%s/%s", d.Status.Phase, d.Status.Reason)
			if d.Action != nil {
				got += " " + d.Action.String()
			}
			if got != r.want {
				t.Errorf("got %s (%s), want %s", got, d.Status.Message, r.want)
			}
			if d.Status.ObservedGeneration != 2 || d.Status.BootID != "boot-0" || d.Status.Running == nil {
				t.Errorf("status is %+v", d.Status)
			}
			// Once it is written, it is not written again.
			v.Goal.Status = d.Status
			if again := Next(v); again.Status.Phase != d.Status.Phase && d.Action == nil {
				t.Errorf("then it is %s", again.Status.Phase)
			}
		})
	}
}

// What passes at once is not told; what a person may have to look at is.
func TestPassing(t *testing.T) {
	for _, c := range []struct {
		name string
		with []func(*View)
		want bool
	}{
		{"it leaves", []func(*View){drain("")}, true},
		{"it leaves, and tries again", []func(*View){drain(""), again}, false},
		{"it leaves, with a hook", []func(*View){hook("pre", "")}, false},
		{"pods are left", []func(*View){drain(""), leavingFor(time.Second), cordoned(true), left}, false},
		{"it goes", []func(*View){drain(""), leavingFor(time.Second), cordoned(true)}, true},
		{"it goes at last", []func(*View){drain(""), leavingFor(time.Second), cordoned(true), was(v1alpha1.NodeDraining)}, false},
		{"it is refused for good", []func(*View){leavingFor(time.Second), refusedWith(ask.KnownBad)}, false},
		{"it is too late", []func(*View){late}, false},
		{"it is there", []func(*View){system2(ask.Committed), leavingFor(time.Second)}, false},
	} {
		v := viewOf(append([]func(*View){active2, system2(ask.Staged)}, c.with...)...)
		if d := Next(v); d.Passing != c.want {
			t.Errorf("%s: Passing = %v, with %s", c.name, d.Passing, d.Status.Phase)
		}
	}
}

func TestYoungTrial(t *testing.T) {
	for _, c := range []struct {
		name string
		with []func(*View)
		want v1alpha1.NodePhase
	}{
		{"it has begun", []func(*View){seen, after(30 * time.Second)}, v1alpha1.NodeArmed},
		{"it runs on", []func(*View){seen, after(time.Minute)}, v1alpha1.NodeTrial},
		{"the clock was set", []func(*View){seen, after(-time.Hour)}, v1alpha1.NodeTrial},
		{"another goal", nil, v1alpha1.NodeTrial},
		{"a hook follows", []func(*View){seen, held, func(v *View) { v.Status.Healthy = false }}, v1alpha1.NodeTrial},
		{"it is given up", []func(*View){seen, func(v *View) { v.Status.OS.Reason = "unhealthy" }}, v1alpha1.NodeTrial},
		{"its agent was away", []func(*View){seen, func(v *View) {
			v.Goal.Status.Conditions = []metav1.Condition{{Type: ConditionAgent, Status: metav1.ConditionFalse}}
		}}, v1alpha1.NodeTrial},
		{"nobody knew of the restart", []func(*View){seen, was(v1alpha1.NodeDraining)}, v1alpha1.NodeTrial},
	} {
		v := viewOf(append([]func(*View){active2, system2(ask.Trial), was(v1alpha1.NodeArmed), leavingFor(time.Minute)}, c.with...)...)
		if d := Next(v); d.Status.Phase != c.want || d.Action != nil {
			t.Errorf("%s: %s, action %v", c.name, d.Status.Phase, d.Action)
		}
	}
}

func TestNextWithoutAgent(t *testing.T) {
	v := View{Now: noon, Goal: &v1alpha1.NodeUpgrade{}, Error: errors.New("nobody is there")}
	v.Goal.Generation, v.Goal.Status.ObservedGeneration, v.Goal.Status.Phase = 2, 1, v1alpha1.NodeDraining
	d := Next(v)
	if d.Action != nil || d.Status.Phase != v1alpha1.NodeDraining || d.Status.ObservedGeneration != 1 || d.Status.Conditions[0].Status != metav1.ConditionFalse {
		t.Errorf("Next = %+v", d)
	}
}

func TestStatusIsWithinTheSchema(t *testing.T) {
	v := View{Now: noon, Goal: &v1alpha1.NodeUpgrade{}}
	s := newMachine(func() time.Time { return noon }).s
	long := strings.Repeat("é", 4000)
	s.OS.Phase, s.OS.Text = ask.Trial, long
	for i := range 30 {
		s.OS.Bad = append(s.OS.Bad, ask.Bad{Release: ask.Release{Digest: fmt.Sprint("sha256:", i)}, Reason: long, Time: noon.Add(time.Duration(i) * time.Hour)})
	}
	s.Kubernetes.Bad = []ask.Bad{{Reason: "one without a digest"}}
	v.Status = &s
	d := Next(v)
	if len(d.Status.Message) > 2048 || len(d.Status.Bad) != 20 || d.Status.Bad[19].Digest != "sha256:29" || !strings.HasSuffix(d.Status.Message, "é…") {
		t.Errorf("message of %d bytes, %d bad", len(d.Status.Message), len(d.Status.Bad))
	}
}

func TestLeaves(t *testing.T) {
	mirror, done, other := pod("a", "ReplicaSet"), pod("b", "Job"), pod("c", "ReplicaSet")
	mirror.Annotations = map[string]string{mirrorAnnotation: "x"}
	done.Status.Phase = corev1.PodSucceeded
	other.Labels = map[string]string{"keep": "yes"}
	selector, err := labels.Parse("keep!=yes")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		pod  *corev1.Pod
		want bool
	}{
		{"a Deployment's", pod("web", "ReplicaSet"), true}, {"a StatefulSet's", pod("db", "StatefulSet"), true}, {"a Job's", pod("job", "Job"), true},
		{"a DaemonSet's", pod("proxy", "DaemonSet"), false}, {"nobody's", pod("bare", ""), false}, {"a static one", pod("etcd", "Node"), false},
		{"a mirror", mirror, false}, {"one that has ended", done, false}, {"one that the selector leaves out", other, false},
	} {
		if got := leaves(c.pod, selector); got != c.want {
			t.Errorf("leaves of %s = %v", c.name, got)
		}
	}
	if _, err := leaving(nil, &v1alpha1.Drain{PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: "no"}}}}); err == nil {
		t.Error("a selector that is not sound is taken")
	}
}

func TestMinorVersion(t *testing.T) {
	for v, want := range map[string]int{"v1.36.3": 36, "1.36.3+k3s1": 36, "v1.36": -1, "v2.0.0": -1, "": -1, "v1.x.3": -1, "v1.-1.3": -1} {
		if got := minor(v); got != want {
			t.Errorf("minor(%q) = %d, want %d", v, got, want)
		}
	}
}
