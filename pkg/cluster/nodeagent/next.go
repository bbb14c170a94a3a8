package nodeagent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

// Annotations of a node, by which it is known after any restart what was done to
// it.
const (
	// LeavingAnnotation is when the node began to leave, RFC 3339, by its clock.
	LeavingAnnotation = "upgrade.kedgeos.io/leaving"
	// CordonedAnnotation says that the cordon is ours: only then is it undone.
	CordonedAnnotation = "upgrade.kedgeos.io/cordoned"
)

// Times of a node.
const (
	fetchAgain = time.Minute      // from a transfer that failed to the next
	fetchLimit = 30 * time.Minute // for which transfers may fail before the goal has
	saveAgain  = 5 * time.Minute  // from a snapshot that failed to the next
	trialTold  = time.Minute      // for which a trial may run before it is told
)

// Types of a NodeUpgrade's conditions.
const (
	ConditionAgent   = "Agent"   // the agent of the machine answers
	ConditionFetched = "Fetched" // the target can be brought
	ConditionDrained = "Drained" // the pods that must leave have left
	ConditionSaved   = "Saved"   // the datastore was saved, as it was asked for
)

// Node is what Next looks at of a node.
type Node struct {
	Name         string
	Cordoned     bool
	Ours         bool      // CordonedAnnotation
	Leaving      time.Time // LeavingAnnotation; zero without it
	ControlPlane bool
	Cluster      string // version of the API server; "" when it is not known
	// Left are the pods that still have to leave, for people, each with the reason
	// why it could not be evicted; looked at only for a node that is leaving.
	Left []string
	// Blocked says that one of them was refused its eviction.
	Blocked bool
}

// View is all that Next looks at.
type View struct {
	Now    time.Time
	Goal   *v1alpha1.NodeUpgrade
	Node   Node
	Status *ask.Status // nil when the agent does not answer
	Error  error       // why it does not
	// Refused is why the agent did not do what this goal wanted of it last; nil
	// when it did.
	Refused *ask.Error
	// Hooks are the pods of hooks on the node, by their names; looked at only for a
	// goal with hooks.
	Hooks map[string]HookPod
}

// Decision is what the status must be, and what is to be done once it is
// written.
type Decision struct {
	Status v1alpha1.NodeUpgradeStatus
	Action Action // nil for none
	// Passing says that the status need not be written: it tells of a moment, and
	// what comes of the action is soon told.
	Passing bool
}

// Next decides how a node goes on.
func Next(v View) Decision {
	d := &decider{View: v, goal: v.Goal.Spec, prev: v.Goal.Status}
	if v.Status == nil {
		d.st = *d.prev.DeepCopy()
		d.condition(ConditionAgent, false, "NoAnswer", "%v", v.Error)
		switch d.st.Phase {
		case v1alpha1.NodeRolledBack, v1alpha1.NodeFailed: // the message is why
		default:
			d.st.Message = "the agent of this machine does not answer"
		}
		return Decision{Status: d.st}
	}
	d.say = *v.Status
	d.base()
	d.decide()
	return Decision{Status: d.st, Action: d.action, Passing: d.passing}
}

// A decider is one call of Next.
type decider struct {
	View
	goal   v1alpha1.NodeUpgradeSpec
	prev   v1alpha1.NodeUpgradeStatus
	say    ask.Status
	st     v1alpha1.NodeUpgradeStatus
	action Action

	passing bool
}

// base says what is so, whatever the goal.
func (d *decider) base() {
	running := &v1alpha1.Release{OS: version(d.say.OS.Running), Kubernetes: version(d.say.Kubernetes.Running)}
	d.st = v1alpha1.NodeUpgradeStatus{
		ObservedGeneration: d.Goal.Generation, BootID: d.say.BootID, Running: running,
		CommittedAt: d.prev.CommittedAt, Cordoned: d.Node.Ours && d.Node.Cordoned, Bad: d.bad(),
		Conditions: slices.Clone(d.prev.Conditions),
	}
	for _, p := range parts {
		is := d.say.Part(p)
		if is.Phase == ask.Staged {
			d.st.Staged = with(d.st.Staged, running, p, is.To)
		}
		if is.Previous != nil {
			// What Kubernetes an earlier system brings is not known.
			d.st.Previous = with(d.st.Previous, &v1alpha1.Release{OS: running.OS}, p, *is.Previous)
		}
		if is.Phase == ask.Committed && !is.Changed.IsZero() && (d.st.CommittedAt == nil || is.Changed.After(d.st.CommittedAt.Time)) {
			d.st.CommittedAt = stamp(is.Changed)
		}
	}
	if s := d.say.Saved; s != nil {
		d.st.Snapshot = &v1alpha1.Snapshot{RequestedAt: stamp(s.At), Name: s.Name}
	}
	d.condition(ConditionAgent, true, "Answers", "the agent answers")
}

