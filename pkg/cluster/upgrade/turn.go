package upgrade

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

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
				r.hold("NoAgent", s.Name+": "+orElse(s.say.Message, "its agent has not said anything yet"))
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
		if s.kind == idle && r.places <= 0 {
			r.hold("Downloads", m.Name+" will download later")
			return false
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
