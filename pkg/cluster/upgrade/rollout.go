package upgrade

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

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
	places int  // how many more may download

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

// A stop is why a plan has no rollout.
type stop struct {
	phase           v1alpha1.PlanPhase
	reason, message string
}

// enter looks at one plan, and gives it the nodes whose goals it may set. There
// is either a rollout or a stop.
func (c *cluster) enter(p *plan) (r *rollout, complete bool, s *stop) {
	if p.invalid != "" {
		return nil, false, &stop{v1alpha1.PlanInvalid, "Invalid", p.invalid}
	}
	if why := c.resolve(p); why != "" {
		return nil, false, &stop{v1alpha1.PlanPending, "NotResolved", "the release is not known: " + why}
	}
	r = &rollout{cluster: c, plan: p}
	r.look()
	if len(p.nodes) == 0 {
		return nil, false, &stop{v1alpha1.PlanPending, "NoNodes", "no node is chosen"}
	}
	complete = r.complete()
	if !complete {
		for _, m := range p.nodes {
			if m.holder == nil && p.rival(m) == nil {
				m.holder = p
			}
		}
	}
	return r, complete, nil
}

// decide does one plan: its goals go to the machines, its status is returned.
func (c *cluster) decide(p *plan) v1alpha1.PlanStatus {
	r, complete, s := c.enter(p)
	if s != nil {
		return p.stopped(c, s.phase, s.reason, s.message)
	}
	if !complete {
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
	r.lookForPlaces()
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
		r.stageAll()
	}
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
		StageRequestedAt: stamp(r.now),
	}
}

func (p *plan) ref() *v1alpha1.PlanRef {
	return &v1alpha1.PlanRef{Name: p.Name, UID: p.UID, Generation: p.Generation}
}

// When a download counts no longer among those that others wait for.
const (
	slowDownload   = 2 * time.Hour    // after it began
	silentDownload = 10 * time.Minute // after the node was told, when it does not answer
)

// stageAll tells nodes to download the target, as many as may at once.
func (r *rollout) stageAll() {
	if r.Spec.MaxDownloads == nil {
		for i := range r.plan.states {
			r.stage(&r.plan.states[i])
		}
		return
	}
	var wait []*state
	for i := range r.plan.states {
		// Who is not there would begin whenever it comes.
		if s := &r.plan.states[i]; s.kind == idle && r.mayStage(s) {
			wait = append(wait, s)
		}
	}
	slices.SortStableFunc(wait, func(a, b *state) int { return cmp.Or(a.rank-b.rank, first(b.again)-first(a.again)) })
	places := min(len(wait), max(0, r.places))
	for _, s := range wait[:places] {
		r.stage(s)
	}
	if later := len(wait) - places; later > 0 {
		r.hold("Downloads", plural(later, "node")+" will download later")
	}
}

// lookForPlaces counts how many more nodes may download now.
func (r *rollout) lookForPlaces() {
	if r.Spec.MaxDownloads == nil {
		r.places = math.MaxInt
		return
	}
	r.places, _ = share(*r.Spec.MaxDownloads, len(r.nodes))
	for _, s := range r.kinds[fetching] {
		if end := s.downloadEnds(r.now); end.After(r.now) {
			r.wake(end)
			r.places--
		}
	}
}

// downloadEnds is until when a node keeps its place among those that download.
func (s *state) downloadEnds(now time.Time) time.Time {
	switch told := s.goal.StageRequestedAt; {
	case s.knows() && s.say.Phase == v1alpha1.NodeFetching:
		return s.phaseBegan(now).Add(slowDownload)
	case s.knows() || told == nil || told.After(now):
		return now.Add(silentDownload)
	default:
		return told.Add(silentDownload)
	}
}

func (r *rollout) mayStage(s *state) bool {
	return !s.goalOK && (!s.changed || s.goal.State == v1alpha1.GoalNone) && !s.onWay && (s.kind == idle || s.kind == silent || s.kind == away)
}

// stage tells a node to download the target, if it has not been told.
func (r *rollout) stage(s *state) {
	if !r.mayStage(s) {
		return
	}
	goal := r.stagedGoal(s)
	reason, text := "Stage", "download "+targetText(r.target)
	if s.again {
		reason, text = "Retry", fmt.Sprintf("try %s again, attempt %d", targetText(r.target), s.attempt)
	}
	s.set(goal, reason, "%s", text)
	s.goalOK = true
	r.places--
	r.kinds[fetching] = append(r.kinds[fetching], s)
}

// allowedFailures is the number of failures that halts the plan.
func (r *rollout) allowedFailures() int {
	if f := r.Spec.Failure; f != nil && f.HaltAfter != nil {
		n, _ := share(*f.HaltAfter, len(r.nodes))
		return n
	}
	return 1
}
