package upgrade

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// A simNode is a machine with its agent: what is true of it. What the cluster
// knows of it is in the fleet, and older.
type simNode struct {
	Node
	say     v1alpha1.NodeUpgradeStatus // the agent's, kept on its disk
	seen    v1alpha1.NodeUpgradeSpec   // the goal that it saw last
	seenGen int64
	handled int64 // the generation that failed
	boot    int
	upAt    time.Time // while it is off
	off     bool
	back    bool // it goes back, not on
	user    bool // cordoned by the user
	goesTo  *v1alpha1.Release
}

// A sim is a fleet that lives.
type sim struct {
	t       *testing.T
	rng     *rand.Rand
	f       *fleet
	nodes   []*simNode
	trouble float64       // how often things go wrong, 0 to 1
	skew    time.Duration // the controller's clock is wrong by this
	jumped  bool          // it ever was
	log     []string
	budget  int // the largest that was allowed
	last    Decision
	ticks   int
}

func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }

func (s *sim) say(format string, args ...any) {
	s.log = append(s.log, s.f.Now.Format("02 15:04 ")+fmt.Sprintf(format, args...))
}

func (s *sim) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf(format+"\n%s", append(args, strings.Join(s.log[max(0, len(s.log)-60):], "\n"))...)
}

func (n *simNode) runs(t *v1alpha1.Target) bool { return fits(n.say.Running, t, n.Kubelet) }

func (n *simNode) enter(s *sim, phase v1alpha1.NodePhase, message string) {
	if n.say.Phase != phase {
		n.say.Since = stamp(s.f.Now)
		s.say("%s: %s %s", n.Name, phase, message)
	}
	n.say.Phase, n.say.Message = phase, message
}

func (n *simNode) ready(s *sim, is bool) {
	if n.Ready != is {
		n.Ready, n.ReadyChanged = is, s.f.Now
	}
}

func (n *simNode) turnOff(s *sim, d time.Duration) {
	n.off, n.upAt = true, s.f.Now.Add(d)
	n.ready(s, false)
}

// live lets a node do one thing.
func (s *sim) live(n *simNode) {
	now := s.f.Now
	if n.off {
		if now.Before(n.upAt) {
			return
		}
		n.off = false
		n.boot++
		n.BootID = fmt.Sprintf("boot-%d", n.boot)
		n.say.BootID = n.BootID
		n.ready(s, true)
		s.booted(n)
	}
	if n.say.Phase != v1alpha1.NodeArmed && n.say.Phase != v1alpha1.NodeTrial && s.chance(s.trouble*0.01) {
		s.say("%s: power off", n.Name)
		n.turnOff(s, time.Duration(s.rng.IntN(300))*time.Minute)
		return
	}
	if s.chance(s.trouble * 0.005) {
		n.user = !n.user
	}
	i := slices.IndexFunc(s.f.NodeUpgrades, func(nu *nodeUp) bool { return nu.Name == n.Name })
	if i >= 0 && s.chance(0.7) && s.f.NodeUpgrades[i].Generation != n.seenGen {
		n.seen, n.seenGen = s.f.NodeUpgrades[i].Spec, s.f.NodeUpgrades[i].Generation
	}
	s.work(n)
	n.Cordoned = n.user || n.say.Cordoned
}

