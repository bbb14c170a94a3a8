package upgrade

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// A rollout is one plan in one decision.
type rollout struct {
	*cluster
	*plan

	open      bool // a window is
	end, next time.Time

	budget int  // how many may be away
	away   int  // how many are
	saving bool // a control-plane node saves the datastore first

	kinds    [wentBack + 1][]*state
	worse    []CheckResult // checks that an upgrade may have broken
	failures []failure
	halted   string // why nothing goes on
	holds    []hold // why what could go on does not
}

type failure struct {
	node, message string
	attempts      int32
}

// A hold is why something waits. Reason is one word.
type hold struct{ reason, message string }

func (r *rollout) hold(reason, message string) {
	r.holds = append(r.holds, hold{reason, message})
}

// decide does one plan: its goals go to the machines, its status is returned.
func (c *cluster) decide(p *plan) v1alpha1.PlanStatus {
	if p.invalid != "" {
		return p.stopped(c, v1alpha1.PlanInvalid, "Invalid", p.invalid)
	}
	if why := c.resolve(p); why != "" {
		return p.stopped(c, v1alpha1.PlanPending, "NotResolved", "the release is not known: "+why)
	}
	r := &rollout{cluster: c, plan: p}
	r.look()
	if len(p.nodes) == 0 {
		return p.stopped(c, v1alpha1.PlanPending, "NoNodes", "no node is chosen")
	}
	complete := r.complete()
	if !complete {
		for _, m := range p.nodes {
			if m.holder == nil && p.rival(m) == nil {
				m.holder = p
			}
		}
		r.act()
	}
	return r.status(complete)
}

// look finds how every node stands.
func (r *rollout) look() {
	r.plan.states = make([]state, len(r.nodes))
	for i, m := range r.nodes {
		s := &r.plan.states[i]
		*s = r.cluster.state(r.plan, m)
		r.kinds[s.kind] = append(r.kinds[s.kind], s)
		if m.unavailable() {
			r.away++
		}
		if s.kind == failed {
			r.failures = append(r.failures, failure{m.Name, s.why, s.attempt})
		}
	}
	r.open, r.end, r.next = r.windows.at(r.now)
	r.wake(r.end)
	r.budget = 1
	if v := r.Spec.MaxUnavailable; v != nil {
		r.budget, _ = share(*v, len(r.nodes))
	}
	r.health()
	r.judge()
}

// judge says whether the plan halts.
func (r *rollout) judge() {
	limit := r.allowedFailures()
	if n := len(r.failures); n >= limit {
		r.halted = fmt.Sprintf("%d of %d allowed failures: %s", n, limit, r.failureText())
	}
}

// health compares the checks of the cluster with those before the first node.
func (r *rollout) health() {
	var failing []CheckResult
	for _, check := range r.in.Checks[r.Name] {
		if check.Message != "" {
			failing = append(failing, check)
		}
	}
	if len(failing) == 0 {
		return
	}
	begun, last, who := false, time.Time{}, ""
	before := map[string]bool{}
	for _, m := range r.nodes {
		if !r.upgraded(m) {
			continue
		}
		begun = true
		for _, name := range m.goal.Failing {
			before[name] = true
		}
		if t := m.finished(r.now); !m.onWay && !t.Before(last) {
			last, who = t, m.Name
		}
	}
	if !begun && r.baseline() == v1alpha1.BaselineIgnore {
		return
	}
	for _, check := range failing {
		if before[check.Name] {
			continue
		}
		if who == "" {
			r.worse = append(r.worse, check)
			continue
		}
		// What begins to fail long after the last upgrade is not its doing.
		since := check.Since
		switch {
		case since.IsZero() || since.After(r.now):
			since = r.now
		case since.Before(last):
			since = last
		}
		blame := !since.After(last.Add(r.healthDeadline()))
		at := since.Add(r.healthDeadline())
		if blame && !at.After(r.now) {
			r.failures = append(r.failures, failure{who, "health check " + check.Name + " does not hold since its upgrade: " + check.Message, 0})
		} else if blame {
			r.wake(at)
		}
		if blame || len(r.kinds[done]) < len(r.nodes) {
			r.worse = append(r.worse, check)
		}
	}
}