// bad returns the releases that failed here and have a digest, the newest last.
func (d *decider) bad() (bad []v1alpha1.BadRelease) {
	for _, p := range parts {
		for _, b := range d.say.Part(p).Bad {
			if b.Digest != "" {
				bad = append(bad, v1alpha1.BadRelease{Digest: b.Digest, Message: limited(b.Reason, 1024), At: stamp(b.Time)})
			}
		}
	}
	slices.SortStableFunc(bad, func(a, b v1alpha1.BadRelease) int { return a.At.Compare(b.At.Time) })
	return bad[max(0, len(bad)-20):]
}

func (d *decider) decide() {
	switch {
	case d.underWay():
	case d.stays():
	case d.goal.State == v1alpha1.GoalStaged || d.goal.State == v1alpha1.GoalActive:
		d.forward()
	case d.goal.State == v1alpha1.GoalRolledBack:
		d.back()
	case d.calledOff(nil):
	default:
		d.rest(d.kept(), "", "")
	}
	d.save()
}

// enter says in which phase the node is. Its reason is one word.
func (d *decider) enter(p v1alpha1.NodePhase, reason, format string, args ...any) {
	d.st.Phase, d.st.Reason, d.st.Message = p, reason, limited(fmt.Sprintf(format, args...), 2048)
	d.st.Since = stamp(d.Now)
	if p == d.prev.Phase && d.prev.Since != nil {
		d.st.Since = d.prev.Since
	}
}

// rest is enter for a phase in which the node is where it was: it comes back if
// it was leaving.
func (d *decider) rest(p v1alpha1.NodePhase, reason, format string, args ...any) {
	d.enter(p, reason, format, args...)
	if !d.Node.Leaving.IsZero() || d.Node.Ours {
		d.returns()
	}
	if p != v1alpha1.NodeFailed {
		meta.RemoveStatusCondition(&d.st.Conditions, ConditionDrained)
	}
}

// returns has the node back where it was. The status says what is so after the
// action, here and for Leave: it is not written once more for that.
func (d *decider) returns() {
	d.action = Return{}
	d.st.Cordoned = false
}

// underWay tells whether a trial is to come or runs: it comes to its end whatever
// the goal says.
func (d *decider) underWay() bool {
	for _, p := range parts {
		is := d.say.Part(p)
		switch is.Phase {
		case ask.Armed:
			d.enter(v1alpha1.NodeArmed, "Armed", "%s", is.Text)
			// Perhaps whoever armed it died before the restart. One that a person
			// armed is that person's matter.
			if p == ask.OS && !d.Node.Leaving.IsZero() {
				d.action = Activate{ask.Activate{Part: p, Digest: key(is.To)}}
			}
			return true
		case ask.Trial:
			if d.begins(is) {
				d.st = *d.prev.DeepCopy()
				return true
			}
			reason, why := "Trial", is.Text
			if is.Reason != "" {
				reason, why = "GivenUp", is.Reason
			} else if !d.say.Healthy && d.say.Unhealthy != "" {
				why += "; the node is not Ready: " + d.say.Unhealthy
			}
			d.enter(v1alpha1.NodeTrial, reason, "%s", why)
			if is.Held {
				d.held(p, is)
			}
			return true
		}
	}
	return false
}

// begins tells whether a trial is so young that its end may be the next thing to
// tell. The cluster knows that the machine restarts.
func (d *decider) begins(is ask.State) bool {
	return d.prev.Phase == v1alpha1.NodeArmed && d.prev.ObservedGeneration == d.Goal.Generation &&
		!is.Held && is.Reason == "" && !meta.IsStatusConditionFalse(d.prev.Conditions, ConditionAgent) && d.Now.Sub(is.Changed).Abs() < trialTold
}

