package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// maxNamed bounds how many nodes a message names.
const maxNamed = 3

// maxFailures bounds how many failures a status names.
const maxFailures = 10

// maxText bounds a message, in bytes: the API takes 32768 of a condition.
const maxText = 1024

// stopped is the status of a plan that cannot be followed, or not yet. What it
// had reached stands as it is.
func (p *plan) stopped(c *cluster, phase v1alpha1.PlanPhase, reason, message string) v1alpha1.PlanStatus {
	var s v1alpha1.PlanStatus
	p.Status.DeepCopyInto(&s)
	s.Phase, s.Message, s.ObservedGeneration = phase, cut(message), p.Generation
	if p.target != nil {
		s.Target, s.TargetText = p.target.DeepCopy(), targetText(p.target)
	}
	if phase != v1alpha1.PlanInvalid {
		s.Nodes = int32(len(p.nodes))
	}
	p.conditions(c, &s, reason, false, false)
	return s
}

// status says how a plan stands.
func (r *rollout) status(complete bool) v1alpha1.PlanStatus {
	s := v1alpha1.PlanStatus{
		ObservedGeneration: r.Generation,
		Target:             r.target.DeepCopy(),
		TargetText:         targetText(r.target),
		Nodes:              int32(len(r.nodes)),
		Conditions:         slices.Clone(r.Status.Conditions),
	}
	moving, loading := r.count(&s)
	s.Progress = fmt.Sprintf("%d/%d", s.Updated, s.Nodes)
	for _, f := range r.failures[:min(len(r.failures), maxFailures)] {
		if !slices.ContainsFunc(s.Failures, func(o v1alpha1.NodeFailure) bool { return o.Node == f.node }) {
			s.Failures = append(s.Failures, v1alpha1.NodeFailure{Node: f.node, Message: cut(f.message), Attempts: f.attempts})
		}
	}
	if n := len(r.Spec.Steps); n > 0 {
		step, _, _ := r.step()
		s.Step = r.stepText(min(step, n-1))
	}
	if len(r.windows) > 0 && !complete {
		switch {
		case r.open:
			s.NextWindow = "open until " + clock(r.end.In(r.windows[0].zone))
		case !r.next.IsZero():
			s.NextWindow = clock(r.next)
		}
	}
	reason, progressing := r.verdict(&s, complete, moving, loading)
	s.Message = cut(s.Message)
	r.conditions(r.cluster, &s, reason, progressing, r.halted != "")
	return s
}

// count fills in the numbers. It returns the nodes on their way, and those that
// download.
func (r *rollout) count(s *v1alpha1.PlanStatus) (moving, loading []*state) {
	s.Failed = int32(len(r.failures))
	for i := range r.plan.states {
		n := &r.plan.states[i]
		if n.unavailable() {
			s.Unavailable++
		}
		switch n.kind {
		case done, unsettled:
			s.Updated++
		case staged:
			s.Staged++
		case wentBack:
			s.RolledBack++
		case idle, fetching:
			if n.goalOK {
				loading = append(loading, n)
			}
		}
		if n.onWay {
			s.Updating++
			if n.kind == onWay {
				moving = append(moving, n)
			}
		}
	}
	return moving, loading
}

// verdict says in which phase the plan is, why, and whether it moves.
func (r *rollout) verdict(s *v1alpha1.PlanStatus, complete bool, moving, loading []*state) (reason string, progressing bool) {
	say := func(phase v1alpha1.PlanPhase, text string) { s.Phase, s.Message = phase, text }
	switch {
	case complete:
		say(v1alpha1.PlanComplete, s.TargetText+" runs on "+plural(len(r.nodes), "node"))
		return "Complete", false
	case r.goesBack() && !r.Spec.Paused:
		return r.backVerdict(s, moving)
	case r.halted != "":
		say(v1alpha1.PlanHalted, "halted: "+r.halted+also(moving))
		return "Halted", false
	case r.Spec.Paused:
		say(v1alpha1.PlanPaused, "paused"+also(moving))
		return "Paused", false
	case len(moving) > 0:
		say(v1alpha1.PlanRolling, strings.TrimPrefix(also(moving), "; "))
		return movingReason(moving), true
	case len(loading) > 0:
		say(v1alpha1.PlanStaging, loadingText(loading))
		if len(r.holds) > 0 {
			s.Message += "; " + r.holds[0].message
		}
		return "Staging", true
	case len(r.holds) > 0:
		h := r.holds[0]
		if h.reason == "VersionSkew" && slices.ContainsFunc(r.kinds[failed], func(s *state) bool { return s.ControlPlane }) {
			r.halted = "the other nodes cannot go without it: " + r.failureText() + "; " + h.message
			say(v1alpha1.PlanHalted, r.halted)
			return "Halted", false
		}
		say(v1alpha1.PlanWaiting, h.message)
		if h.reason == "Soaking" {
			s.Phase = v1alpha1.PlanSoaking
		}
		return h.reason, false
	}
	return r.lastVerdict(s)
}