func (r *rollout) baseline() v1alpha1.Baseline {
	if h := r.Spec.Health; h != nil && h.Baseline != "" {
		return h.Baseline
	}
	return v1alpha1.BaselineIgnore
}

// complete tells whether every node runs the target and nothing is worse.
func (r *rollout) complete() bool {
	return len(r.kinds[done]) == len(r.nodes) && len(r.worse) == 0 && len(r.failures) == 0 && !r.Spec.Rollback
}

// act sets goals.
func (r *rollout) act() {
	back := r.goesBack()
	r.callBack(back)
	if back {
		if !r.Spec.Paused {
			r.goBack()
		}
		return
	}
	// A rollback that is no longer wanted is a node to upgrade.
	for _, s := range r.kinds[wentBack] {
		if s.why = r.forbids(r.plan, s.machine); s.why != "" {
			s.kind = blocked
		} else {
			*s = ready(r.plan, *s, true)
		}
		r.kinds[s.kind] = append(r.kinds[s.kind], s)
	}
	r.kinds[wentBack] = nil
	if r.halted != "" || r.Spec.Paused {
		return
	}
	r.advance()
	if r.Spec.Stage != v1alpha1.StageLate {
		for i := range r.plan.states {
			r.stage(&r.plan.states[i])
		}
	}
}

// goesBack tells whether nodes are to leave the target.
func (r *rollout) goesBack() bool {
	return r.Spec.Rollback || r.halted != "" && r.Spec.Failure != nil && r.Spec.Failure.Rollback == v1alpha1.RollbackAll
}

// callBack withdraws the leave of nodes that can still be stopped: those that
// shall not go any more, and those that should have gone long ago.
func (r *rollout) callBack(back bool) {
	for i := range r.plan.states {
		s := &r.plan.states[i]
		m := s.machine
		if !m.onWay || !r.is(m.goal.Plan) || m.committedToRestart() {
			continue
		}
		if m.goal.State != v1alpha1.GoalActive && m.goal.State != v1alpha1.GoalRolledBack {
			continue
		}
		why := ""
		switch target := m.goal.Target; {
		case target != nil && m.runs(target) == (m.goal.State == v1alpha1.GoalActive):
			// It is there, and only has to say so.
		case s.kind == failed && m.goal.GaveUp != nil:
			// It was called back already, and has not heard.
		case s.kind == failed:
			goal := m.goal
			goal.State, goal.NotAfter = v1alpha1.GoalStaged, nil
			if back && m.goal.State == v1alpha1.GoalRolledBack {
				goal.State = v1alpha1.GoalActive // it still runs the target
			}
			goal.GaveUp = &v1alpha1.GaveUp{At: *stamp(r.now), Message: s.why}
			m.set(goal, "GaveUp", "%s", s.why)
			continue
		case !sameTarget(target, r.target):
			why = "the plan means another release now"
		case (m.goal.State == v1alpha1.GoalRolledBack) != back:
			why = "the plan goes the other way"
		case r.Spec.Paused:
			why = "the plan is paused"
		case r.halted != "" && !back:
			why = "the plan halted"
		case !r.open:
			why = "the window closed"
		}
		if why == "" {
			continue
		}
		goal := m.goal
		switch {
		case m.goal.State == v1alpha1.GoalRolledBack:
			goal.State = v1alpha1.GoalActive // it still runs the target
		case sameTarget(m.goal.Target, r.target):
			goal.State, goal.Retry = v1alpha1.GoalStaged, r.Spec.Retry
		default:
			goal = r.stagedGoal(s)
			goal.GrantedAt = m.goal.GrantedAt
		}
		goal.NotAfter = nil
		m.set(goal, "CalledBack", "%s", why)
	}
}