// stays tells whether the goal has come to its end already.
func (d *decider) stays() bool {
	if d.prev.ObservedGeneration != d.Goal.Generation || d.prev.Phase != v1alpha1.NodeRolledBack && d.prev.Phase != v1alpha1.NodeFailed {
		return false
	}
	d.rest(d.prev.Phase, d.prev.Reason, "%s", d.prev.Message)
	return true
}

// kept is the phase of a node that is not to change.
func (d *decider) kept() v1alpha1.NodePhase {
	if d.prev.Phase == v1alpha1.NodeCommitted {
		return v1alpha1.NodeCommitted
	}
	if t := d.goal.Target; t != nil {
		for _, w := range wanted(t) {
			if is := d.say.Part(w.part); is.Phase == ask.Committed && w.is(is.To) {
				return v1alpha1.NodeCommitted
			}
		}
	}
	return v1alpha1.NodeIdle
}

func (d *decider) fail(reason, format string, args ...any) {
	d.rest(v1alpha1.NodeFailed, reason, format, args...)
}

// inTime tells whether the node may still begin to leave.
func (d *decider) inTime() bool {
	return d.goal.NotAfter == nil || !d.Now.After(d.goal.NotAfter.Time)
}

// midway tells whether the node has restarted for this goal already: then it
// goes on, whatever the time.
func (d *decider) midway() bool {
	return !d.Node.Leaving.IsZero() && (d.prev.Phase == v1alpha1.NodeArmed || d.prev.Phase == v1alpha1.NodeTrial)
}

// follow does what is left for a part, right after the part before it.
func (d *decider) follow(w want, do Action) {
	d.enter(v1alpha1.NodeTrial, "Trial", "%s follows", w)
	d.action = do
	d.refused()
}

// forward brings the node to the target.
func (d *decider) forward() {
	if d.goal.Target == nil {
		d.fail("NoTarget", "the goal names no target")
		return
	}
	unmet := d.unmet()
	if len(unmet) == 0 {
		switch {
		case d.calledOff(nil):
		case d.goal.State == v1alpha1.GoalActive:
			d.rest(v1alpha1.NodeCommitted, "Committed", "it runs the target")
		default:
			d.rest(d.kept(), "", "")
		}
		return
	}
	if d.failed(unmet) {
		return
	}
	request, err := d.request(unmet)
	switch {
	case err != "":
		d.fail(ask.NotPossible, "%s", err)
	case d.calledOff(&request):
	case !d.staged(unmet):
		d.fetch(request)
	case d.goal.State == v1alpha1.GoalStaged:
		d.ready("Staged", "the target is on the disk")
	default:
		d.activate(unmet)
	}
}

// ready is a node that has the target on its disk, and waits.
func (d *decider) ready(reason, format string, args ...any) {
	d.rest(v1alpha1.NodeStaged, reason, format, args...)
	if meta.FindStatusCondition(d.st.Conditions, ConditionFetched) != nil {
		d.condition(ConditionFetched, true, "Staged", "the target is on the disk")
	}
}

// unmet returns the parts of the target that do not run yet, in the order in
// which they come to be.
func (d *decider) unmet() (unmet []want) {
	for _, w := range wanted(d.goal.Target) {
		if !w.is(d.say.Part(w.part).Running) {
			unmet = append(unmet, w)
		}
	}
	if t := d.goal.Target; len(unmet) == 2 && sameVersion(t.OS.KubernetesVersion, t.Kubernetes.Version) {
		return unmet[:1] // the system brings it
	}
	return unmet
}

// failed tells whether the target failed here, in this attempt or before.
func (d *decider) failed(unmet []want) bool {
	// Another attempt is another generation; the node had come to an end before it.
	anew := d.goal.Again && (d.prev.Phase == v1alpha1.NodeFetching ||
		d.prev.ObservedGeneration < d.Goal.Generation && d.prev.Phase != v1alpha1.NodeDraining && d.prev.Phase != v1alpha1.NodeArmed && d.prev.Phase != v1alpha1.NodeTrial)
	for _, w := range unmet {
		is := d.say.Part(w.part)
		if is.Phase == ask.RolledBack && w.is(is.To) && !anew {
			d.rest(v1alpha1.NodeRolledBack, "TrialFailed", "%s", orElse(is.Reason, is.Text))
			return true
		}
		for _, b := range is.Bad {
			if w.is(b.Release) && !d.goal.Again {
				d.fail(ask.KnownBad, "%s failed on this node before: %s", w, b.Reason)
				return true
			}
		}
	}
	return false
}

