package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

const simple = "os: {image: IMAGE}"

func TestSuccess(t *testing.T) {
	w := newWorld(t, "s0", "w1", "w2")
	w.apply("edge", simple)
	w.begin()
	p := w.phase(v1alpha1.PlanComplete)
	if p.Status.Progress != "3/3" || w.mostAway() != 1 || p.Status.Target.OS.KubernetesVersion != kubelet {
		t.Errorf("status %+v, and %d nodes were away at once", p.Status, w.mostAway())
	}
	for _, n := range []string{"s0", "w1", "w2"} {
		nu := w.node(n)
		if nu.Status.Running.OS.Version != newVersion || len(nu.OwnerReferences) != 1 || nu.OwnerReferences[0].Name != n || nu.OwnerReferences[0].UID == "" {
			t.Errorf("%s: %+v", n, nu)
		}
	}
	w.lock.Lock()
	if w.limit != memoryFor(3) {
		t.Errorf("the controller may hold %d bytes", w.limit)
	}
	w.lock.Unlock()
	// The tag moves on; the plan means what it was found to be. One that joins
	// is brought there, too.
	w.push("v3.0.0")
	w.join("w3")
	w.until("fourth node", func() bool { return w.plan("edge").Status.Progress == "4/4" })
	if got := w.node("w3").Status.Running.OS.Version; got != newVersion {
		t.Errorf("w3 runs %s", got)
	}
	w.until("events", func() bool {
		w.api.lock.Lock()
		defer w.api.lock.Unlock()
		reasons := map[string]bool{}
		for _, e := range w.api.objects["events"] {
			reasons[e["reason"].(string)] = true
		}
		return reasons["Complete"] && reasons["Activate"] && reasons["Stage"]
	})
}

func TestCanaryFails(t *testing.T) {
	w := newWorld(t, "w1", "w2", "w3")
	w.rollsBack["w1"] = true
	w.apply("edge", "os: {image: IMAGE}\nsteps: [{max: 1, soak: 1h}]")
	w.begin()
	p := w.phase(v1alpha1.PlanHalted)
	if p.Status.Failed != 1 || p.Status.Failures[0].Node != "w1" || !strings.Contains(p.Status.Message, "kubelet does not answer") {
		t.Errorf("status %+v", p.Status)
	}
	w.pass(48 * time.Hour)
	time.Sleep(100 * time.Millisecond)
	for _, n := range []string{"w2", "w3"} {
		if nu := w.node(n); nu.Status.Running.OS.Version != oldVersion || nu.Spec.GrantedAt != nil {
			t.Errorf("%s went on: %+v", n, nu)
		}
	}
	// The release is mended, or the node is: another try is asked for.
	w.api.lock.Lock()
	w.rollsBack["w1"] = false
	w.api.lock.Unlock()
	w.apply("edge", "os: {image: IMAGE}\nretry: 1")
	w.phase(v1alpha1.PlanComplete)
}

func TestRollback(t *testing.T) {
	w := newWorld(t, "w1", "w2")
	w.apply("edge", simple)
	w.begin()
	w.phase(v1alpha1.PlanComplete)
	w.apply("edge", "os: {image: IMAGE}\nrollback: true")
	p := w.phase(v1alpha1.PlanRolledBack)
	if got := w.node("w2").Status.Running.OS.Version; got != oldVersion || p.Status.RolledBack != 2 {
		t.Errorf("w2 runs %s, status %+v", got, p.Status)
	}
}

func TestPause(t *testing.T) {
	w := newWorld(t, "w1", "w2")
	w.apply("edge", "os: {image: IMAGE}\npaused: true")
	w.begin()
	w.phase(v1alpha1.PlanPaused)
	time.Sleep(50 * time.Millisecond)
	if w.mostAway() != 0 || w.node("w1").Spec.State != v1alpha1.GoalNone {
		t.Errorf("paused, and %d nodes went; w1: %+v", w.mostAway(), w.node("w1").Spec)
	}
	w.apply("edge", simple)
	w.phase(v1alpha1.PlanComplete)
}

// The window opens without anything else happening: the loop must wake by itself
// at the time that Decide names.
func TestWindow(t *testing.T) {
	w := newWorld(t, "w1")
	w.apply("edge", "os: {image: IMAGE}\nwindows: [{start: \"14:00\", duration: 1h, timeZone: UTC}]")
	w.begin()
	p := w.phase(v1alpha1.PlanWaiting)
	w.until("staged release", func() bool { return w.node("w1").Status.Phase == v1alpha1.NodeStaged })
	if !strings.Contains(p.Status.Message, "waiting for window") || w.mostAway() != 0 {
		t.Errorf("status %+v", p.Status)
	}
	w.until("quiet", func() bool { return w.plan("edge").Status.Staged == 1 })
	w.lock.Lock()
	w.time = time.Date(2026, 11, 21, 13, 59, 59, 500_000_000, time.UTC)
	w.lock.Unlock()
	w.loopNow().kick()
	time.Sleep(200 * time.Millisecond)
	if w.mostAway() != 0 {
		t.Error("it went before the window")
	}
	w.lock.Lock()
	w.time = time.Date(2026, 11, 21, 14, 0, 0, 0, time.UTC)
	w.lock.Unlock()
	w.phase(v1alpha1.PlanComplete)
}