// stagedGoal is the goal to download the target.
func (r *rollout) stagedGoal(s *state) v1alpha1.NodeUpgradeSpec {
	return v1alpha1.NodeUpgradeSpec{
		State: v1alpha1.GoalStaged, Plan: r.ref(), Target: r.target,
		Attempt: s.attempt, Retry: r.Spec.Retry, Again: s.again, AllowDowngrade: r.Spec.AllowDowngrade,
	}
}

func (p *plan) ref() *v1alpha1.PlanRef {
	return &v1alpha1.PlanRef{Name: p.Name, UID: p.UID, Generation: p.Generation}
}

// stage tells a node to download the target, if it has not been told.
func (r *rollout) stage(s *state) {
	if s.goalOK || s.changed && s.goal.State != v1alpha1.GoalNone || s.onWay || s.kind != idle && s.kind != silent && s.kind != away {
		return
	}
	goal := r.stagedGoal(s)
	reason, text := "Stage", "download "+targetText(r.target)
	if s.again {
		reason, text = "Retry", fmt.Sprintf("try %s again, attempt %d", targetText(r.target), s.attempt)
	}
	s.set(goal, reason, "%s", text)
	s.goalOK = true
	r.kinds[fetching] = append(r.kinds[fetching], s)
}

// advance lets nodes go, as many as every rule allows.
func (r *rollout) advance() {
	candidates := r.candidates()
	if len(candidates) == 0 {
		return
	}
	if s := r.retrying(candidates[0].rank); s != nil {
		candidates = slices.DeleteFunc(candidates, func(s *state) bool { return !s.again })
		if s.kind == backoff {
			r.hold("Retry", "waiting to try "+s.Name+" again in "+roughly(s.at.Sub(r.now))+": "+s.why)
		} else {
			// What keeps it from going is said first.
			defer r.hold("Retry", "waiting for another try of "+s.Name)
		}
	}
	room := r.room()
	if len(r.worse) > 0 {
		r.hold("Health", "waiting for health check "+r.worse[0].Name+": "+r.worse[0].Message)
		room = 0
	}
	if !r.open && len(candidates) > 0 {
		r.holdWindow()
		room = 0
	}
	for _, s := range candidates {
		if room <= 0 {
			break
		}
		if r.let(s) {
			room--
		}
	}
}

// retrying returns a node of a rank that tries again, if so many do that the
// others wait for them: should all of them fail for good, the plan halts.
func (r *rollout) retrying(turn int) (first *state) {
	n := 0
	for i := range r.plan.states {
		s := &r.plan.states[i]
		if s.rank != turn || !s.again {
			continue
		}
		switch s.kind {
		case idle, fetching, staged, onWay, backoff:
			if n++; first == nil || s.kind == backoff && first.kind != backoff {
				first = s
			}
		}
	}
	if n == 0 || n+len(r.failures) < r.allowedFailures() {
		return nil
	}
	return first
}

// allowedFailures is the number of failures that halts the plan.
func (r *rollout) allowedFailures() int {
	if f := r.Spec.Failure; f != nil && f.HaltAfter != nil {
		n, _ := share(*f.HaltAfter, len(r.nodes))
		return n
	}
	return 1
}

func (r *rollout) holdWindow() {
	if r.next.IsZero() {
		r.hold("Window", "no window opens any more")
		return
	}
	r.wake(r.next)
	r.hold("Window", "waiting for window "+clock(r.next)+" in "+roughly(r.next.Sub(r.now)))
}

