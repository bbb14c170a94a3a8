package upgrade

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

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
	to := minor(m.kubernetesWith(r.target))
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
