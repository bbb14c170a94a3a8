package upgrade

import (
	"fmt"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// A kind is how a node stands to a plan.
type kind int

const (
	done      kind = iota // it runs the target
	unsettled             // it runs the target, but is not Ready since
	onWay                 // it restarts, or may at any moment
	failed                // it could not keep the target, and no try is left
	backoff               // it failed, and will try again
	taken                 // an older plan decides over it, or has it now
	blocked               // a guard forbids it
	away                  // it is not Ready
	silent                // its agent has not said anything yet
	idle                  // it must download the target
	fetching              // it downloads the target
	staged                // it could restart into the target
	wentBack              // it was taken back by the plan
)

// A state is how one node stands to a plan, and why.
type state struct {
	*machine
	kind    kind
	rank    int
	why     string
	at      time.Time // of a failure, or of the next try
	attempt int32     // the one to begin next
	again   bool      // the target failed on it, or was taken from it, before
	goalOK  bool      // it has been told to download the target, for this attempt
}

// state looks at one node.
func (c *cluster) state(p *plan, m *machine) state {
	s := state{machine: m, rank: p.rank(c, m), attempt: 1}
	mine := p.mine(m)
	if rival := p.rival(m); rival != nil {
		s.kind, s.why = taken, fmt.Sprintf("plan %s is older and decides over it", rival.Name)
		return s
	}
	if m.holder != nil && m.holder != p {
		s.kind, s.why = taken, fmt.Sprintf("plan %s is older and comes first", m.holder.Name)
		return s
	}
	if mine {
		s.attempt, s.again = max(1, m.goal.Attempt), m.goal.Again
	}
	if m.onWay {
		return c.onWay(p, s, mine)
	}
	if m.runs(p.target) {
		return c.arrived(p, s)
	}
	if mine && m.goal.State == v1alpha1.GoalRolledBack {
		s.kind, s.again, s.attempt = wentBack, true, 1
		return s
	}
	if c.failure(p, &s, mine) {
		return s
	}
	if s.why = c.forbids(p, m); s.why != "" {
		s.kind = blocked
		return s
	}
	return ready(p, s, mine)
}

// onWay looks at a node that restarts, or has been told to.
func (c *cluster) onWay(p *plan, s state, mine bool) state {
	s.kind = onWay
	if !mine {
		return s
	}
	if g := s.goal.GaveUp; g != nil && !s.committedToRestart() {
		s.kind, s.why, s.at = failed, g.Message, g.At.Time
		return s
	}
	if at, why := s.late(c.now); !at.IsZero() {
		if !at.After(c.now) {
			s.kind, s.why, s.at = failed, why, at
		}
		c.wake(at)
	}
	return s
}

// arrived looks at a node that runs the target.
func (c *cluster) arrived(p *plan, s state) state {
	s.kind = done
	if s.Ready || !p.upgraded(s.machine) {
		return s
	}
	// It was lost at once, because of the upgrade; or later, for its own reasons.
	kept, lost := s.finished(c.now), s.ReadyChanged
	if lost.After(kept.Add(p.longestSoak() + p.healthDeadline())) {
		return s
	}
	if lost.Before(kept) || lost.After(c.now) {
		lost = kept
	}
	s.kind, s.why = unsettled, "it is not Ready since its upgrade"
	if at := lost.Add(p.healthDeadline()); at.After(c.now) {
		c.wake(at)
	} else {
		s.kind, s.at = failed, at
	}
	return s
}

// failure tells whether the target failed on the node, and what follows.
func (c *cluster) failure(p *plan, s *state, mine bool) bool {
	m := s.machine
	if mine && m.goal.GaveUp != nil {
		s.why, s.at = m.goal.GaveUp.Message, m.goal.GaveUp.At.Time
		if s.at.After(c.now) {
			s.at = c.now
		}
	} else if mine && m.knows() && (m.say.Phase == v1alpha1.NodeRolledBack || m.say.Phase == v1alpha1.NodeFailed) {
		s.why = orElse(m.say.Message, orElse(m.say.Reason, "it does not say why"))
		s.at = m.phaseBegan(c.now)
	} else if why, bad := m.bad(p.target); bad && !(mine && m.goal.Again) {
		s.why = "the release failed on it before: " + why
		s.at = m.phaseBegan(c.now)
	} else {
		return false
	}
	s.kind, s.again = failed, true
	if p.Spec.Retry > 0 && (!mine || m.goal.Retry < p.Spec.Retry) {
		s.kind, s.attempt = idle, 1
		return c.retry(p, s)
	}
	n, wait := p.retries()
	if !mine || s.attempt > n {
		return true
	}
	for range s.attempt - 1 {
		wait = min(2*wait, 24*time.Hour)
	}
	if at := s.at.Add(wait); at.After(c.now) {
		s.kind, s.at = backoff, at
		c.wake(at)
		return true
	}
	s.attempt++
	s.kind = idle
	return c.retry(p, s)
}

// retry puts guards before another try.
func (c *cluster) retry(p *plan, s *state) bool {
	switch why := c.forbids(p, s.machine); {
	case why != "":
		s.kind, s.why = blocked, why
	case s.nu == nil || s.say.Phase == "":
		s.kind = silent
	case !s.Ready:
		s.kind = away
	}
	return true
}

// ready looks at a node that nothing keeps from the target.
func ready(p *plan, s state, mine bool) state {
	wanted := mine && s.goal.State == v1alpha1.GoalStaged
	s.goalOK = wanted
	switch {
	case s.nu == nil || s.say.Phase == "":
		s.kind = silent
	case !s.Ready:
		s.kind = away
	case wanted && (s.knows() || s.goal.SnapshotRequestedAt != nil) && s.say.Phase == v1alpha1.NodeStaged && fits(s.say.Staged, p.target, ""):
		s.kind = staged
	case wanted:
		s.kind = fetching
	default:
		s.kind = idle
	}
	return s
}

// forbids says which guard keeps a node from the target for as long as neither
// changes.
func (c *cluster) forbids(p *plan, m *machine) string {
	t := p.target
	if t.OS != nil && !p.Spec.AllowDowngrade && m.say.Running != nil && m.say.Running.OS != nil && older(t.OS.Version, m.say.Running.OS.Version) {
		return fmt.Sprintf("it runs %s, and %s is older; allowDowngrade takes it", m.say.Running.OS.Version, t.OS.Version)
	}
	if why := cannotFollow(m, t); why != "" {
		return why
	}
	version := m.kubernetesWith(t)
	from, to := minor(m.Kubelet), minor(version)
	if from < 0 || to < 0 {
		return ""
	}
	switch {
	case to < from:
		return fmt.Sprintf("it runs Kubernetes %s, and a lower minor version than that cannot follow", m.Kubelet)
	case to > from+1:
		return fmt.Sprintf("it runs Kubernetes %s, and %s is more than one minor version away; go to v1.%d first", m.Kubelet, version, from+1)
	case older(version, m.Kubelet) && !p.Spec.AllowDowngrade:
		return fmt.Sprintf("it runs Kubernetes %s, and %s is older; allowDowngrade takes it", m.Kubelet, version)
	}
	return ""
}

// cannotFollow says why the system of a target may not follow the one that a node
// runs.
func cannotFollow(m *machine, t *v1alpha1.Target) string {
	if t.OS == nil || t.OS.UpgradeFrom == "" || m.say.Running == nil || m.say.Running.OS == nil {
		return ""
	}
	now := m.say.Running.OS.Version
	allowed, err := release.ParseConstraint(t.OS.UpgradeFrom)
	if err != nil {
		return fmt.Sprintf("%s does not say what it may follow: %v", t.OS.Version, err)
	}
	if now == "" || allowed.Allows(now) {
		return ""
	}
	return fmt.Sprintf("it runs %s, and %s may follow only %s; go there first", now, t.OS.Version, allowed)
}

// skew says why a node may not change its version of Kubernetes now.
func (c *cluster) skew(p *plan, m *machine) string {
	from, to := minor(m.Kubelet), minor(m.kubernetesWith(p.target))
	if from < 0 || to < 0 || from == to {
		return ""
	}
	if m.ControlPlane {
		switch {
		case c.oldestServer >= 0 && to > c.oldestServer+1:
			return fmt.Sprintf("another API server is still v1.%d", c.oldestServer)
		case c.oldestKubelet >= 0 && to > c.oldestKubelet+3:
			return fmt.Sprintf("a kubelet is still v1.%d, too old for an API server of v1.%d", c.oldestKubelet, to)
		}
		return ""
	}
	if c.oldestServer >= 0 && to > c.oldestServer {
		return fmt.Sprintf("an API server is still v1.%d, and no kubelet may be newer", c.oldestServer)
	}
	for _, o := range c.controlPlane {
		if o.onWay {
			return fmt.Sprintf("control-plane node %s is on its way", o.Name)
		}
	}
	return ""
}

// quorum says why a control-plane node may not leave now.
func (c *cluster) quorum(m *machine) string {
	if o := c.othersAway(m); o != nil {
		if o.onWay {
			return fmt.Sprintf("control-plane node %s is on its way, and they go one at a time", o.Name)
		}
		return fmt.Sprintf("control-plane node %s is not Ready, and they go one at a time", o.Name)
	}
	if c.voters < 2 || !c.members[m.Name].Voter {
		return ""
	}
	if c.voters == 2 {
		return "etcd has two members, and none of them may leave: add a third, or remove one"
	}
	healthy := 0
	for _, e := range c.in.Etcd {
		if e.Voter && e.Healthy && e.Node != m.Name {
			healthy++
		}
	}
	if healthy < c.voters/2+1 {
		return fmt.Sprintf("etcd would keep %d healthy members of %d, too few for a quorum", healthy, c.voters)
	}
	return ""
}
