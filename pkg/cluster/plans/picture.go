package plans

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// A Picture is how one plan stands at one moment. "kedge plan status -o json"
// prints it, so its fields keep their names.
type Picture struct {
	Name    string             `json:"name"`
	At      time.Time          `json:"at"`
	Phase   v1alpha1.PlanPhase `json:"phase,omitempty"`
	Reason  string             `json:"reason,omitempty"` // of the condition Progressing: why it goes on, or does not
	Message string             `json:"message,omitempty"`
	Halted  bool               `json:"halted,omitempty"` // nodes failed, and nothing goes on towards the target
	Target  string             `json:"target,omitempty"`
	Images  []string           `json:"images,omitempty"` // by digest, where that is known

	Total     int                       `json:"total"`
	Done      int                       `json:"done"`
	Failed    int                       `json:"failed"`
	States    map[upgrade.NodeState]int `json:"states,omitempty"`
	Steps     []Step                    `json:"steps,omitempty"`
	Available *Available                `json:"available,omitempty"` // missing where no node can be looked at
	Window    *Window                   `json:"window,omitempty"`    // missing for a plan without windows
	Nodes     []Node                    `json:"nodes,omitempty"`     // in the order in which they go
	Notes     []string                  `json:"notes,omitempty"`     // what is not as it should be, beside the message
	Events    []Event                   `json:"events,omitempty"`    // the last ones, the newest last

	plan *v1alpha1.Plan
}

// A Step is one widening of the rollout; the last one may be the nodes that are
// left after those of the plan's steps.
type Step struct {
	Nodes   int        `json:"nodes"`
	Begun   int        `json:"begun"`
	Through int        `json:"through"`
	Soak    string     `json:"soak,omitempty"`
	Until   *time.Time `json:"until,omitempty"` // when the soak ends
}

// Available is how many nodes are away, and may be.
type Available struct {
	Away    int `json:"away"`
	Allowed int `json:"allowed"`
}

// A Window is when nodes may restart, in the time zone of the plan.
type Window struct {
	Open  bool       `json:"open"`
	Until *time.Time `json:"until,omitempty"`
	Next  *time.Time `json:"next,omitempty"`
	Zone  string     `json:"zone,omitempty"`
}

// A Node is one of the plan's.
type Node struct {
	Name       string            `json:"name"`
	State      upgrade.NodeState `json:"state"`
	Why        string            `json:"why,omitempty"`
	OS         string            `json:"os,omitempty"`
	Kubernetes string            `json:"kubernetes,omitempty"`
	Downloaded int32             `json:"downloaded,omitempty"` // percent, while it downloads
	Since      *time.Time        `json:"since,omitempty"`
	Retry      *time.Time        `json:"retry,omitempty"` // the next try
	GoesTo     string            `json:"goesTo,omitempty"`
	Took       bool              `json:"took,omitempty"`
	Stays      string            `json:"stays,omitempty"` // why it cannot go back
	KnownBad   bool              `json:"knownBad,omitempty"`
}