// request is what to ask the agent for; why says why nothing can be.
func (d *decider) request(unmet []want) (s ask.Stage, why string) {
	s = ask.Stage{AllowDowngrade: d.goal.AllowDowngrade, Again: d.goal.Again}
	for _, w := range unmet {
		image := &ask.Image{Name: w.image, Digest: w.digest}
		is := d.say.Part(w.part)
		switch {
		case w.image == "" || w.digest == "":
			if !(is.Phase == ask.Staged && w.is(is.To)) {
				return s, fmt.Sprintf("%s: the plan names no image that brings it", w)
			}
		case w.part == ask.OS && d.say.Fixed != "":
			return s, d.say.Fixed
		case w.part == ask.OS:
			s.OS = image
		default:
			s.Kubernetes = image
		}
	}
	return s, ""
}

// calledOff ends a transfer that nobody wants any more. One that somebody else
// has asked for, such as a job on the machine, is theirs.
func (d *decider) calledOff(request *ask.Stage) bool {
	w := d.say.Work
	mine := d.prev.Phase == v1alpha1.NodeFetching && d.prev.Reason != "Waiting"
	if !mine || w == nil || w.Over || w.Verb != ask.StageVerb || w.Stage == nil || request != nil && w.Stage.Same(*request) {
		return false
	}
	d.enter(v1alpha1.NodeFetching, "CalledOff", "what is fetched is not wanted any more")
	d.action = Cancel{}
	return true
}

func (d *decider) staged(unmet []want) bool {
	return !slices.ContainsFunc(unmet, func(w want) bool {
		is := d.say.Part(w.part)
		return is.Phase != ask.Staged || !w.is(is.To)
	})
}

// fetch has the target brought.
func (d *decider) fetch(request ask.Stage) {
	w := d.say.Work
	mine := w != nil && w.Verb == ask.StageVerb && w.Stage != nil && w.Stage.Same(request)
	switch {
	case w != nil && !w.Over && !mine:
		d.rest(v1alpha1.NodeFetching, "Waiting", "the agent is busy: %s", w.Verb)
		return
	case w != nil && !w.Over:
		d.rest(v1alpha1.NodeFetching, "Fetching", "%s", orElse(w.Step, "begins"))
		if w.Total > 0 {
			// The bytes are fetched, then written and read back: about half each.
			d.st.Downloaded = int32(min(100, max(0, w.Done*50/w.Total)))
			if w.Step != "fetch" {
				d.st.Downloaded = min(100, 50+d.st.Downloaded)
			}
		}
		return
	case d.refused(), mine && w.Error != nil && d.tried(w):
		return
	}
	d.enter(v1alpha1.NodeFetching, "Fetching", "the target is asked for")
	if !d.Node.Leaving.IsZero() || d.Node.Ours {
		d.returns()
		return
	}
	d.action = Stage{request}
}

// tried looks at a transfer that failed, and tells whether there is nothing to do
// now.
func (d *decider) tried(w *ask.Work) bool {
	begun := d.prev.Since
	if d.prev.Phase == v1alpha1.NodeFetching && begun != nil && w.Begun.Before(begun.Truncate(time.Second)) || d.prev.Phase != v1alpha1.NodeFetching {
		return false // of another attempt
	}
	if ask.Lasting(w.Error.Reason) {
		d.fail(w.Error.Reason, "%s", w.Error)
		return true
	}
	before := meta.FindStatusCondition(d.st.Conditions, ConditionFetched)
	if before != nil && before.Status == metav1.ConditionFalse && d.Now.Sub(before.LastTransitionTime.Time) > fetchLimit {
		d.fail(w.Error.Reason, "%s", w.Error)
		return true
	}
	d.condition(ConditionFetched, false, w.Error.Reason, "%s", w.Error)
	if d.Now.Sub(w.Begun) < fetchAgain {
		d.rest(v1alpha1.NodeFetching, "Fetching", "it is tried again: %s", w.Error)
		return true
	}
	return false
}