func (w *world) loopNow() *loop {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.loop
}

func TestSoak(t *testing.T) {
	w := newWorld(t, "w1", "w2", "w3")
	w.apply("edge", "os: {image: IMAGE}\nsteps: [{max: 1, soak: 1h}]\nmaxUnavailable: 3")
	w.begin()
	p := w.phase(v1alpha1.PlanSoaking)
	if p.Status.Updated != 1 {
		t.Errorf("status %+v", p.Status)
	}
	w.pass(2 * time.Hour)
	w.phase(v1alpha1.PlanComplete)
}

// The controller dies after each of its writes: first so that the write is done
// and nobody hears of it, then so that every second one is not done.
func TestDiesAtEveryWrite(t *testing.T) {
	for name, treat := range map[string]func(n int) (does, tells bool){
		"done, not told":             func(int) (bool, bool) { return true, false },
		"told, the next is not done": func(n int) (bool, bool) { return n == 1, n == 1 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "s0", "w1", "w2")
			w.apply("edge", "os: {image: IMAGE}\nsteps: [{max: 1, soak: 1h}]")
			died := make(chan struct{}, 1)
			writes := map[string]int{}
			w.api.treat = func(token string) (bool, bool) {
				writes[token]++
				does, tells := treat(writes[token])
				if !tells {
					w.api.dead[token] = true
					select {
					case died <- struct{}{}:
					default:
					}
				}
				return does, tells
			}
			w.begin()
			for end := time.Now().Add(3 * time.Minute); w.plan("edge").Status.Phase != v1alpha1.PlanComplete; {
				select {
				case <-died:
					w.begin()
				case <-time.After(200 * time.Millisecond):
					w.pass(30 * time.Minute)
				}
				if time.Now().After(end) {
					t.Fatalf("it does not end: %+v\n%s", w.plan("edge").Status, w.nodeText())
				}
			}
			w.check()
			if w.mostAway() != 1 || w.runs < 10 {
				t.Errorf("%d nodes were away at once, in %d runs of the controller", w.mostAway(), w.runs)
			}
			t.Logf("%d runs of the controller", w.runs)
		})
	}
}

// Statuses of plans and of nodes are lost in the middle.
func TestLostStatus(t *testing.T) {
	w := newWorld(t, "w1", "w2", "w3")
	w.apply("edge", "os: {image: IMAGE}\nsteps: [{max: 1, soak: 1h}]")
	w.begin()
	w.phase(v1alpha1.PlanSoaking)
	digest := w.plan("edge").Status.Target.OS.Digest
	w.push("v3.0.0") // would be found if it were looked up again
	w.halt()
	w.api.lock.Lock()
	for _, resource := range []string{"plans", "nodeupgrades"} {
		for name, o := range w.api.objects[resource] {
			o = copied(o)
			delete(o, "status")
			if resource == "nodeupgrades" { // an agent keeps what it runs on its disk
				old := decode[v1alpha1.NodeUpgrade](t, w.api.objects[resource][name])
				o["status"] = encode(v1alpha1.NodeUpgradeStatus{Running: old.Status.Running, Phase: v1alpha1.NodeIdle})
			}
			w.api.put(resource, name, o)
		}
	}
	w.api.lock.Unlock()
	w.begin()
	w.until("status", func() bool { return w.plan("edge").Status.Target != nil })
	for w.plan("edge").Status.Phase != v1alpha1.PlanComplete {
		w.pass(time.Hour)
		time.Sleep(20 * time.Millisecond)
	}
	if p := w.plan("edge"); p.Status.Target.OS.Digest != digest || w.mostAway() != 1 {
		t.Errorf("the plan means %+v now, and %d were away", p.Status.Target.OS, w.mostAway())
	}
}

// Another controller writes a goal, which ours has not seen: it must not write
// over it.
func TestConflict(t *testing.T) {
	w := newWorld(t, "w1")
	w.apply("edge", simple)
	other := 0
	w.api.treat = func(string) (bool, bool) {
		// Before each of our first writes the other one is faster.
		if o := w.api.objects["nodeupgrades"]["w1"]; o != nil && other < 3 {
			other++
			o = copied(o)
			o["spec"] = object{"attempt": 7 + other}
			w.api.put("nodeupgrades", "w1", o)
		}
		return true, true
	}
	w.begin()
	w.phase(v1alpha1.PlanComplete)
	if w.writes("goal", "error") == 0 {
		t.Error("no goal was refused")
	}
}

