package nodeagent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

func stagedGoal(t *v1alpha1.Target) func(*v1alpha1.NodeUpgradeSpec) {
	return func(s *v1alpha1.NodeUpgradeSpec) {
		*s = v1alpha1.NodeUpgradeSpec{State: v1alpha1.GoalStaged, Target: t, Attempt: 1}
	}
}

func activeGoal(t *v1alpha1.Target) func(*v1alpha1.NodeUpgradeSpec) {
	return func(s *v1alpha1.NodeUpgradeSpec) {
		s.State, s.Target, s.Drain = v1alpha1.GoalActive, t, &v1alpha1.Drain{Timeout: &metav1.Duration{Duration: 2 * time.Minute}, WhenBlocked: v1alpha1.DrainGiveUp}
	}
}

func backGoal(s *v1alpha1.NodeUpgradeSpec) { s.State = v1alpha1.GoalRolledBack }

func TestUpgrade(t *testing.T) {
	w := newWorld(t, pod("web", "ReplicaSet"), pod("proxy", "DaemonSet"), pod("bare", ""))
	w.run(2)
	w.check(v1alpha1.NodeIdle, false, "")
	before := w.writes
	w.want(stagedGoal(osTarget(2)))
	w.run(6)
	w.check(v1alpha1.NodeStaged, false, "stage")
	w.want(activeGoal(osTarget(2)))
	w.run(20)
	w.check(v1alpha1.NodeCommitted, false, "stage, arm os, restart")
	if got := w.left(); got != "bare proxy" {
		t.Errorf("left: %s", got)
	}
	if want := []string{"Idle", "Fetching", "Staged", "Draining", "Armed", "Committed"}; !slices.Equal(w.phases, want) {
		t.Errorf("phases %v, want %v", w.phases, want)
	}
	nu := w.nu()
	if s := nu.Status; s.Running.OS.Digest != digest(2) || s.Previous.OS.Digest != digest(1) || s.Staged != nil || s.BootID != "boot-1" || s.CommittedAt == nil {
		t.Errorf("status is %+v", s)
	}
	// What the controller writes comes on top.
	if n := w.writes - before; n > 7 {
		t.Errorf("%d writes to the API", n)
	} else {
		t.Logf("%d writes to the API", n)
	}
	calls := w.calls
	w.run(20)
	t.Logf("%d calls in 20 looks of a node at rest", w.calls-calls)
}

// With the two goals of the controller, a node that nobody has to leave is
// upgraded with eight writes to the API.
func TestUpgradeOfAnEmptyNode(t *testing.T) {
	w := newWorld(t, pod("proxy", "DaemonSet"))
	w.run(2)
	before := w.writes
	w.want(stagedGoal(osTarget(2)))
	w.run(6)
	w.want(activeGoal(osTarget(2)))
	w.run(20)
	w.check(v1alpha1.NodeCommitted, false, "stage, arm os, restart")
	if want := []string{"Idle", "Fetching", "Staged", "Armed", "Committed"}; !slices.Equal(w.phases, want) {
		t.Errorf("phases %v, want %v", w.phases, want)
	}
	if n := w.writes - before; n > 6 {
		t.Errorf("%d writes to the API", n)
	} else {
		t.Logf("%d writes to the API", n)
	}
}

func TestUpgradeThatFails(t *testing.T) {
	w := newWorld(t, pod("web", "ReplicaSet"))
	w.m.unwell = true
	w.want(stagedGoal(osTarget(2)))
	w.run(6)
	w.want(activeGoal(osTarget(2)))
	w.run(20)
	w.check(v1alpha1.NodeRolledBack, false, "stage, arm os, restart")
	if s := w.nu().Status; s.Message != "not healthy within 15m" || len(s.Bad) != 1 || s.Bad[0].Digest != digest(2) {
		t.Errorf("status is %+v", s)
	}
	// The same once more, without leave for what is bad.
	w.want(stagedGoal(osTarget(2)))
	w.run(3)
	if s := w.nu().Status; s.Phase != v1alpha1.NodeRolledBack {
		t.Errorf("phase is %s: %s", s.Phase, s.Message)
	}
	// Another attempt may, and succeeds.
	w.m.unwell = false
	w.want(func(s *v1alpha1.NodeUpgradeSpec) {
		stagedGoal(osTarget(2))(s)
		s.Again, s.Attempt = true, 2
	})
	w.run(6)
	w.check(v1alpha1.NodeStaged, false, "stage, arm os, restart, stage")
	w.want(activeGoal(osTarget(2)))
	w.run(20)
	w.check(v1alpha1.NodeCommitted, false, "stage, arm os, restart, stage, arm os, restart")
}