// candidates returns the nodes whose turn it is: those of the first rank that is
// not finished, and of one value of the spread label. They are in the order in
// which they go.
func (r *rollout) candidates() []*state {
	turn := 1 << 30
	for _, k := range []kind{unsettled, onWay, backoff, taken, away, silent, idle, fetching, staged} {
		for _, s := range r.kinds[k] {
			if r.plan.rival(s.machine) == nil {
				turn = min(turn, s.rank)
			}
		}
	}
	var out []*state
	for _, k := range []kind{staged, idle, fetching} {
		for _, s := range r.kinds[k] {
			if s.rank == turn {
				out = append(out, s)
			}
		}
	}
	r.holdRank(turn, len(out))
	if r.Spec.Spread != "" {
		out = r.spread(out)
	}
	slices.SortFunc(out, func(a, b *state) int {
		// Who tries again goes first, else a failure would be known late.
		asked := func(s *state) int { return first(s.goal.SnapshotRequestedAt != nil) }
		return cmp.Or(first(b.again)-first(a.again), -cmp.Compare(a.kind, b.kind), asked(b)-asked(a), strings.Compare(a.Name, b.Name))
	})
	return out
}

func first(b bool) int {
	if b {
		return 1
	}
	return 0
}

// holdRank says which node keeps the ranks behind it waiting.
func (r *rollout) holdRank(turn, candidates int) {
	if candidates > 0 {
		return
	}
	for _, k := range []kind{unsettled, away, silent, taken} {
		for _, s := range r.kinds[k] {
			if s.rank != turn || r.plan.rival(s.machine) != nil {
				continue
			}
			switch k {
			case unsettled:
				r.hold("NotReady", s.Name+" is not Ready since its upgrade")
			case away:
				r.hold("NotReady", s.Name+" is not Ready, and it is its turn")
			case silent:
				r.hold("NoAgent", "the agent of "+s.Name+" has not said anything yet")
			case taken:
				r.hold("OtherPlan", s.Name+": "+s.why)
			}
			return
		}
	}
}

// spread keeps the candidates of one value of the label: one with nodes on their
// way, else one with a node that tries again, else one that has begun, else the
// first by name.
func (r *rollout) spread(candidates []*state) []*state {
	if len(candidates) == 0 {
		return nil
	}
	type zone struct{ moving, again, begun, waits bool }
	zones := map[string]*zone{}
	at := func(m *machine) *zone {
		v := m.Labels[r.Spec.Spread]
		z := zones[v]
		if z == nil {
			z = &zone{}
			zones[v] = z
		}
		return z
	}
	for i := range r.plan.states {
		s := &r.plan.states[i]
		if s.onWay {
			at(s.machine).moving = true
		}
		if r.upgraded(s.machine) {
			at(s.machine).begun = true
		}
	}
	for _, s := range candidates {
		z := at(s.machine)
		z.waits, z.again = true, z.again || s.again
	}
	values := slices.SortedFunc(maps.Keys(zones), func(a, b string) int {
		x, y := zones[a], zones[b]
		return cmp.Or(first(y.waits)-first(x.waits), first(y.moving)-first(x.moving), first(y.again)-first(x.again), first(y.begun)-first(x.begun), strings.Compare(a, b))
	})
	for _, v := range values[1:] {
		if zones[v].moving {
			r.hold("Spread", "waiting for the nodes of "+r.Spec.Spread+"="+v)
			return nil
		}
	}
	return slices.DeleteFunc(candidates, func(s *state) bool { return s.Labels[r.Spec.Spread] != values[0] })
}

// room is how many nodes may still begin in the present step.
func (r *rollout) room() int {
	step, begun, settled := r.step()
	if step == len(r.Spec.Steps) {
		return len(r.nodes)
	}
	limit, _ := share(r.Spec.Steps[step].Max, len(r.nodes))
	if begun < limit {
		return limit - begun
	}
	if len(settled) < limit {
		if sick := r.kinds[unsettled]; len(sick) > 0 {
			r.hold("NotReady", sick[0].Name+" is not Ready since its upgrade")
		} else {
			r.hold("Step", "the nodes of this step are not all there yet")
		}
		return 0
	}
	until := settled[limit-1].Add(r.Spec.Steps[step].Soak.Duration)
	r.wake(until)
	r.hold("Soaking", "soaking for "+roughly(until.Sub(r.now))+" after step "+r.stepText(step))
	return 0
}