// activate lets the node leave, and puts what is staged on trial.
func (d *decider) activate(unmet []want) {
	w := unmet[0]
	do := Activate{ask.Activate{Part: w.part, Digest: key(d.say.Part(w.part).To), Again: d.goal.Again}}
	for _, p := range d.goal.Probes {
		do.Probes = append(do.Probes, ask.Probe{Name: p.Name, URL: p.URL, TCP: p.TCP})
	}
	_, post := d.goal.Hooks.Limits()
	do.Hold = post > 0 && len(unmet) == 1 // after all that was to come
	if h := d.goal.HealthDeadline; h != nil {
		do.Limit = int64((h.Duration + post) / time.Second)
	}
	if d.midway() {
		d.follow(w, do)
		return
	}
	if d.goal.NotAfter != nil {
		do.NotAfter = d.goal.NotAfter.Time
	}
	switch {
	case !d.inTime():
		d.ready("Late", "the leave ended at %s", d.goal.NotAfter.UTC().Format(time.RFC3339))
	case d.guard() != "":
		d.ready("Guard", "%s", d.guard())
	default:
		d.leave(do)
	}
}

// guard says why the node may not leave for the target now, though it was told
// to.
func (d *decider) guard() string {
	if w := d.say.Work; w != nil && !w.Over {
		return "the agent is busy: " + w.Verb
	}
	if at := d.goal.SnapshotRequestedAt; at != nil && (d.st.Snapshot == nil || !d.st.Snapshot.RequestedAt.Equal(at)) {
		return "the datastore is not saved yet"
	}
	t := d.goal.Target
	to := ""
	switch {
	case t.Kubernetes != nil:
		to = t.Kubernetes.Version
	case t.OS != nil && d.beside() && minor(t.OS.KubernetesVersion) < minor(d.say.Kubernetes.Running.Version): // what is beside it stays
	case t.OS != nil:
		to = t.OS.KubernetesVersion
	}
	runs, next, cluster := minor(d.say.Kubernetes.Running.Version), minor(to), minor(d.Node.Cluster)
	switch {
	case next < 0:
	case runs >= 0 && next < runs:
		return fmt.Sprintf("it runs Kubernetes %s, and a lower minor version cannot follow", d.say.Kubernetes.Running.Version)
	case runs >= 0 && next > runs+1:
		return fmt.Sprintf("it runs Kubernetes %s, and %s is more than one minor version away", d.say.Kubernetes.Running.Version, to)
	case !d.Node.ControlPlane && next != runs && cluster >= 0 && next > cluster:
		return fmt.Sprintf("the API server is %s, and no kubelet may be newer", d.Node.Cluster)
	}
	return ""
}

// beside tells whether the Kubernetes that runs was put beside the system.
func (d *decider) beside() bool {
	return d.say.Own != "" && !sameVersion(d.say.Own, d.say.Kubernetes.Running.Version)
}

// refused makes a refusal by the agent that will not change a failure.
func (d *decider) refused() bool {
	if d.Refused == nil || !ask.Lasting(d.Refused.Reason) {
		return false
	}
	d.action = nil
	d.fail(d.Refused.Reason, "%s", d.Refused)
	return true
}

// leave lets pods leave, and then does what it is for.
func (d *decider) leave(do Action) {
	if d.refused() {
		return
	}
	d.enter(v1alpha1.NodeDraining, "Draining", "the node is leaving")
	drain := d.goal.Drain
	// One that tries again must have been seen to leave: a release that failed on
	// it before fails this attempt only then.
	passing := d.prev.Phase != v1alpha1.NodeDraining && !d.goal.Again && d.goal.Hooks == nil
	if d.Node.Leaving.IsZero() || drain != nil && !d.Node.Cordoned {
		d.action, d.passing = Leave{Cordon: drain != nil}, passing
		d.st.Cordoned = drain != nil && (!d.Node.Cordoned || d.Node.Ours)
		return
	}
	if d.goal.State == v1alpha1.GoalActive && !d.preHooks() {
		return
	}
	if drain == nil || len(d.Node.Left) == 0 {
		d.st.Message = "the node goes"
		if d.Refused != nil {
			d.st.Message = limited("the agent does not do it yet: "+d.Refused.Error(), 2048)
		}
		d.action, d.passing = do, passing
		return
	}
	left := some(d.Node.Left)
	d.st.Reason, d.st.Message = "PodsLeft", limited(left, 2048)
	if d.Node.Blocked { // told at once: it may need somebody
		d.condition(ConditionDrained, false, "Blocked", "%s", left)
	}
	evict := Evict{Drain: *drain}
	if t := drain.Timeout; t != nil && t.Duration > 0 && d.Now.Sub(d.Node.Leaving) > t.Duration {
		switch drain.WhenBlocked {
		case v1alpha1.DrainWait:
		case v1alpha1.DrainForce:
			evict.Force = true
		default:
			d.fail("DrainTimeout", "pods have not left within %v: %s", t.Duration, left)
			return
		}
		d.condition(ConditionDrained, false, "Blocked", "%s", left)
	}
	d.action = evict
}