// An Event is one of the cluster's.
type Event struct {
	At      time.Time `json:"at"`
	About   string    `json:"about"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Times   int32     `json:"times,omitempty"`
	Warning bool      `json:"warning,omitempty"`
}

// lastEvents is how many are shown.
const lastEvents = 8

// patience is how long a controller may take to look at a plan.
const patience = 15 * time.Second

// Summary is a picture without nodes and events.
func Summary(now time.Time, p *v1alpha1.Plan) Picture {
	s := &p.Status
	out := Picture{
		Name: p.Name, At: now.UTC().Truncate(time.Second), Phase: s.Phase, Message: s.Message, Target: s.TargetText,
		Total: int(s.Nodes), Done: int(s.Updated), Failed: int(s.Failed), plan: p,
	}
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionProgressing); c != nil {
		out.Reason = c.Reason
	}
	out.Halted = meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionHalted)
	if out.Target == "" {
		out.Target = asked(&p.Spec)
	}
	if t := s.Target; t != nil {
		if t.OS != nil {
			out.Images = append(out.Images, pinned(t.OS.Image, t.OS.Digest))
		}
		if t.Kubernetes != nil && t.Kubernetes.Image != "" {
			out.Images = append(out.Images, pinned(t.Kubernetes.Image, t.Kubernetes.Digest))
		}
	}
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionResolved); c != nil && c.Reason == "Kept" {
		out.Notes = append(out.Notes, c.Message)
	}
	old := now.Sub(p.CreationTimestamp.Time) > patience
	switch {
	case s.Phase == "" && old:
		out.Notes = append(out.Notes, "no controller has looked at it yet: is it running? kubectl -n kedge-system get pods")
	case s.Phase != "" && s.ObservedGeneration < p.Generation:
		out.Notes = append(out.Notes, "the controller has not looked at the last change yet")
	}
	if p.DeletionTimestamp != nil {
		out.Notes = append(out.Notes, "it is being deleted")
	}
	return out
}

// asked says what a plan asks for, before that was looked up.
func asked(s *v1alpha1.PlanSpec) string {
	var parts []string
	if s.OS != nil {
		parts = append(parts, s.OS.Image)
	}
	if k := s.Kubernetes; k != nil {
		parts = append(parts, "kubernetes "+cmp.Or(k.Version, k.Image))
	}
	if c := s.Channel; c != nil {
		parts = append(parts, "channel "+cmp.Or(c.Track, "stable"))
	}
	return strings.Join(parts, ", ")
}

func pinned(image, digest string) string {
	if digest == "" || strings.Contains(image, "@") {
		return image
	}
	return image + "@" + digest
}

// paint makes the picture of one plan.
func paint(now time.Time, p *v1alpha1.Plan, all []*v1alpha1.Plan, upgrades []v1alpha1.NodeUpgrade, nodes []corev1.Node, events []corev1.Event) Picture {
	in := upgrade.Input{Now: now, Plans: all}
	byName := make(map[string]*v1alpha1.NodeUpgrade, len(upgrades))
	for i := range upgrades {
		in.NodeUpgrades = append(in.NodeUpgrades, &upgrades[i])
		byName[upgrades[i].Name] = &upgrades[i]
	}
	kubelets := make(map[string]string, len(nodes))
	for i := range nodes {
		if nodes[i].DeletionTimestamp == nil {
			n := upgrade.NodeOf(&nodes[i])
			in.Nodes = append(in.Nodes, n)
			kubelets[n.Name] = n.Kubelet
		}
	}
	out := Summary(now, p)
	v, ok := upgrade.Look(in, p.Name)
	if !ok {
		out.Events = eventsOf(events, p, nil)
		return out
	}
	failures := map[string]string{}
	for _, f := range p.Status.Failures {
		failures[f.Node] = f.Message
	}
	out.States = map[upgrade.NodeState]int{}
	for _, n := range v.Nodes {
		drawn := nodeOf(n, byName[n.Name], kubelets[n.Name])
		// Health checks of the cluster are known to the controller alone.
		if why, ok := failures[n.Name]; ok && n.State == upgrade.Done && current(p) {
			drawn.State, drawn.Why = upgrade.Failed, why
		}
		out.Nodes = append(out.Nodes, drawn)
		out.States[drawn.State]++
	}
	out.Available = &Available{v.Away, v.Budget}
	out.Steps = stepsOf(v)
	if len(p.Spec.Windows) > 0 {
		out.Window = windowOf(v)
	}
	out.Events = eventsOf(events, p, v.Nodes)
	return out
}

// current tells whether the status is about the spec that is there.
func current(p *v1alpha1.Plan) bool { return p.Status.ObservedGeneration >= p.Generation }

func nodeOf(n upgrade.NodeView, nu *v1alpha1.NodeUpgrade, kubelet string) Node {
	out := Node{Name: n.Name, State: n.State, Why: n.Why, Kubernetes: kubelet, Took: n.Took, Stays: n.Stays, KnownBad: n.KnownBad}
	if nu == nil {
		return out
	}
	s := &nu.Status
	if s.Running != nil && s.Running.OS != nil {
		out.OS = s.Running.OS.Version
	}
	if n.State == upgrade.Fetching {
		out.Downloaded = s.Downloaded
	}
	if s.Since != nil {
		out.Since = moment(s.Since.Time)
	}
	if n.State == upgrade.Backoff {
		out.Retry = moment(n.At)
	}
	if n.Took {
		out.GoesTo = releaseText(s.Previous)
	}
	return out
}

func releaseText(r *v1alpha1.Release) string {
	var parts []string
	if r != nil && r.OS != nil {
		parts = append(parts, "os "+cmp.Or(r.OS.Version, r.OS.Digest))
	}
	if r != nil && r.Kubernetes != nil {
		parts = append(parts, "kubernetes "+cmp.Or(r.Kubernetes.Version, r.Kubernetes.Digest))
	}
	return strings.Join(parts, ", ")
}

// moment is a time as the API has it; nil for none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Truncate(time.Second)
	return &t
}

func stepsOf(v upgrade.View) (out []Step) {
	for _, s := range v.Steps {
		step := Step{Nodes: s.To - s.From, Begun: s.Begun, Through: s.Through, Until: moment(s.Until)}
		if s.Soak > 0 {
			step.Soak = span(s.Soak)
		}
		out = append(out, step)
	}
	return out
}

func windowOf(v upgrade.View) *Window {
	w := &Window{Open: v.Open, Until: moment(v.Until), Next: moment(v.Next)}
	for _, t := range []time.Time{v.Until, v.Next} {
		if !t.IsZero() && w.Zone == "" {
			w.Zone = t.Location().String()
		}
	}
	return w
}

// eventsOf chooses the last events about a plan and its nodes.
func eventsOf(all []corev1.Event, p *v1alpha1.Plan, nodes []upgrade.NodeView) (out []Event) {
	mine := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		mine[n.Name] = true
	}
	for i := range all {
		e := &all[i]
		about := e.InvolvedObject
		switch {
		case about.Kind == "Plan" && about.Name == p.Name && (about.UID == "" || about.UID == p.UID):
		case about.Kind == "NodeUpgrade" && mine[about.Name]:
		default:
			continue
		}
		at := e.LastTimestamp.Time
		if at.IsZero() {
			at = cmp.Or(e.EventTime.Time, e.CreationTimestamp.Time)
		}
		out = append(out, Event{at.UTC().Truncate(time.Second), about.Name, e.Reason, e.Message, e.Count, e.Type == corev1.EventTypeWarning})
	}
	slices.SortStableFunc(out, func(a, b Event) int { return a.At.Compare(b.At) })
	return out[max(0, len(out)-lastEvents):]
}

// span says a duration in its two greatest units.
func span(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	type unit struct {
		d    time.Duration
		name string
	}
	units := []unit{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	for i, u := range units {
		if d < u.d {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.d, u.name)
		if i+1 < len(units) {
			if rest := d % u.d / units[i+1].d; rest > 0 {
				text += fmt.Sprintf("%d%s", rest, units[i+1].name)
			}
		}
		return text
	}
	return "0s"
}

// Outcome says how a plan stands in the end.
type Outcome int

const (
	Going   Outcome = iota // it goes on, or waits
	Reached                // it is complete, or was taken back as somebody asked
	Wrong                  // it halted, is invalid, or took itself back
)

// Outcome tells whether a plan came to an end, and to which.
func (p Picture) Outcome() Outcome {
	if !current(p.plan) {
		return Going
	}
	switch p.Phase {
	case v1alpha1.PlanComplete:
		return Reached
	case v1alpha1.PlanRolledBack:
		if p.plan.Spec.Rollback {
			return Reached
		}
		return Wrong
	case v1alpha1.PlanHalted, v1alpha1.PlanInvalid:
		return Wrong
	}
	return Going
}