// work is the state machine of the agent.
func (s *sim) work(n *simNode) {
	goal := n.seen
	inTime := goal.NotAfter == nil || !s.f.Now.After(goal.NotAfter.Time)
	if at := goal.SnapshotRequestedAt; at != nil && s.chance(0.5) {
		n.say.Snapshot = &v1alpha1.Snapshot{RequestedAt: at, Name: "snap"}
	}
	switch n.say.Phase {
	case v1alpha1.NodeDraining:
		switch {
		case goal.State != v1alpha1.GoalActive && goal.State != v1alpha1.GoalRolledBack || !inTime || n.back != (goal.State == v1alpha1.GoalRolledBack):
			n.say.Cordoned = false
			n.enter(s, v1alpha1.NodeStaged, "called back")
			if n.back {
				n.enter(s, v1alpha1.NodeCommitted, "called back")
			}
		case s.chance(s.trouble * 0.1):
			n.say.Cordoned, n.handled = false, n.seenGen
			n.enter(s, v1alpha1.NodeFailed, "PodDisruptionBudget shop/web allows no eviction")
		case s.chance(0.5):
			s.begins(n, "arms")
			n.enter(s, v1alpha1.NodeArmed, "")
		}
	case v1alpha1.NodeArmed:
		d := time.Duration(1+s.rng.IntN(4)) * time.Minute
		if s.chance(s.trouble * 0.05) {
			d = time.Duration(s.rng.IntN(20)) * time.Hour
		}
		n.turnOff(s, d)
	case v1alpha1.NodeTrial:
		switch {
		case s.chance(s.trouble * 0.2):
			n.say.Running, n.say.Previous = n.say.Previous, nil
			n.setKubelet()
			n.say.Bad = append(n.say.Bad, v1alpha1.BadRelease{Digest: digestOf(n.goesTo), Message: "unhealthy"})
			n.say.Cordoned, n.handled = false, n.seenGen
			n.boot++
			n.BootID = fmt.Sprintf("boot-%d", n.boot)
			n.say.BootID = n.BootID
			n.enter(s, v1alpha1.NodeRolledBack, "unhealthy")
		case s.chance(0.4):
			n.say.CommittedAt, n.say.Cordoned, n.say.Staged = stamp(s.f.Now), false, nil
			n.enter(s, v1alpha1.NodeCommitted, "")
			if n.back {
				n.enter(s, v1alpha1.NodeRolledBack, "on request")
			}
		}
	default:
		s.rest(n, goal, inTime)
	}
}

func digestOf(r *v1alpha1.Release) string {
	if r != nil && r.OS != nil {
		return r.OS.Digest
	}
	return "none"
}

// rest is a node that is not on its way.
func (s *sim) rest(n *simNode, goal v1alpha1.NodeUpgradeSpec, inTime bool) {
	t := goal.Target
	if (n.say.Phase == v1alpha1.NodeFailed || n.say.Phase == v1alpha1.NodeRolledBack) && n.handled == n.seenGen || t == nil {
		return
	}
	switch goal.State {
	case v1alpha1.GoalRolledBack:
		if n.runs(t) && n.say.Previous != nil && inTime {
			s.begins(n, "drains to go back")
			n.back, n.goesTo = true, n.say.Previous
			n.say.Cordoned = true
			n.enter(s, v1alpha1.NodeDraining, "")
		}
	case v1alpha1.GoalStaged, v1alpha1.GoalActive:
		if n.runs(t) {
			if n.say.Phase != v1alpha1.NodeCommitted {
				n.enter(s, v1alpha1.NodeIdle, "")
			}
			return
		}
		if !fits(n.say.Staged, t, "") {
			n.enter(s, v1alpha1.NodeFetching, "")
			switch {
			case s.chance(s.trouble * 0.05):
				n.handled = n.seenGen
				n.enter(s, v1alpha1.NodeFailed, "no space")
			case s.chance(0.4):
				r := *n.say.Running
				if t.OS != nil {
					r.OS = &v1alpha1.Version{Version: t.OS.Version, Digest: t.OS.Digest}
				}
				if v := kubernetes(t); v != "" {
					r.Kubernetes = &v1alpha1.Version{Version: v}
				}
				n.say.Staged = &r
				n.enter(s, v1alpha1.NodeStaged, "")
			}
			return
		}
		if goal.State == v1alpha1.GoalStaged || !inTime {
			n.enter(s, v1alpha1.NodeStaged, "")
			return
		}
		if slices.ContainsFunc(n.say.Bad, func(b v1alpha1.BadRelease) bool { return b.Digest == digestOf(n.say.Staged) }) && !goal.Again {
			n.handled = n.seenGen
			n.enter(s, v1alpha1.NodeFailed, "it failed before")
			return
		}
		s.begins(n, "drains")
		n.back, n.goesTo = false, n.say.Staged
		n.say.Cordoned = goal.Drain != nil
		n.enter(s, v1alpha1.NodeDraining, "")
	}
}

func (n *simNode) setKubelet() { n.Kubelet = n.say.Running.Kubernetes.Version }

// booted is what a boot finds.
func (s *sim) booted(n *simNode) {
	switch n.say.Phase {
	case v1alpha1.NodeArmed:
		n.say.Previous, n.say.Running = n.say.Running, n.goesTo
		n.setKubelet()
		n.enter(s, v1alpha1.NodeTrial, "")
	case v1alpha1.NodeDraining:
		// The agent goes on where it was.
	}
	s.skewHolds()
}