// lastVerdict is for a plan that has nothing more to do, and is not complete.
func (r *rollout) lastVerdict(s *v1alpha1.PlanStatus) (reason string, progressing bool) {
	for _, w := range []struct {
		kind         kind
		reason, text string
	}{
		{backoff, "Retry", "waits for its next try: "},
		{blocked, "Blocked", "is left as it is: "},
		{taken, "OtherPlan", "is left to another: "},
		{unsettled, "NotReady", ""},
		{away, "NotReady", "is not Ready"},
		{silent, "NoAgent", "has an agent that has not said anything yet"},
		{idle, "Waiting", "waits"},
		{staged, "Waiting", "waits for its turn"},
	} {
		if nodes := r.kinds[w.kind]; len(nodes) > 0 {
			n := nodes[0]
			s.Phase, s.Message = v1alpha1.PlanWaiting, n.Name+" "+w.text+n.why+more(len(nodes)-1)
			return w.reason, false
		}
	}
	if len(r.worse) > 0 {
		s.Phase, s.Message = v1alpha1.PlanWaiting, "waiting for health check "+r.worse[0].Name+": "+r.worse[0].Message
		return "Health", false
	}
	s.Phase, s.Message = v1alpha1.PlanHalted, "all other nodes are through: "+r.failureText()
	r.halted = s.Message
	return "Halted", false
}

// backVerdict is for a plan whose nodes go back.
func (r *rollout) backVerdict(s *v1alpha1.PlanStatus, moving []*state) (reason string, progressing bool) {
	why := ""
	if r.halted != "" {
		why = "; halted: " + r.halted
	}
	switch {
	case len(moving) > 0:
		s.Phase, s.Message = v1alpha1.PlanRollingBack, strings.TrimPrefix(also(moving), "; ")+why
		return "RollingBack", true
	case len(r.holds) > 0:
		s.Phase, s.Message = v1alpha1.PlanRollingBack, r.holds[0].message+why
		return r.holds[0].reason, false
	}
	for _, n := range r.kinds[done] {
		if n.kind == away && r.upgraded(n.machine) {
			s.Phase, s.Message = v1alpha1.PlanRollingBack, n.Name+" is to go back, and is not Ready"+why
			return "NotReady", false
		}
	}
	s.Phase, s.Message = v1alpha1.PlanRolledBack, plural(int(s.RolledBack), "node")+" went back"
	for _, n := range r.kinds[done] {
		if n.kind == blocked {
			s.Message += "; " + n.Name + " did not: " + n.why
			break
		}
	}
	s.Message += why
	return "RolledBack", false
}

// conditions brings the conditions in line with the phase.
func (p *plan) conditions(c *cluster, s *v1alpha1.PlanStatus, reason string, progressing, halted bool) {
	set := func(kind string, on bool, reason, message string) {
		status := metav1.ConditionFalse
		if on {
			status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message,
			ObservedGeneration: p.Generation, LastTransitionTime: *stamp(c.now),
		})
	}
	valid := s.Phase != v1alpha1.PlanInvalid
	if valid {
		set(v1alpha1.ConditionValid, true, "Valid", "")
	} else {
		set(v1alpha1.ConditionValid, false, reason, s.Message)
	}
	switch {
	case !valid:
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionResolved)
	case p.target == nil:
		set(v1alpha1.ConditionResolved, false, reason, s.Message)
	case p.note != "":
		set(v1alpha1.ConditionResolved, true, "Kept", cut(s.TargetText+" is kept: "+p.note))
	default:
		set(v1alpha1.ConditionResolved, true, "Resolved", s.TargetText)
	}
	set(v1alpha1.ConditionProgressing, progressing, reason, s.Message)
	if halted {
		set(v1alpha1.ConditionHalted, true, "Failures", s.Message)
	} else {
		set(v1alpha1.ConditionHalted, false, "NotHalted", "")
	}
	// The phase of a plan that is complete is the reason, too.
	set(v1alpha1.ConditionComplete, s.Phase == v1alpha1.PlanComplete, string(s.Phase), s.Progress)
	// Without this one, Fleet takes any plan for ready and goes on to the next
	// clusters. The API server gives it to new plans, from no real time on.
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady); c != nil && c.LastTransitionTime.Unix() == 0 {
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReady)
	}
	set(v1alpha1.ConditionReady, s.Phase == v1alpha1.PlanComplete, string(s.Phase), s.Message)
	switch s.Phase {
	case v1alpha1.PlanHalted, v1alpha1.PlanInvalid:
		set(v1alpha1.ConditionStalled, true, string(s.Phase), s.Message)
	default: // its absence is what they know
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionStalled)
	}
}