// What changes each second is told now and then, what matters at once.
func TestTellsNowAndThen(t *testing.T) {
	nodes := []string{"w1", "w2", "w3", "w4", "w5", "w6"}
	count := func(telling time.Duration) (v1alpha1.PlanStatus, int) {
		w := newWorld(t, nodes...)
		w.telling = telling
		w.apply("edge", "os: {image: IMAGE}\nmaxUnavailable: 1\nstage: Late")
		w.begin()
		s := w.phase(v1alpha1.PlanComplete).Status
		return s, w.writes("status", "ok")
	}
	_, each := count(0)
	status, few := count(time.Hour)
	if status.Progress != "6/6" || status.Updated != 6 || status.Updating != 0 {
		t.Errorf("status %+v", status)
	}
	if few > 4 || few < 2 || each < 3*few {
		t.Errorf("%d statuses were written, and %d when each change is told", few, each)
	}
	// Words that waited are told when they are due.
	w := newWorld(t, nodes...)
	w.telling = 200 * time.Millisecond
	w.apply("edge", "os: {image: IMAGE}\nsteps: [{max: 2, soak: 1h}]")
	w.begin()
	w.phase(v1alpha1.PlanSoaking)
	w.until("the two that are through", func() bool { s := w.plan("edge").Status; return s.Progress == "2/6" && s.Updating == 0 })
}

// A check that holds no more stops the plan, though the node says that it is
// well.
func TestChecks(t *testing.T) {
	w := newWorld(t, "w1", "w2")
	shop := func(ready int) {
		w.api.put("deployments", "shop/web", object{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": "web", "namespace": "shop"},
			"spec": object{"replicas": 2}, "status": object{"readyReplicas": ready},
		})
	}
	w.api.lock.Lock()
	shop(2)
	w.api.lock.Unlock()
	// The first node breaks the shop as it comes back.
	w.api.treat = func(string) (bool, bool) {
		if o := w.api.objects["nodeupgrades"]["w1"]; o != nil {
			if nu := decode[v1alpha1.NodeUpgrade](t, o); nu.Status.Phase == v1alpha1.NodeDraining {
				shop(1)
			}
		}
		return true, true
	}
	w.apply("edge", `
os: {image: IMAGE}
health:
  deadline: 10m
  checks: [{name: shop, apiVersion: apps/v1, kind: Deployment, namespace: shop, expr: self.status.readyReplicas == self.spec.replicas}]`)
	w.api.lock.Lock()
	w.api.put("nodeupgrades", "none", object{}) // an object without a node is left alone
	w.api.lock.Unlock()
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		for t.Context().Err() == nil {
			w.api.lock.Lock()
			if o := w.api.objects["nodeupgrades"]["w1"]; o != nil {
				if p, _ := copied(o)["status"].(object); p != nil && p["phase"] == "Trial" {
					shop(1)
					w.api.lock.Unlock()
					return
				}
			}
			w.api.lock.Unlock()
		}
	}()
	w.begin()
	<-broken
	w.until("waiting for the check", func() bool { return strings.Contains(w.plan("edge").Status.Message, "waiting for health check shop") })
	if nu := w.node("w2"); nu.Spec.GrantedAt != nil {
		t.Errorf("w2 was told to go: %+v", nu.Spec)
	}
	w.pass(time.Hour)
	p := w.phase(v1alpha1.PlanHalted)
	if !strings.Contains(p.Status.Message, "Deployment shop/web: self.status.readyReplicas == self.spec.replicas is false") {
		t.Errorf("status %+v", p.Status)
	}
}

// An agent that does nothing is called back, and counts as failed.
func TestDeafNode(t *testing.T) {
	w := newWorld(t, "w1", "w2")
	w.apply("edge", simple)
	w.api.treat = func(string) (bool, bool) {
		if o := w.api.objects["nodeupgrades"]["w1"]; o != nil {
			w.silent["w1"] = decode[v1alpha1.NodeUpgrade](t, o).Status.Phase == v1alpha1.NodeStaged
		}
		return true, true
	}
	w.begin()
	w.until("goal", func() bool { return w.node("w1").Spec.State == v1alpha1.GoalActive })
	w.pass(11 * time.Minute)
	p := w.phase(v1alpha1.PlanHalted)
	// The status is written first.
	w.until("goal that is given up", func() bool { return w.node("w1").Spec.GaveUp != nil })
	if nu := w.node("w1"); !strings.Contains(p.Status.Message, "is its agent running?") {
		t.Errorf("status %+v, goal %+v", p.Status, nu.Spec)
	}
}