func TestUsersCordonStays(t *testing.T) {
	w := newWorld(t, pod("web", "ReplicaSet"))
	w.cordon(true)
	w.want(activeGoal(osTarget(2)))
	w.run(30)
	w.check(v1alpha1.NodeCommitted, true, "stage, arm os, restart")
}

func TestUserUncordonsWhileItDrains(t *testing.T) {
	w := newWorld(t, pod("web", "ReplicaSet"))
	w.budget = true
	w.want(activeGoal(osTarget(2)))
	w.run(8)
	w.cordon(false)
	w.run(2)
	if n := w.node(); !n.Spec.Unschedulable || n.Annotations[CordonedAnnotation] == "" {
		t.Errorf("it drains without a cordon: %+v", n.Annotations)
	}
	w.budget = false
	w.run(20)
	w.check(v1alpha1.NodeCommitted, false, "stage, arm os, restart")
}

func TestBlockedDrain(t *testing.T) {
	for _, c := range []struct {
		when  v1alpha1.BlockedDrain
		phase v1alpha1.NodePhase
		left  string
	}{
		{v1alpha1.DrainGiveUp, v1alpha1.NodeFailed, "web"},
		{v1alpha1.DrainForce, v1alpha1.NodeCommitted, ""},
	} {
		t.Run(string(c.when), func(t *testing.T) {
			w := newWorld(t, pod("web", "ReplicaSet"))
			w.budget = true
			w.want(activeGoal(osTarget(2)))
			w.want(func(s *v1alpha1.NodeUpgradeSpec) { s.Drain.WhenBlocked = c.when })
			w.run(60)
			did := "stage"
			if c.phase == v1alpha1.NodeCommitted {
				did = "stage, arm os, restart"
			}
			w.check(c.phase, false, did)
			if got := w.left(); got != c.left {
				t.Errorf("left: %s", got)
			}
			if c.phase == v1alpha1.NodeFailed {
				want := "pods have not left within 2m0s: 1 pods are left: shop/web (The disruption budget web needs 1 healthy pods and has 1 currently)"
				if got := w.nu().Status.Message; got != want {
					t.Errorf("message is %q, want %q", got, want)
				}
			}
		})
	}
}

func TestWaitingDrainEndsWithItsLeave(t *testing.T) {
	w := newWorld(t, pod("web", "ReplicaSet"))
	w.budget = true
	w.want(activeGoal(osTarget(2)))
	w.want(func(s *v1alpha1.NodeUpgradeSpec) {
		s.Drain.WhenBlocked, s.NotAfter = v1alpha1.DrainWait, stamp(noon.Add(4*time.Minute))
	})
	w.run(40)
	if got := w.nu().Status.Phase; got != v1alpha1.NodeDraining {
		t.Errorf("after the timeout: %s", got)
	}
	w.run(20)
	w.check(v1alpha1.NodeStaged, false, "stage")
}

func TestCalledBack(t *testing.T) {
	w := newWorld(t, pod("web", "ReplicaSet"))
	w.budget = true
	w.want(activeGoal(osTarget(2)))
	w.run(10)
	if s := w.nu().Status; !meta.IsStatusConditionFalse(s.Conditions, ConditionDrained) || !strings.Contains(s.Message, "disruption budget web") {
		t.Errorf("it does not say what blocks it: %s, %+v", s.Message, s.Conditions)
	}
	w.want(stagedGoal(osTarget(2)))
	w.run(4)
	w.check(v1alpha1.NodeStaged, false, "stage")
}

func TestRollbackByThePlan(t *testing.T) {
	w := newWorld(t, pod("web", "ReplicaSet"))
	w.want(activeGoal(osTarget(2)))
	w.run(30)
	w.want(backGoal)
	w.run(20)
	w.check(v1alpha1.NodeRolledBack, false, "stage, arm os, restart, back os, restart")
	if s := w.nu().Status; s.Running.OS.Digest != digest(1) {
		t.Errorf("it runs %+v", s.Running)
	}
}