// also says what nodes on their way do.
func also(moving []*state) string {
	// Those that have something to say come first.
	sorted := slices.Clone(moving)
	slices.SortStableFunc(sorted, func(a, b *state) int { return min(1, len(b.say.Message)) - min(1, len(a.say.Message)) })
	var b strings.Builder
	for _, s := range sorted[:min(len(sorted), maxNamed)] {
		b.WriteString("; " + s.Name + " " + movingText(s))
	}
	return b.String() + more(len(moving)-maxNamed)
}

func movingText(s *state) string {
	with := func(text string) string {
		if s.say.Message == "" {
			return text
		}
		return text + ": " + s.say.Message
	}
	switch s.say.Phase {
	case v1alpha1.NodeDraining:
		return with("drains")
	case v1alpha1.NodeArmed:
		return "restarts"
	case v1alpha1.NodeTrial:
		return with("is on trial")
	}
	switch s.goal.State {
	case v1alpha1.GoalActive:
		if s.goal.Target != nil && s.runs(s.goal.Target) {
			return "restarted, and its agent has not said anything since"
		}
		return "is told to restart"
	case v1alpha1.GoalRolledBack:
		return "is told to go back"
	}
	return "was called back, and has not heard yet"
}

func movingReason(moving []*state) string {
	for _, s := range moving {
		if s.say.Phase == v1alpha1.NodeDraining && s.say.Message != "" {
			return "Draining"
		}
	}
	return "Rolling"
}

func loadingText(loading []*state) string {
	slow := slices.MinFunc(loading, func(a, b *state) int { return int(a.say.Downloaded - b.say.Downloaded) })
	if len(loading) == 1 {
		switch {
		case slow.changed || !slow.knows():
			return slow.Name + " is told to download"
		case slow.say.Message != "":
			return slow.Name + " downloads: " + slow.say.Message
		}
		return fmt.Sprintf("%s downloads, %d %%", slow.Name, slow.say.Downloaded)
	}
	return plural(len(loading), "node") + " download"
}

func (r *rollout) failureText() string {
	var parts []string
	for _, f := range r.failures[:min(len(r.failures), maxNamed)] {
		parts = append(parts, f.node+": "+f.message)
	}
	return strings.Join(parts, "; ") + more(len(r.failures)-maxNamed)
}

// holdBudget says which nodes use up what may be away.
func (r *rollout) holdBudget() {
	var names []string
	n := 0
	for i := range r.plan.states {
		if s := &r.plan.states[i]; s.unavailable() {
			if n++; n > maxNamed {
				continue
			}
			why := "not Ready"
			switch {
			case s.onWay:
				why = "on its way"
			case s.Ready:
				why = "cordoned"
			}
			names = append(names, s.Name+" ("+why+")")
		}
	}
	if n == 0 {
		return // the place is kept for one that comes nearer
	}
	r.hold("MaxUnavailable", fmt.Sprintf("%d of %d allowed unavailable: %s%s", r.away, r.budget, strings.Join(names, ", "), more(n-maxNamed)))
}

func (r *rollout) stepText(step int) string {
	return fmt.Sprintf("%d/%d", step+1, len(r.Spec.Steps))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func more(n int) string {
	if n < 1 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for end > 0 && text[end]&0xC0 == 0x80 {
		end--
	}
	return text[:end] + " …"
}