// back takes the node back to what it ran before.
func (d *decider) back() {
	if d.goal.Target == nil {
		d.fail("NoTarget", "the goal names no target")
		return
	}
	if d.calledOff(nil) {
		return
	}
	gone, stuck := false, ""
	for _, w := range slices.Backward(wanted(d.goal.Target)) {
		is := d.say.Part(w.part)
		switch {
		case !w.is(is.Running):
			gone = true
		case is.Phase == ask.RolledBack:
			stuck = fmt.Sprintf("%s: what ran before could not come back: %s", w, orElse(is.Reason, is.Text))
		case is.Previous == nil:
			stuck = fmt.Sprintf("%s: there is nothing to go back to", w)
		default:
			d.backFrom(w)
			return
		}
	}
	if !gone {
		d.fail("NoWayBack", "%s", stuck)
		return
	}
	d.rest(v1alpha1.NodeRolledBack, "Asked", "it was taken back, as the plan wants it")
}

func (d *decider) backFrom(w want) {
	do := Rollback{ask.Rollback{Part: w.part, Digest: key(d.say.Part(w.part).Running)}}
	if d.midway() {
		d.follow(w, do)
		return
	}
	if d.goal.NotAfter != nil {
		do.NotAfter = d.goal.NotAfter.Time
	}
	if !d.inTime() {
		d.rest(v1alpha1.NodeCommitted, "Late", "the leave ended at %s", d.goal.NotAfter.UTC().Format(time.RFC3339))
		return
	}
	if w := d.say.Work; w != nil && !w.Over {
		d.rest(v1alpha1.NodeCommitted, "Waiting", "the agent is busy: %s", w.Verb)
		return
	}
	d.leave(do)
}

// save has the datastore saved when that was asked for, and nothing else is to
// be done.
func (d *decider) save() {
	at := d.goal.SnapshotRequestedAt
	if at == nil {
		return
	}
	if d.st.Snapshot != nil && d.st.Snapshot.RequestedAt.Equal(at) {
		d.condition(ConditionSaved, true, "Saved", "%s", d.st.Snapshot.Name)
		return
	}
	if d.action != nil || d.st.Phase == v1alpha1.NodeArmed || d.st.Phase == v1alpha1.NodeTrial {
		return
	}
	if w := d.say.Work; w != nil {
		if !w.Over {
			return
		}
		if w.Verb == ask.SnapshotVerb && w.At.Equal(at.Time) && w.Error != nil {
			d.condition(ConditionSaved, false, w.Error.Reason, "%s", w.Error)
			if ask.Lasting(w.Error.Reason) || d.Now.Sub(w.Begun) < saveAgain {
				return
			}
		}
	}
	d.action = Snapshot{ask.Snapshot{At: at.Time}}
}

// condition sets one; it changes its time only with its status.
func (d *decider) condition(kind string, is bool, reason, format string, args ...any) {
	status := metav1.ConditionFalse
	if is {
		status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&d.st.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: limited(fmt.Sprintf(format, args...), 1024),
		ObservedGeneration: d.Goal.Generation, LastTransitionTime: *stamp(d.Now),
	})
}

// some names the first few.
func some(all []string) string {
	const few = 5
	if len(all) > few {
		return fmt.Sprintf("%d pods are left: %s, …", len(all), strings.Join(all[:few], ", "))
	}
	return fmt.Sprintf("%d pods are left: %s", len(all), strings.Join(all, ", "))
}