// begins checks what must be true when a node begins to leave.
func (s *sim) begins(n *simNode, what string) {
	s.say("%s: %s", n.Name, what)
	if !s.jumped {
		for _, p := range s.f.Plans {
			if open, _, _ := mustWindows(s.t, p).at(s.f.Now); !open && n.seen.Plan != nil && n.seen.Plan.Name == p.Name {
				s.fail("%s %s outside the window", n.Name, what)
			}
		}
	}
}

func mustWindows(t *testing.T, p *v1alpha1.Plan) windows {
	ws, err := parseWindows(p.Spec.Windows)
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

// skewHolds checks the versions of Kubernetes that really run.
func (s *sim) skewHolds() {
	lowest, highest := 1000, 0 // without any, there is nothing to compare with
	for _, n := range s.nodes {
		if n.ControlPlane {
			lowest, highest = min(lowest, minor(n.Kubelet)), max(highest, minor(n.Kubelet))
		}
	}
	if highest > lowest+1 {
		s.fail("API servers are v1.%d and v1.%d", lowest, highest)
	}
	for _, n := range s.nodes {
		// That of a control-plane node speaks to the API server beside it.
		if v := minor(n.Kubelet); !n.ControlPlane && v > lowest || v < highest-3 {
			s.fail("kubelet of %s is v1.%d, API servers are v1.%d to v1.%d", n.Name, v, lowest, highest)
		}
	}
}

// awayHolds checks how many nodes are really away for an upgrade.
func (s *sim) awayHolds() {
	leaving, servers := 0, 0
	for _, n := range s.nodes {
		switch n.say.Phase {
		case v1alpha1.NodeDraining, v1alpha1.NodeArmed, v1alpha1.NodeTrial:
			leaving++
			if n.ControlPlane {
				servers++
			}
		}
	}
	if leaving > s.budget || servers > 1 {
		s.fail("%d nodes and %d control-plane nodes are away for an upgrade; %d may be", leaving, servers, s.budget)
	}
}

// publish tells the cluster what is true of a node, now and then.
func (s *sim) publish(n *simNode) {
	i := slices.IndexFunc(s.f.Nodes, func(o Node) bool { return o.Name == n.Name })
	if s.chance(0.8) {
		s.f.Nodes[i] = n.Node
	}
	j := slices.IndexFunc(s.f.NodeUpgrades, func(nu *nodeUp) bool { return nu.Name == n.Name })
	if j < 0 || n.off {
		return
	}
	nu := *s.f.NodeUpgrades[j]
	if s.chance(0.6) {
		n.say.ObservedGeneration = n.seenGen
		nu.Status = *n.say.DeepCopy()
	} else if s.chance(s.trouble * 0.02) {
		nu.Status = v1alpha1.NodeUpgradeStatus{} // lost
	}
	s.f.NodeUpgrades[j] = &nu
}

// decide calls Decide, checks what it says, and writes it, or part of it.
func (s *sim) decide() {
	in := s.f.Input
	in.Now = in.Now.Add(s.skew)
	s.rng.Shuffle(len(in.Nodes), func(i, j int) { in.Nodes[i], in.Nodes[j] = in.Nodes[j], in.Nodes[i] })
	d := Decide(in)
	s.judge(in, d)
	s.last = d
	for _, p := range s.f.Plans {
		was := p.Status.Message
		p.Status = d.Statuses[p.Name]
		if was != p.Status.Message {
			s.say("plan %s: %s: %s", p.Name, p.Status.Phase, p.Status.Message)
		}
	}
	dies := s.chance(s.trouble * 0.1)
	for _, g := range d.Goals {
		if dies && s.chance(0.5) {
			s.say("the controller dies before it writes the goal of %s", g.Node)
			return
		}
		s.say("goal of %s: %s, %s: %s", g.Node, g.Spec.State, g.Reason, g.Message)
		i := slices.IndexFunc(s.f.NodeUpgrades, func(nu *nodeUp) bool { return nu.Name == g.Node })
		if i < 0 {
			nu := &nodeUp{}
			nu.Name = g.Node
			s.f.NodeUpgrades = append(s.f.NodeUpgrades, nu)
			i = len(s.f.NodeUpgrades) - 1
		}
		nu := *s.f.NodeUpgrades[i]
		nu.Spec = g.Spec
		nu.Generation++
		s.f.NodeUpgrades[i] = &nu
	}
	in.NodeUpgrades = s.f.NodeUpgrades
	if again := Decide(in); len(again.Goals) > 0 {
		s.fail("a decision that was written is not the last: %s", s.f.text(again))
	}
}

// judge checks one decision against what it was told.
func (s *sim) judge(in Input, d Decision) {
	// Without the statuses of plans it must decide the same.
	lost := in
	lost.Plans = nil
	for _, p := range in.Plans {
		q := *p
		q.Status = v1alpha1.PlanStatus{}
		lost.Plans = append(lost.Plans, &q)
	}
	if a, b := goalText(d), goalText(Decide(lost)); a != b {
		s.fail("with the status of the plan: %s\nwithout: %s", a, b)
	}
	s.judgeDownloads(in, d)
	leave, of := map[string]bool{}, map[string]int{}
	for _, g := range d.Goals {
		if g.Reason == "Activate" || g.Reason == "RollBack" {
			leave[g.Node] = true
			of[g.Plan]++
		}
	}
	upgrades := map[string]*nodeUp{}
	for _, nu := range in.NodeUpgrades {
		upgrades[nu.Name] = nu
	}
	away, servers := 0, 0
	for _, n := range in.Nodes {
		m := machine{Node: n}
		if nu := upgrades[n.Name]; nu != nil {
			m.nu, m.goal, m.say = nu, nu.Spec, nu.Status
		}
		m.onWay = m.isOnWay() || leave[n.Name]
		if m.unavailable() {
			away++
		}
		if n.ControlPlane && (!n.Ready || m.onWay) {
			servers++
		}
		if leave[n.Name] && !n.Ready {
			s.fail("%s is told to restart, and is not Ready", n.Name)
		}
		if leave[n.Name] && n.ControlPlane && servers > 1 {
			s.fail("%s is told to restart, and another control-plane node is away", n.Name)
		}
	}
	for _, p := range in.Plans {
		allowed := 1
		if v := p.Spec.MaxUnavailable; v != nil {
			allowed, _ = share(*v, len(in.Nodes))
		}
		s.budget = max(s.budget, allowed)
		if of[p.Name] > 0 && away > allowed {
			s.fail("%v may leave, and %d of %d would be away", leave, away, allowed)
		}
		if open, _, _ := mustWindows(s.t, p).at(in.Now); of[p.Name] > 0 && !open {
			s.fail("%v may leave outside the window", leave)
		}
		if st := d.Statuses[p.Name]; st.Message == "" || st.Phase == "" {
			s.fail("the plan does not say how it stands: %+v", st)
		}
		if of[p.Name] > 0 && p.Spec.Paused {
			s.fail("%v may leave, and the plan is paused", leave)
		}
	}
}

// judgeDownloads holds a decision to maxDownloads.
func (s *sim) judgeDownloads(in Input, d Decision) {
	begin := map[string]int{}
	for _, g := range d.Goals {
		if g.Reason == "Stage" || g.Reason == "Retry" {
			begin[g.Plan]++
		}
	}
	for _, p := range in.Plans {
		if p.Spec.MaxDownloads == nil || begin[p.Name] == 0 {
			continue
		}
		going := begin[p.Name]
		for _, nu := range in.NodeUpgrades {
			mine := nu.Spec.Plan != nil && nu.Spec.Plan.Name == p.Name && nu.Spec.State == v1alpha1.GoalStaged &&
				sameTarget(nu.Spec.Target, d.Statuses[p.Name].Target)
			ready := slices.ContainsFunc(in.Nodes, func(n Node) bool { return n.Name == nu.Name && n.Ready })
			if mine && ready && nu.Status.ObservedGeneration == nu.Generation && nu.Status.Phase == v1alpha1.NodeFetching && in.Now.Sub(nu.Status.Since.Time) < slowDownload {
				going++
			}
		}
		if allowed, _ := share(*p.Spec.MaxDownloads, len(in.Nodes)); going > allowed {
			s.fail("%d nodes download, and %d may", going, allowed)
		}
	}
}

func goalText(d Decision) string {
	var b strings.Builder
	for _, g := range d.Goals {
		fmt.Fprintf(&b, "%s %s %d %s; ", g.Node, g.Spec.State, g.Spec.Attempt, g.Message)
	}
	return b.String()
}

// disturb changes the plan, loses its status, or sets the controller's clock.
func (s *sim) disturb(p *v1alpha1.Plan) {
	q := p.DeepCopy()
	switch {
	case s.chance(0.1):
		s.join(fmt.Sprintf("w9%d", s.ticks))
		return
	case s.chance(0.1):
		s.leave()
		return
	case s.chance(0.3):
		q.Spec.Paused = !q.Spec.Paused
	case s.chance(0.2):
		q.Spec.MaxUnavailable = number(1 + s.rng.IntN(3))
	case s.chance(0.2) && q.Spec.OS != nil:
		q.Spec.OS.Image = "reg/kedge:v2.1.0"
		t := osTarget("v2.1.0", "")
		if k := q.Spec.Kubernetes; k != nil {
			t.Kubernetes = &v1alpha1.KubernetesTarget{Version: k.Version}
		}
		s.f.Resolutions["p"] = Resolution{Target: t}
	case s.chance(0.3):
		q.Spec.Retry++
	case s.chance(0.3):
		q.Spec.Rollback = !q.Spec.Rollback
	case s.chance(0.5):
		q.Status = v1alpha1.PlanStatus{}
	default:
		s.skew, s.jumped = time.Duration(s.rng.IntN(96)-48)*time.Hour, true
		s.say("the controller's clock is wrong by %s", s.skew)
	}
	if q.Spec.Paused != p.Spec.Paused || q.Spec.Retry != p.Spec.Retry || q.Spec.Rollback != p.Spec.Rollback {
		s.say("paused %v, retry %d, rollback %v", q.Spec.Paused, q.Spec.Retry, q.Spec.Rollback)
	}
	q.Generation++
	s.f.Plans[0] = q
}

// join adds a worker.
func (s *sim) join(name string) *simNode {
	s.f.nodes(fmt.Sprintf("%s:zone=%c", name, 'a'+rune(s.rng.IntN(3))))
	i, j := len(s.f.Nodes)-1, len(s.f.NodeUpgrades)-1
	n := &simNode{Node: s.f.Nodes[i], say: *s.f.NodeUpgrades[j].Status.DeepCopy(), boot: 1, seenGen: 1}
	// It may come with what the others have, or with an old image.
	for _, o := range s.nodes {
		if !o.ControlPlane && s.chance(0.3) && o.say.Running != nil {
			n.say.Running = o.say.Running
			n.setKubelet()
			s.f.Nodes[i] = n.Node
		}
	}
	s.nodes = append(s.nodes, n)
	s.say("%s joins", name)
	return n
}

// leave removes a worker, whatever it does.
func (s *sim) leave() {
	for i, n := range s.nodes {
		if !n.ControlPlane && len(s.nodes) > 1 {
			s.say("%s is removed", n.Name)
			s.nodes = slices.Delete(s.nodes, i, i+1)
			s.f.Nodes = slices.DeleteFunc(s.f.Nodes, func(o Node) bool { return o.Name == n.Name })
			s.f.NodeUpgrades = slices.DeleteFunc(s.f.NodeUpgrades, func(o *nodeUp) bool { return o.Name == n.Name })
			return
		}
	}
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 7)), f: newFleet()}
	// Before a change of clocks, on some days.
	s.f.Now = time.Date(2026, time.Month(1+s.rng.IntN(12)), 20+s.rng.IntN(8), s.rng.IntN(24), 0, 0, 0, time.UTC)
	servers := []int{0, 1, 1, 3, 3, 5}[s.rng.IntN(6)]
	workers := s.rng.IntN(6)
	if servers+workers == 0 {
		workers = 1
	}
	p := s.f.plan("p", s.randomPlan)
	for i := range servers + workers {
		name := fmt.Sprintf("w%d", i)
		if i < servers {
			name = fmt.Sprintf("s%d", i)
		}
		s.f.nodes(fmt.Sprintf("%s:zone=%c", name, 'a'+rune(s.rng.IntN(3))))
		n := &simNode{Node: s.f.Nodes[i], say: *s.f.NodeUpgrades[i].Status.DeepCopy(), boot: 1}
		n.seenGen = 1
		s.nodes = append(s.nodes, n)
	}
	if seed%5 == 0 && p.Spec.Kubernetes == nil {
		// A second plan, for Kubernetes, that has to wait for the first.
		s.f.plan("q", kube("v1.36.3"), func(p *planSpec) { p.MaxUnavailable = number(2) })
	}
	if servers > 2 {
		for i := range servers {
			s.f.Etcd = append(s.f.Etcd, Member{Node: fmt.Sprintf("s%d", i), Voter: true, Healthy: true, Leader: i == s.rng.IntN(servers)})
		}
	}
	s.say("%d servers, %d workers, plan %+v", servers, workers, p.Spec)
	return s
}