func TestSystemAndKubernetes(t *testing.T) {
	target := osTarget(2)
	target.Kubernetes = kubeTarget(4)
	w := newWorld(t, pod("web", "ReplicaSet"))
	w.want(activeGoal(target))
	w.run(40)
	w.check(v1alpha1.NodeCommitted, false, "stage, arm os, restart, arm kubernetes")
	w.want(backGoal)
	w.run(40)
	w.check(v1alpha1.NodeRolledBack, false, "stage, arm os, restart, arm kubernetes, back kubernetes, back os, restart")
}

func TestKubernetesAlone(t *testing.T) {
	w := newWorld(t, pod("web", "ReplicaSet"))
	w.want(activeGoal(&v1alpha1.Target{Kubernetes: kubeTarget(4)}))
	w.run(30)
	w.check(v1alpha1.NodeCommitted, false, "stage, arm kubernetes")
}

func TestSingleNodeIsNotDrained(t *testing.T) {
	w := newWorld(t, pod("web", "ReplicaSet"))
	w.want(activeGoal(osTarget(2)))
	w.want(func(s *v1alpha1.NodeUpgradeSpec) { s.Drain = nil })
	w.run(30)
	w.check(v1alpha1.NodeCommitted, false, "stage, arm os, restart")
	if got := w.left(); got != "web" || len(w.evicted) > 0 {
		t.Errorf("left %s, evicted %v", got, w.evicted)
	}
}

func TestSnapshotBeforeTheUpgrade(t *testing.T) {
	w := newWorld(t)
	at := stamp(noon.Add(-time.Minute))
	w.want(stagedGoal(osTarget(2)))
	w.run(6)
	w.want(func(s *v1alpha1.NodeUpgradeSpec) { s.SnapshotRequestedAt = at })
	w.run(3)
	w.check(v1alpha1.NodeStaged, false, "stage, snapshot")
	if s := w.nu().Status.Snapshot; s == nil || !s.RequestedAt.Equal(at) {
		t.Errorf("snapshot is %+v", s)
	}
}

func TestTransferThatFails(t *testing.T) {
	w := newWorld(t)
	w.m.broken = &ask.Error{Reason: ask.NotFound, Message: "no such image"}
	w.want(stagedGoal(osTarget(2)))
	w.run(12 * 20)
	if s := w.nu().Status; s.Phase != v1alpha1.NodeFetching || len(w.m.did) < 10 {
		t.Errorf("after 20 minutes: %s, tried %d times", s.Phase, len(w.m.did))
	}
	w.run(12 * 20)
	if s := w.nu().Status; s.Phase != v1alpha1.NodeFailed || s.Reason != ask.NotFound || s.Message != "no such image" {
		t.Errorf("after 40 minutes: %+v", s)
	}
	tries := len(w.m.did)
	w.m.broken = &ask.Error{Reason: ask.Untrusted, Message: "nobody signed it"}
	w.want(func(s *v1alpha1.NodeUpgradeSpec) { s.Again, s.Attempt = true, 2 })
	w.run(20)
	if s := w.nu().Status; s.Phase != v1alpha1.NodeFailed || s.Reason != ask.Untrusted || len(w.m.did) != tries+1 {
		t.Errorf("one that is not signed: %+v, tried %d times", s, len(w.m.did)-tries)
	}
}

