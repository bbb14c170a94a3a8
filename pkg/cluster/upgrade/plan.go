package upgrade

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// A plan is one that was read.
type plan struct {
	*v1alpha1.Plan
	invalid string // why it cannot be followed

	selector labels.Selector
	order    []labels.Selector
	windows  windows

	wantsOS, wantsKubernetes bool

	nodes  []*machine // that it selects, by name
	target *v1alpha1.Target
	note   string // why the target is not what was asked for last
	states []state
}

// open reads a plan.
func (c *cluster) open(p *v1alpha1.Plan) *plan {
	out := &plan{Plan: p}
	s := &p.Spec
	out.wantsOS = s.OS != nil || s.Channel != nil
	out.wantsKubernetes = s.Kubernetes != nil || s.Channel != nil
	var err error
	if out.selector, err = selectorOf(s.NodeSelector); err != nil {
		out.invalid = "nodeSelector: " + err.Error()
	}
	for i := range s.Order {
		sel, err := selectorOf(&s.Order[i])
		if err != nil {
			out.invalid = fmt.Sprintf("order[%d]: %v", i, err)
		}
		out.order = append(out.order, sel)
	}
	if out.windows, err = parseWindows(s.Windows); err != nil {
		out.invalid = err.Error()
	}
	amount := func(name string, v intstr.IntOrString) {
		if _, err := share(v, 100); err != nil {
			out.invalid = name + ": " + err.Error()
		}
	}
	if s.MaxUnavailable != nil {
		amount("maxUnavailable", *s.MaxUnavailable)
	}
	if s.MaxDownloads != nil {
		amount("maxDownloads", *s.MaxDownloads)
	}
	for i, step := range s.Steps {
		amount(fmt.Sprintf("steps[%d].max", i), step.Max)
	}
	if s.Failure != nil && s.Failure.HaltAfter != nil {
		amount("failure.haltAfter", *s.Failure.HaltAfter)
	}
	if !out.wantsOS && !out.wantsKubernetes {
		out.invalid = "it names no os, no kubernetes and no channel"
	}
	return out
}

func selectorOf(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

// share returns how many of n nodes a number or percentage means: rounded down,
// but at least 1.
func share(v intstr.IntOrString, n int) (int, error) {
	if v.Type == intstr.Int {
		if v.IntVal < 1 {
			return 1, fmt.Errorf("%d: it must be at least 1", v.IntVal)
		}
		return int(v.IntVal), nil
	}
	digits, ok := strings.CutSuffix(v.StrVal, "%")
	percent, err := strconv.Atoi(digits)
	if !ok || err != nil || percent < 1 || percent > 100 {
		return 1, fmt.Errorf("%q: a number, or 1%% to 100%%, is meant", v.StrVal)
	}
	return max(1, n*percent/100), nil
}

func (p *plan) selects(m *machine) bool {
	return m.Labels[v1alpha1.SkipLabel] != "true" && p.selector.Matches(labels.Set(m.Labels))
}

// is tells whether a goal is of this plan, and not of one of the same name that
// was deleted.
func (p *plan) is(r *v1alpha1.PlanRef) bool {
	return r != nil && r.Name == p.Name && r.UID == p.UID
}

// mine tells whether a node's goal is this plan's, to its present target.
func (p *plan) mine(m *machine) bool {
	return p.is(m.goal.Plan) && sameTarget(m.goal.Target, p.target)
}

// upgraded tells whether this plan told a node to restart into the target.
func (p *plan) upgraded(m *machine) bool {
	return p.mine(m) && m.goal.GrantedAt != nil && m.goal.State == v1alpha1.GoalActive
}

func (p *plan) retries() (n int32, backoff time.Duration) {
	backoff = 10 * time.Minute
	if f := p.Spec.Failure; f != nil {
		n = f.Retries
		if f.Backoff != nil {
			backoff = f.Backoff.Duration
		}
	}
	return n, backoff
}

func (p *plan) healthDeadline() time.Duration {
	if h := p.Spec.Health; h != nil && h.Deadline != nil {
		return h.Deadline.Duration
	}
	return 15 * time.Minute
}

func (p *plan) longestSoak() (d time.Duration) {
	for _, s := range p.Spec.Steps {
		d = max(d, s.Soak.Duration)
	}
	return d
}

// rank orders nodes: control plane, the leader of etcd last, then workers; each
// in the plan's groups.
func (p *plan) rank(c *cluster, m *machine) int {
	const last, workers = 1 << 10, 1 << 20
	group := len(p.order)
	for i, sel := range p.order {
		if sel.Matches(labels.Set(m.Labels)) {
			group = i
			break
		}
	}
	switch {
	case !m.ControlPlane:
		return workers + group
	case c.members[m.Name].Leader:
		return last
	}
	return group
}

// resolve finds what the plan means: what it was found to mean first, which its
// status or a goal still says, else what was looked up now. It returns why there
// is nothing.
func (c *cluster) resolve(p *plan) (why string) {
	r, found := c.in.Resolutions[p.Name]
	s := &p.Spec
	if s.Channel != nil {
		return c.follow(p, r, found)
	}
	means := func(t *v1alpha1.Target) bool {
		if t == nil || (t.OS != nil) != (s.OS != nil) || (t.Kubernetes != nil) != (s.Kubernetes != nil) {
			return false
		}
		if s.OS != nil && t.OS.Image != s.OS.Image {
			return false
		}
		k := s.Kubernetes
		return k == nil || (k.Version == "" || sameVersion(k.Version, t.Kubernetes.Version)) && k.Image == t.Kubernetes.Image
	}
	if means(p.Status.Target) {
		p.target = p.Status.Target
		return ""
	}
	for _, m := range c.machines {
		if p.is(m.goal.Plan) && means(m.goal.Target) {
			p.target = m.goal.Target
			return ""
		}
	}
	switch {
	case found && r.Err == "" && means(&r.Target):
		p.target = &r.Target
		return ""
	case s.OS == nil && s.Kubernetes.Image == "":
		p.target = &v1alpha1.Target{Kubernetes: &v1alpha1.KubernetesTarget{Version: s.Kubernetes.Version}}
		return ""
	case found && r.Err == "":
		return "what was looked up is not what the plan names"
	case found:
		return r.Err
	}
	return "not looked up yet"
}

// follow takes what a channel names, unless that goes back.
func (c *cluster) follow(p *plan, r Resolution, found bool) (why string) {
	p.target = p.Status.Target
	for _, m := range c.machines {
		if t := m.goal.Target; t != nil && p.is(m.goal.Plan) && (p.target == nil || t.Serial > p.target.Serial) {
			p.target = t
		}
	}
	switch {
	case !found:
		why = "not looked up yet"
	case r.Err != "":
		why = r.Err
	case p.target == nil:
		p.target = &r.Target
	case r.Target.Serial < p.target.Serial:
		why = fmt.Sprintf("the channel went back from serial %d to %d", p.target.Serial, r.Target.Serial)
	case goesBack(p.target, &r.Target):
		why = fmt.Sprintf("the channel went back from %s to %s", targetText(p.target), targetText(&r.Target))
	default:
		p.target = &r.Target
	}
	if p.target != nil {
		p.note, why = why, ""
	}
	return why
}

func goesBack(from, to *v1alpha1.Target) bool {
	return from.OS != nil && to.OS != nil && older(to.OS.Version, from.OS.Version) ||
		from.Kubernetes != nil && to.Kubernetes != nil && older(to.Kubernetes.Version, from.Kubernetes.Version)
}