func (s *sim) randomPlan(p *planSpec) {
	switch s.rng.IntN(3) {
	case 0:
		kube("v1.36.3")(p)
	case 1:
		osAndKube("v1.36.3")(p)
	}
	p.MaxUnavailable = number(1 + s.rng.IntN(3))
	if s.chance(0.3) {
		p.MaxUnavailable = percent("40%")
	}
	if s.chance(0.4) {
		p.Steps = []v1alpha1.Step{step(1, time.Duration(s.rng.IntN(5))*time.Hour), step("50%", time.Hour)}
	}
	if s.chance(0.3) {
		p.Spread = "zone"
	}
	if s.chance(0.5) {
		p.Windows = []v1alpha1.Window{{Start: fmt.Sprintf("%02d:30", s.rng.IntN(5)), Duration: *duration(time.Duration(1+s.rng.IntN(4)) * time.Hour), TimeZone: "Europe/Berlin"}}
	}
	if s.chance(0.3) {
		p.Stage = v1alpha1.StageLate
	}
	if s.chance(0.3) {
		p.MaxDownloads = number(1 + s.rng.IntN(2))
	}
	p.Failure = &v1alpha1.Failure{HaltAfter: number(1 + s.rng.IntN(3)), Retries: int32(s.rng.IntN(3))}
	if s.chance(0.3) {
		p.Failure.Rollback = v1alpha1.RollbackAll
	}
}