// TestKilled lets the process die at every call that it makes, before the call
// and after it: in the end all is as if it had lived.
func TestKilled(t *testing.T) {
	both := osTarget(2)
	both.Kubernetes = kubeTarget(4)
	for _, c := range []struct {
		name   string
		target *v1alpha1.Target
		unwell bool
		back   bool
		phase  v1alpha1.NodePhase
		did    string
	}{
		{"upgrade", osTarget(2), false, false, v1alpha1.NodeCommitted, "stage, snapshot, arm os, restart"},
		{"failure", osTarget(2), true, false, v1alpha1.NodeRolledBack, "stage, snapshot, arm os, restart"},
		{"both, and back", both, false, true, v1alpha1.NodeRolledBack, "stage, snapshot, arm os, restart, arm kubernetes, back kubernetes, back os, restart"},
	} {
		t.Run(c.name, func(t *testing.T) {
			story := func(t *testing.T, dies int, after bool) int {
				w := newWorld(t, pod("web", "ReplicaSet"), pod("db", "StatefulSet"), pod("proxy", "DaemonSet"))
				w.dies, w.after, w.m.unwell = dies, after, c.unwell
				w.run(2)
				w.want(stagedGoal(c.target))
				w.run(8)
				w.want(func(s *v1alpha1.NodeUpgradeSpec) { s.SnapshotRequestedAt = stamp(noon) })
				w.run(4)
				w.want(activeGoal(c.target))
				w.run(35)
				if c.back {
					w.want(backGoal)
					w.run(35)
				}
				w.check(c.phase, false, c.did)
				if got := w.left(); got != "proxy" {
					t.Errorf("left: %s", got)
				}
				if !c.unwell && !c.back && w.nu().Status.Running.OS.Digest != digest(2) {
					t.Errorf("it runs %+v", w.nu().Status.Running)
				}
				return w.calls
			}
			calls := story(t, 0, false)
			t.Logf("dies at each of %d calls", calls)
			for n := 1; n <= calls; n++ {
				for _, after := range []bool{false, true} {
					t.Run(fmt.Sprintf("%d,after=%v", n, after), func(t *testing.T) { story(t, n, after) })
				}
			}
		})
	}
}

func hooked(t *v1alpha1.Target) func(*v1alpha1.NodeUpgradeSpec) {
	return func(s *v1alpha1.NodeUpgradeSpec) {
		activeGoal(t)(s)
		s.Plan, s.GrantedAt = &v1alpha1.PlanRef{Name: "weekly"}, stamp(noon)
		s.Hooks = &v1alpha1.Hooks{
			Pre:  []v1alpha1.Hook{{Name: "park", Image: "registry.example/park"}, {Name: "tell them", Image: "registry.example/tell", Env: map[string]string{"WHO": "all"}}},
			Post: []v1alpha1.Hook{{Name: "unpark", Image: "registry.example/park", Args: []string{"-u"}, ServiceAccount: "parking"}},
		}
	}
}

func TestHooks(t *testing.T) {
	both := osTarget(2)
	both.Kubernetes = kubeTarget(4)
	for _, c := range []struct {
		name   string
		target *v1alpha1.Target
		fails  string
		phase  v1alpha1.NodePhase
		did    string
		hooks  string
		why    string
	}{
		{"all end well", osTarget(2), "", v1alpha1.NodeCommitted, "stage, arm os, restart, confirm os", "park tell-them unpark", "it runs the target"},
		{"one before fails", osTarget(2), "tell-them", v1alpha1.NodeFailed, "stage", "park tell-them", `the hook "tell them" failed: exit code 3: no luck`},
		{"one after fails", osTarget(2), "unpark", v1alpha1.NodeRolledBack, "stage, arm os, restart, back os", "park tell-them unpark", `the hook "unpark" failed: exit code 3: no luck`},
		{"both parts", both, "", v1alpha1.NodeCommitted, "stage, arm os, restart, arm kubernetes, confirm kubernetes", "park tell-them unpark", "it runs the target"},
	} {
		story := func(t *testing.T, dies int, after bool) *world {
			w := newWorld(t, pod("web", "ReplicaSet"))
			w.dies, w.after, w.fails = dies, after, map[string]int32{c.fails: 3}
			w.run(2)
			w.want(stagedGoal(c.target))
			w.run(8)
			w.want(hooked(c.target))
			w.run(50)
			w.check(c.phase, false, c.did)
			if got := strings.Join(w.hooks, " "); got != c.hooks {
				t.Errorf("hooks ran: %s, want %s", got, c.hooks)
			}
			if got := w.nu().Status.Message; got != c.why {
				t.Errorf("message is %q, want %q", got, c.why)
			}
			// What failed stays, for its logs.
			left := 0
			for _, name := range strings.Fields(w.left()) {
				if strings.HasPrefix(name, "upgrade-") {
					left++
				}
			}
			if want := map[bool]int{true: 0, false: 1}[c.fails == ""]; left != want {
				t.Errorf("%d pods of hooks are left, want %d", left, want)
			}
			return w
		}
		t.Run(c.name, func(t *testing.T) {
			calls := story(t, 0, false).calls
			for n := 1; n <= calls; n += 7 {
				t.Run(fmt.Sprint(n), func(t *testing.T) { story(t, n, n%2 == 0) })
			}
		})
	}
}

