package upgrade

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// Times that a node is given beside those that a plan names.
const (
	beginDeadline   = 10 * time.Minute // from a goal to the first step towards it
	restartDeadline = 10 * time.Minute // to go down and come up again
	snapshotFresh   = time.Hour        // how old a snapshot may be
)

// A machine is a node, its goal and what it says of itself.
type machine struct {
	Node
	nu   *v1alpha1.NodeUpgrade // nil for a node that has none yet
	goal v1alpha1.NodeUpgradeSpec
	say  v1alpha1.NodeUpgradeStatus

	changed         bool // the goal is not the one that is written
	reason, message string

	onWay  bool  // it restarts, or has been told to, for an upgrade
	holder *plan // the plan that may set its goal
	// The plans that decide over its parts.
	osPlan, kubernetesPlan *plan
}

// knows tells whether the node has seen its goal.
func (m *machine) knows() bool {
	return m.nu != nil && m.say.ObservedGeneration >= m.nu.Generation
}

// committedToRestart tells whether the node can no longer be called back.
func (m *machine) committedToRestart() bool {
	return m.say.Phase == v1alpha1.NodeArmed || m.say.Phase == v1alpha1.NodeTrial
}

// fresh tells whether what the node says is about its present boot.
func (m *machine) fresh() bool {
	return m.BootID == "" || m.say.BootID == "" || m.BootID == m.say.BootID
}

func (m *machine) runs(t *v1alpha1.Target) bool { return fits(m.say.Running, t, m.Kubelet) }

// isOnWay tells whether the node is away, or may be at any moment, because of
// its goal.
func (m *machine) isOnWay() bool {
	switch m.say.Phase {
	case v1alpha1.NodeDraining, v1alpha1.NodeArmed, v1alpha1.NodeTrial:
		return true
	}
	if m.nu == nil {
		return false
	}
	switch m.goal.State {
	case v1alpha1.GoalActive, v1alpha1.GoalRolledBack:
		if !m.knows() {
			return true
		}
		if m.say.Phase == v1alpha1.NodeFailed || m.say.Phase == v1alpha1.NodeRolledBack {
			return false
		}
		there := m.goal.Target != nil && m.runs(m.goal.Target)
		return there != (m.goal.State == v1alpha1.GoalActive) || there && !m.fresh()
	}
	// Called back, but perhaps it has not heard.
	return m.goal.GrantedAt != nil && !m.knows()
}

// unavailable tells whether the node is away, whatever the cause.
func (m *machine) unavailable() bool { return !m.Ready || m.Cordoned || m.onWay }

// phaseBegan is when the node entered its phase: never in the future, nor before
// it was told to go.
func (m *machine) phaseBegan(now time.Time) time.Time {
	t := granted(m)
	if s := m.say.Since; s != nil && s.After(t) {
		t = s.Time
	}
	if t.After(now) {
		t = now
	}
	return t
}

func granted(m *machine) time.Time {
	if m.goal.GrantedAt == nil {
		return time.Time{}
	}
	return m.goal.GrantedAt.Time
}

// finished is when the node had its upgrade behind it.
func (m *machine) finished(now time.Time) time.Time {
	t := granted(m)
	if c := m.say.CommittedAt; c != nil && c.After(t) {
		t = c.Time
	}
	if t.After(now) {
		t = now
	}
	return t
}

// late returns when a node on its way counts as failed, and why; zero for never.
// One whose leave is over comes back by itself, and is none.
func (m *machine) late(now time.Time) (time.Time, string) {
	health := 15 * time.Minute
	if m.goal.HealthDeadline != nil {
		health = m.goal.HealthDeadline.Duration
	}
	pre, post := m.goal.Hooks.Limits()
	if !m.committedToRestart() && m.goal.NotAfter != nil && now.After(m.goal.NotAfter.Time) {
		return time.Time{}, ""
	}
	switch m.say.Phase {
	case v1alpha1.NodeDraining:
		if m.goal.Drain != nil && m.goal.Drain.WhenBlocked == v1alpha1.DrainWait {
			return time.Time{}, ""
		}
		limit := pre + restartDeadline
		if m.goal.Drain != nil && m.goal.Drain.Timeout != nil {
			limit += m.goal.Drain.Timeout.Duration
		}
		return granted(m).Add(beginDeadline + limit), "it has not been drained in time: " + orElse(m.say.Message, "it does not say why")
	case v1alpha1.NodeArmed, v1alpha1.NodeTrial:
		at := m.phaseBegan(now).Add(restartDeadline + health + post)
		if !m.Ready {
			return at, fmt.Sprintf("it has not come back since it was %s", phaseText(m.say.Phase))
		}
		return at, fmt.Sprintf("it is still %s: %s", phaseText(m.say.Phase), orElse(m.say.Message, "it does not say why"))
	}
	if m.goal.GrantedAt == nil || m.goal.State != v1alpha1.GoalActive && m.goal.State != v1alpha1.GoalRolledBack {
		return time.Time{}, ""
	}
	if m.runs(m.goal.Target) == (m.goal.State == v1alpha1.GoalActive) {
		return time.Time{}, "" // it is there, and only has to say so
	}
	return granted(m).Add(beginDeadline), "it has not begun: is its agent running?"
}

// bad returns why a target failed on this node before.
func (m *machine) bad(t *v1alpha1.Target) (string, bool) {
	for _, b := range m.say.Bad {
		if t.OS != nil && b.Digest == t.OS.Digest ||
			t.Kubernetes != nil && t.Kubernetes.Digest != "" && b.Digest == t.Kubernetes.Digest {
			return orElse(b.Message, "no reason is known"), true
		}
	}
	return "", false
}

// set gives the node another goal.
func (m *machine) set(goal v1alpha1.NodeUpgradeSpec, reason, format string, args ...any) {
	m.goal, m.changed, m.reason, m.message = goal, true, reason, fmt.Sprintf(format, args...)
}

func phaseText(p v1alpha1.NodePhase) string {
	switch p {
	case v1alpha1.NodeArmed:
		return "restarted"
	case v1alpha1.NodeTrial:
		return "on trial"
	}
	return string(p)
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// stamp is a time as the API keeps it, to the second.
func stamp(t time.Time) *metav1.Time {
	s := metav1.NewTime(t.UTC().Truncate(time.Second))
	return &s
}