// tick lets time pass, nodes act, and now and then the controller decide.
func (s *sim) tick() {
	s.ticks++
	s.f.Now = s.f.Now.Add(time.Duration(15+s.rng.IntN(100)) * time.Second)
	s.rng.Shuffle(len(s.nodes), func(i, j int) { s.nodes[i], s.nodes[j] = s.nodes[j], s.nodes[i] })
	for _, n := range s.nodes {
		s.live(n)
		s.awayHolds()
		s.publish(n)
	}
	for i := range s.f.Etcd {
		for _, n := range s.nodes {
			if n.Name == s.f.Etcd[i].Node {
				s.f.Etcd[i].Healthy = n.Ready
			}
		}
	}
	if s.chance(0.7) {
		s.decide()
	}
}

// settle lets the fleet live without trouble until the plan ends, and checks
// that it does.
func (s *sim) settle() {
	s.trouble, s.skew = 0, 0
	p := s.f.Plans[0].DeepCopy()
	p.Spec.Paused, p.Spec.Rollback = false, false
	p.Generation++
	s.f.Plans[0] = p
	for _, n := range s.nodes {
		n.user = false
	}
	s.say("no more trouble")
	// A failure may still prove to be none: news come late here.
	for ended := 0; s.ticks < 20000; {
		s.tick()
		// The second plan begins when the first is complete.
		p := s.f.Plans[0]
		if p.Status.Phase == v1alpha1.PlanComplete {
			p = s.f.Plans[len(s.f.Plans)-1]
		}
		switch p.Status.Phase {
		case v1alpha1.PlanComplete, v1alpha1.PlanHalted, v1alpha1.PlanRolledBack:
			if ended++; ended == 20 {
				return
			}
			continue
		}
		ended = 0
		// While all wait for a time, it goes by.
		if s.last.Again.Sub(s.f.Now) > time.Hour && p.Status.Updating == 0 {
			s.f.Now = s.f.Now.Add(30 * time.Minute)
		}
	}
	s.fail("the plan does not end: %s", s.f.text(s.last))
}

// fleets is how many fleets live: -args -fleets 5000 finds what is rare.
var fleets = flag.Uint64("fleets", 120, "`number` of simulated fleets")

func TestFleets(t *testing.T) {
	ends := map[v1alpha1.PlanPhase]int{}
	for seed := range *fleets {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, seed)
			s.trouble = []float64{0, 0.2, 0.5, 1}[seed%4]
			for range 500 {
				s.tick()
				if s.trouble > 0 && s.chance(0.02) {
					s.disturb(s.f.Plans[0])
				}
			}
			s.settle()
			ends[s.f.Plans[0].Status.Phase]++
			if s.trouble == 0 && seed%4 == 0 && s.f.Plans[0].Status.Phase != v1alpha1.PlanComplete {
				s.fail("without trouble the plan ends in %s", s.f.Plans[0].Status.Phase)
			}
		})
		if !ok {
			return
		}
	}
	t.Logf("plans ended in %v", ends)
	if ends[v1alpha1.PlanComplete] == 0 || ends[v1alpha1.PlanHalted] == 0 {
		t.Errorf("plans ended only in %v", ends)
	}
}