func TestOneLeads(t *testing.T) {
	w := newWorld(t, "w1")
	w.begin()
	w.until("leader", func() bool { return w.loopNow() != nil })
	first := w.loopNow()
	second := w.controller("second")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- second.elect(ctx) }()
	time.Sleep(300 * time.Millisecond)
	if w.loopNow() != first {
		t.Fatal("two lead")
	}
	w.halt() // in order: the lease is given back
	w.until("second leader", func() bool { return w.loopNow() != first })
	w.apply("edge", simple)
	w.phase(v1alpha1.PlanComplete)
	// The lease is taken from it: it must end.
	w.api.lock.Lock()
	l := copied(w.api.objects["leases"]["kedge-system/upgrade-controller"])
	l["spec"].(object)["holderIdentity"] = "third"
	w.api.put("leases", "kedge-system/upgrade-controller", l)
	w.api.lock.Unlock()
	select {
	case err := <-done:
		if !errors.Is(err, ErrLost) {
			t.Errorf("elect = %v, want %v", err, ErrLost)
		}
	case <-time.After(40 * time.Second):
		t.Error("it leads without the lease")
	}
	cancel()
}

// Where it may not install the kinds, they must be there.
func TestNotAllowedToInstall(t *testing.T) {
	w := newWorld(t, "w1")
	for _, r := range resources {
		w.api.bans[r.Resource] = true
	}
	w.apply("edge", simple)
	w.begin()
	time.Sleep(100 * time.Millisecond)
	if w.loopNow() != nil {
		t.Error("it decides before the kinds are there")
	}
	objects, err := manifests()
	if err != nil {
		t.Fatal(err)
	}
	w.api.lock.Lock()
	for _, o := range objects {
		if o.GetKind() == definitions {
			w.api.put(resources[definitions].Resource, o.GetName(), object{"kind": definitions, "apiVersion": "apiextensions.k8s.io/v1", "metadata": object{"name": o.GetName()},
				"status": object{"conditions": []any{object{"type": "Established", "status": "True"}}}})
		}
	}
	w.api.lock.Unlock()
	w.phase(v1alpha1.PlanComplete)
}

// A plan that is deleted lets its nodes go; a NodeUpgrade that is deleted is
// made again.
func TestDeleted(t *testing.T) {
	w := newWorld(t, "w1", "w2")
	w.apply("edge", "os: {image: IMAGE}\nwindows: [{start: \"14:00\", duration: 1h}]")
	w.begin()
	w.until("staged releases", func() bool { return w.plan("edge").Status.Staged == 2 })
	was := w.node("w1").UID
	w.api.lock.Lock()
	w.api.remove("nodeupgrades", "w1")
	w.api.lock.Unlock()
	w.until("new object", func() bool { nu := w.node("w1"); return nu.UID != was && nu.Status.Phase == v1alpha1.NodeStaged })
	w.api.lock.Lock()
	w.api.remove("plans", "edge")
	w.api.lock.Unlock()
	w.until("nodes without a goal", func() bool {
		return w.node("w1").Spec.State == v1alpha1.GoalNone && w.node("w2").Spec.State == v1alpha1.GoalNone
	})
}

// What is urgent is written first, and no more at once than a look later can mend.
func TestUrgent(t *testing.T) {
	goal := func(name string, spec v1alpha1.NodeUpgradeSpec) upgrade.Goal {
		return upgrade.Goal{Node: name, Spec: spec}
	}
	var goals []upgrade.Goal
	for i := range 2 * goalsAtOnce {
		goals = append(goals, goal(fmt.Sprintf("download-%d", i), v1alpha1.NodeUpgradeSpec{State: v1alpha1.GoalStaged}))
	}
	now := metav1.Now()
	goals = append(goals,
		goal("leaves", v1alpha1.NodeUpgradeSpec{State: v1alpha1.GoalActive, GrantedAt: &now}),
		goal("called back", v1alpha1.NodeUpgradeSpec{State: v1alpha1.GoalStaged, GrantedAt: &now}),
		goal("gave up", v1alpha1.NodeUpgradeSpec{State: v1alpha1.GoalStaged, GaveUp: &v1alpha1.GaveUp{At: now}}),
		goal("goes back", v1alpha1.NodeUpgradeSpec{State: v1alpha1.GoalRolledBack}),
		goal("let go", v1alpha1.NodeUpgradeSpec{}))
	got := urgent(goals)
	if len(got) != goalsAtOnce {
		t.Errorf("%d goals at once", len(got))
	}
	var names []string
	for _, g := range got[:7] {
		names = append(names, g.Node)
	}
	if want := []string{"called back", "gave up", "goes back", "let go", "leaves", "download-0", "download-1"}; !slices.Equal(names, want) {
		t.Errorf("order is %q, want %q", names, want)
	}
}
