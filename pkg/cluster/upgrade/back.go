package upgrade

import "github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"

// goesBack tells whether nodes are to leave the target.
func (r *rollout) goesBack() bool {
	return r.Spec.Rollback || r.halted != "" && r.Spec.Failure != nil && r.Spec.Failure.Rollback == v1alpha1.RollbackAll
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