func TestHookPod(t *testing.T) {
	w := newWorld(t)
	w.want(hooked(osTarget(2)))
	goal := w.nu()
	d := &decider{View: View{Now: noon, Goal: goal, Node: Node{Name: "n1"}}, goal: goal.Spec}
	p := d.hookPod("pre", goal.Spec.Hooks.Pre[1])
	var env []string
	for _, e := range p.Spec.Containers[0].Env {
		env = append(env, e.Name+"="+e.Value)
	}
	if got := strings.Join(env, " "); got != "KEDGE_NODE=n1 KEDGE_PLAN=weekly KEDGE_TARGET=2.0.0 WHO=all" {
		t.Errorf("environment is %s", got)
	}
	if p.Spec.NodeName != "n1" || *p.Spec.AutomountServiceAccountToken || *p.Spec.ActiveDeadlineSeconds != 300 {
		t.Errorf("pod is %+v", p.Spec)
	}
	if u := d.hookPod("post", goal.Spec.Hooks.Post[0]); u.Spec.ServiceAccountName != "parking" || !*u.Spec.AutomountServiceAccountToken || u.Name == p.Name {
		t.Errorf("pod is %+v", u.Spec)
	}
	// Another leave runs it once more.
	d.goal.GrantedAt = stamp(noon.Add(time.Hour))
	if again := d.hookPod("pre", goal.Spec.Hooks.Pre[1]); again.Name == p.Name {
		t.Error("another leave has the same pod")
	}
}

// TestLostStatus lets the status be lost at every moment.
func TestLostStatus(t *testing.T) {
	for lost := range 40 {
		w := newWorld(t, pod("web", "ReplicaSet"))
		w.want(stagedGoal(osTarget(2)))
		for i := range 40 {
			if i == 8 {
				w.want(activeGoal(osTarget(2)))
			}
			if i == lost {
				nu := w.nu()
				nu.Status = v1alpha1.NodeUpgradeStatus{}
				if _, err := w.api.Write(t.Context(), nu); err != nil {
					t.Fatal(err)
				}
				w.reborn()
			}
			w.run(1)
		}
		w.check(v1alpha1.NodeCommitted, false, "stage, arm os, restart")
		if t.Failed() {
			t.Fatalf("lost at %d", lost)
		}
	}
}

// TestAgentForgets lets the agent start anew at every moment: it then knows
// nothing of the work that it was at.
func TestAgentForgets(t *testing.T) {
	const fetching = 1 // the moment at which a transfer is under way
	for lost := range 40 {
		w := newWorld(t, pod("web", "ReplicaSet"))
		w.want(activeGoal(osTarget(2)))
		for i := range 40 {
			if i == lost {
				w.m.s.Work, w.m.restart = nil, false
			}
			w.run(1)
		}
		did := "stage, arm os, restart"
		if lost == fetching {
			did = "stage, " + did
		}
		w.check(v1alpha1.NodeCommitted, false, did)
		if t.Failed() {
			t.Fatalf("lost at %d", lost)
		}
	}
}

func TestAgentThatDoesNotAnswer(t *testing.T) {
	w := newWorld(t)
	w.run(1)
	before := w.writes
	w.m.silent = true
	w.run(5) // it may only start anew
	w.m.silent = false
	w.run(2)
	if w.writes != before {
		t.Errorf("%d writes for a short silence", w.writes-before)
	}
	w.m.silent = true
	w.run(12)
	s := w.nu().Status
	if c := s.Conditions[0]; c.Type != ConditionAgent || c.Status != metav1.ConditionFalse || s.Phase != v1alpha1.NodeIdle || s.Message != "the agent of this machine does not answer" || w.writes != before+1 {
		t.Errorf("status is %+v after %d writes", s, w.writes-before)
	}
	w.m.silent = false
	w.run(2)
	if s := w.nu().Status; s.Conditions[0].Status != metav1.ConditionTrue || s.Message != "" {
		t.Errorf("then: %+v", s)
	}
}