// step returns the index of the present step, how many nodes this plan has begun
// with, and when those that are through it were.
func (r *rollout) step() (step, begun int, settled []time.Time) {
	if len(r.Spec.Steps) == 0 {
		return 0, 0, nil
	}
	for i := range r.plan.states {
		s := &r.plan.states[i]
		if !r.upgraded(s.machine) || s.kind == idle {
			continue // one that tries again has its place
		}
		begun++
		switch s.kind {
		case done:
			settled = append(settled, s.finished(r.now))
		case failed, blocked:
			settled = append(settled, s.at)
		}
	}
	slices.SortFunc(settled, time.Time.Compare)
	for step < len(r.Spec.Steps) {
		limit, _ := share(r.Spec.Steps[step].Max, len(r.nodes))
		if limit > len(settled) {
			break
		}
		if settled[limit-1].Add(r.Spec.Steps[step].Soak.Duration).After(r.now) {
			break
		}
		step++
	}
	return step, begun, settled
}

// let lets one node go, or brings it nearer to that; false if a rule holds it.
func (r *rollout) let(s *state) bool {
	m := s.machine
	if m.ControlPlane {
		if r.saving {
			return false // one after the other
		}
		if why := r.quorum(m); why != "" {
			r.hold("ControlPlane", why)
			return false
		}
	}
	if why := r.skew(r.plan, m); why != "" {
		r.hold("VersionSkew", m.Name+" waits: "+why)
		return false
	}
	with := r.away
	if !m.unavailable() {
		with++
	}
	if with > r.budget {
		r.holdBudget()
		return false
	}
	if s.kind != staged {
		if r.Spec.Stage != v1alpha1.StageLate {
			return false // who has the target already goes first
		}
		r.stage(s)
		r.away = with // its place is kept
		return true
	}
	if r.needsSnapshot(m) && !r.saved(m) {
		r.saving, r.away = true, with
		return true
	}
	r.away = with
	m.onWay = true
	s.kind = onWay
	m.set(r.activeGoal(s), "Activate", "restart into %s", targetText(r.target))
	return true
}

// activeGoal is the goal to restart into the target.
func (r *rollout) activeGoal(s *state) v1alpha1.NodeUpgradeSpec {
	goal := r.stagedGoal(s)
	goal.SnapshotRequestedAt = s.goal.SnapshotRequestedAt
	goal.State = v1alpha1.GoalActive
	r.leave(&goal)
	goal.Hooks = r.Spec.Hooks
	if h := r.Spec.Health; h != nil {
		goal.Probes = h.Probes
	}
	for _, check := range r.in.Checks[r.Name] {
		if check.Message != "" {
			goal.Failing = append(goal.Failing, check.Name)
		}
	}
	slices.Sort(goal.Failing)
	goal.Failing = slices.Compact(goal.Failing)
	return goal
}

// leave fills in what a node needs to go away and come back.
func (r *rollout) leave(goal *v1alpha1.NodeUpgradeSpec) {
	goal.GrantedAt, goal.GaveUp = stamp(r.now), nil
	if !r.end.IsZero() {
		goal.NotAfter = stamp(r.end)
		r.wake(r.end)
	}
	deadline := metav1.Duration{Duration: r.healthDeadline()}
	goal.HealthDeadline = &deadline
	goal.Drain = r.drain()
	r.wake(r.now.Add(beginDeadline))
}

