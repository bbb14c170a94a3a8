package upgrade

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// A NodeState is how a node stands to a plan, in words.
type NodeState string

// The states, from what needs somebody's attention to what needs none.
const (
	Failed     NodeState = "failed"      // it could not keep the release, and no try is left
	Blocked    NodeState = "blocked"     // a guard forbids the release, or the way back
	Backoff    NodeState = "tries again" // it failed, and waits for its next try
	NotReady   NodeState = "not ready"   // it is not Ready, before its upgrade or since
	Silent     NodeState = "silent"      // its agent has not said anything yet
	Told       NodeState = "told"        // it was told to restart, or to stay after all, and has not begun
	Draining   NodeState = "draining"    // hooks run, pods leave, the datastore is saved
	Restarting NodeState = "restarting"  // it restarts
	Trial      NodeState = "on trial"    // it runs the release, and has to show its health
	GoingBack  NodeState = "going back"  // it leaves the release
	Fetching   NodeState = "staging"     // it downloads the release
	Staged     NodeState = "staged"      // it has the release on its disk, and waits for its turn
	Waiting    NodeState = "waiting"     // it has to download the release
	OtherPlan  NodeState = "other plan"  // an older plan decides over it
	WentBack   NodeState = "went back"   // it runs what it ran before
	Done       NodeState = "done"        // it runs the release
)

// NodeStates are all states in that order.
var NodeStates = []NodeState{
	Failed, Blocked, Backoff, NotReady, Silent, Told, Draining, Restarting, Trial, GoingBack, Fetching, Staged, Waiting, OtherPlan, WentBack, Done,
}

// A View is how the nodes of one plan stand, by the rules of Decide.
type View struct {
	Nodes  []NodeView // in the order in which they go
	Steps  []StepView
	Budget int // how many nodes may be away
	Away   int // how many are

	Open  bool      // nodes may restart at this time
	Until time.Time // when the window that is open closes, in its zone; zero for never
	Next  time.Time // when the next one opens, in its zone; zero for never
}

// A NodeView is one node of a plan.
type NodeView struct {
	Name     string
	State    NodeState
	Why      string    // of the state, where there is something to say
	At       time.Time // of a failure, or of the next try; zero where there is neither
	Took     bool      // this plan let it restart into the release, and it runs that
	Stays    string    // why it cannot go back, for one that took it
	KnownBad bool      // the node remembers the release as one that failed on it
}

// A StepView is one step of a plan, which is for the nodes between From and To.
// The nodes beyond those that a plan names are its last step.
type StepView struct {
	From, To int
	Soak     time.Duration
	Begun    int       // nodes that were let go
	Through  int       // those of them that came to an end, good or bad
	Until    time.Time // when its soak ends; zero while nodes of it are missing
}

// Look shows a plan as Decide finds it. There is nothing to see of a plan that
// is not there, cannot be read, whose release is not known yet, or that chooses
// no node: then it returns false. A look needs no Resolutions, Checks or Etcd:
// what they add is in the plan's status.
func Look(in Input, name string) (View, bool) {
	c, plans := open(in)
	for _, p := range plans {
		r, _, _ := c.enter(p)
		if p.Name == name {
			if r == nil {
				return View{}, false
			}
			return r.view(), true
		}
	}
	return View{}, false
}

// Validate says what of a plan cannot be followed, beyond what the API checks.
func Validate(p *v1alpha1.Plan) error {
	if why := newCluster(Input{}).open(p).invalid; why != "" {
		return errors.New(why)
	}
	return nil
}

func (r *rollout) view() View {
	v := View{Budget: r.budget, Away: r.away, Open: r.open, Next: r.next}
	if !r.end.IsZero() {
		v.Until = r.end.In(r.windows[0].zone)
	}
	states := make([]*state, len(r.plan.states))
	for i := range r.plan.states {
		states[i] = &r.plan.states[i]
	}
	slices.SortFunc(states, func(a, b *state) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.Name, b.Name))
	})
	for _, s := range states {
		v.Nodes = append(v.Nodes, r.nodeView(s))
	}
	v.Steps = r.stepViews()
	return v
}

func (r *rollout) nodeView(s *state) NodeView {
	n := NodeView{Name: s.Name, State: s.word(), Why: s.why}
	switch s.kind {
	case failed, backoff:
		n.At = s.at
	case onWay, fetching:
		n.Why = s.say.Message
	case silent:
		n.Why = "its agent has not said anything yet"
	}
	if r.mine(s.machine) && s.goal.GrantedAt != nil && s.goal.State != v1alpha1.GoalStaged && s.runs(r.target) {
		n.Took, n.Stays = true, r.cannotGoBack(s.machine)
	}
	if n.Stays != "" && n.State == Done && r.goesBack() {
		n.State, n.Why = Blocked, n.Stays
	}
	_, n.KnownBad = s.bad(r.target)
	return n
}

// word is a state for people.
func (s *state) word() NodeState {
	switch s.kind {
	case onWay:
		switch {
		case s.goal.State == v1alpha1.GoalRolledBack && s.knows():
			return GoingBack
		case s.say.Phase == v1alpha1.NodeDraining:
			return Draining
		case s.say.Phase == v1alpha1.NodeArmed:
			return Restarting
		case s.say.Phase == v1alpha1.NodeTrial:
			return Trial
		}
		return Told
	case idle:
		return Waiting
	}
	return map[kind]NodeState{
		done: Done, unsettled: NotReady, failed: Failed, backoff: Backoff, taken: OtherPlan, blocked: Blocked,
		away: NotReady, silent: Silent, fetching: Fetching, staged: Staged, wentBack: WentBack,
	}[s.kind]
}

func (r *rollout) stepViews() (out []StepView) {
	_, begun, settled := r.step()
	from := 0
	within := func(n, to int) int { return min(max(n-from, 0), to-from) }
	for _, s := range r.Spec.Steps {
		limit, _ := share(s.Max, len(r.nodes))
		to := max(from, min(limit, len(r.nodes)))
		v := StepView{From: from, To: to, Soak: s.Soak.Duration, Begun: within(begun, to), Through: within(len(settled), to)}
		if limit <= len(settled) {
			v.Until = settled[limit-1].Add(s.Soak.Duration)
		}
		out = append(out, v)
		from = to
	}
	if all := len(r.nodes); len(out) > 0 && from < all {
		out = append(out, StepView{From: from, To: all, Begun: within(begun, all), Through: within(len(settled), all)})
	}
	return out
}