// drain returns the plan's drain with its defaults, nil for none.
func (r *rollout) drain() *v1alpha1.Drain {
	var d v1alpha1.Drain
	if r.Spec.Drain != nil {
		r.Spec.Drain.DeepCopyInto(&d)
	}
	if d.Mode == "" {
		d.Mode = v1alpha1.DrainAuto
	}
	if d.Mode == v1alpha1.DrainNever || d.Mode == v1alpha1.DrainAuto && len(r.machines) < 2 {
		return nil
	}
	if d.Timeout == nil {
		d.Timeout = &metav1.Duration{Duration: 30 * time.Minute}
	}
	if d.WhenBlocked == "" {
		d.WhenBlocked = v1alpha1.DrainGiveUp
	}
	return &d
}

// needsSnapshot tells whether the datastore must have been saved before a node
// restarts.
func (r *rollout) needsSnapshot(m *machine) bool {
	if !m.ControlPlane || r.Spec.Backup == v1alpha1.BackupNever {
		return false
	}
	if r.Spec.Backup == v1alpha1.BackupAlways {
		return true
	}
	to := minor(kubernetes(r.target))
	return to >= 0 && minor(m.Kubelet) != to && r.newestServer < to // the first server changes the datastore
}

// saved tells whether there is a fresh snapshot on the node, and asks for one
// otherwise. Both times are of the controller's clock.
func (r *rollout) saved(m *machine) bool {
	asked := m.goal.SnapshotRequestedAt
	if asked == nil || r.now.Sub(asked.Time).Abs() >= snapshotFresh {
		goal := m.goal
		goal.SnapshotRequestedAt = stamp(r.now)
		m.set(goal, "Snapshot", "save the datastore before the upgrade")
		r.wake(r.now.Add(snapshotFresh))
	} else {
		r.wake(asked.Add(snapshotFresh))
		if s := m.say.Snapshot; s != nil && s.RequestedAt != nil && s.RequestedAt.Equal(asked) {
			return true
		}
	}
	r.hold("Snapshot", "waiting for a snapshot of the datastore on "+m.Name)
	return false
}

// goBack lets nodes leave the target for what they ran before: workers first,
// then the control plane.
func (r *rollout) goBack() {
	var candidates []*state
	workers := false
	for i := range r.plan.states {
		s := &r.plan.states[i]
		tookIt := r.mine(s.machine) && s.goal.GrantedAt != nil && s.goal.State != v1alpha1.GoalStaged
		workers = workers || s.onWay && !s.ControlPlane
		if s.onWay || !tookIt || !s.runs(r.target) || s.changed {
			continue
		}
		if why := r.cannotGoBack(s.machine); why != "" {
			s.kind, s.why = blocked, why
			continue
		}
		if !s.Ready {
			s.kind = away
			continue
		}
		workers = workers || !s.ControlPlane
		candidates = append(candidates, s)
	}
	if len(candidates) > 0 && !r.open {
		r.holdWindow()
		return
	}
	for _, s := range candidates {
		if s.ControlPlane && workers {
			continue
		}
		if why := r.quorum(s.machine); s.ControlPlane && why != "" {
			r.hold("ControlPlane", why)
			continue
		}
		with := r.away
		if !s.unavailable() {
			with++
		}
		if with > r.budget {
			r.holdBudget()
			break
		}
		r.away = with
		s.onWay, s.kind = true, onWay
		goal := s.goal
		goal.State, goal.Plan = v1alpha1.GoalRolledBack, r.ref()
		r.leave(&goal)
		s.set(goal, "RollBack", "leave %s", targetText(r.target))
	}
}

// cannotGoBack says why a node must keep the target.
func (r *rollout) cannotGoBack(m *machine) string {
	before := m.say.Previous
	switch {
	case m.goal.State == v1alpha1.GoalRolledBack && m.knows() && m.say.Phase == v1alpha1.NodeFailed:
		return "it could not go back: " + orElse(m.say.Message, "it does not say why")
	case before == nil:
		return "it has nothing to go back to"
	case m.ControlPlane && before.Kubernetes != nil && minor(before.Kubernetes.Version) != minor(m.Kubelet):
		return "its datastore cannot follow to Kubernetes " + before.Kubernetes.Version
	}
	return ""
}
