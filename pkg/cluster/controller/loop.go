package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// Kinds of what is written, as metrics and messages name them.
const (
	planKind = "Plan"
	nodeKind = "NodeUpgrade"
)

// unseenFor is how long a write may stay unseen before the cluster is asked
// whether its object is there at all.
const unseenFor = 5 * time.Second

// goalsAtOnce is how many nodes are told something before the next look: what
// happens meanwhile in a large cluster may be more urgent than their downloads.
const goalsAtOnce = 200

// A teller passes events on.
type teller interface {
	Event(about runtime.Object, kind, reason, message string)
}

// A loop decides, again and again.
type loop struct {
	caches  *caches
	facts   *facts
	events  teller
	metrics *metrics
	now     func() time.Time
	pace    time.Duration // between two decisions, at least
	telling time.Duration // between two statuses of a plan that differ in words and numbers only
	kicked  chan struct{}

	heap   heap
	unseen []write
	told   map[types.UID]time.Time // when the status of a plan was written last

	lock  sync.Mutex
	since time.Time // of the first change that no decision has seen; zero for none
}

// kick wakes the loop.
func (l *loop) kick() {
	l.lock.Lock()
	if l.since.IsZero() {
		l.since = time.Now()
	}
	l.lock.Unlock()
	select {
	case l.kicked <- struct{}{}:
	default:
	}
}

// run decides until the end of ctx.
func (l *loop) run(ctx context.Context) {
	wait := l.pace
	l.kick()
	var again time.Duration
	for {
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-l.kicked:
		case <-timer.C:
		}
		timer.Stop()
		var err error
		l.metrics.begin()
		again, err = l.once(ctx)
		l.metrics.end(err)
		if err != nil && ctx.Err() == nil {
			logrus.WithError(err).Warn("upgrade: decide again")
			wait = min(2*wait, time.Minute)
			again = wait
		} else {
			wait = l.pace
		}
		// Much that happens at once is one decision.
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// once looks, decides and writes. It returns when to decide again if nothing
// changes.
func (l *loop) once(ctx context.Context) (time.Duration, error) {
	if seen, err := l.sawOwn(); !seen || err != nil {
		return time.Second, err
	}
	since := l.changedSince()
	view, err := l.caches.view()
	if err != nil {
		return 0, err
	}
	l.heap.fit(len(view.nodes))
	if made, err := l.create(ctx, view); made || err != nil {
		return time.Second, err
	}
	in := view.input(l.now())
	if !l.facts.fill(&in) {
		return time.Minute, nil // they wake us
	}
	changed := l.caches.lastChange()
	began := time.Now()
	d := upgrade.Decide(in)
	l.metrics.decided(in, d, time.Since(began))
	if !since.IsZero() {
		l.metrics.wait.Observe(time.Since(since).Seconds())
	}
	again := time.Hour
	if !d.Again.IsZero() {
		again = min(again, max(0, d.Again.Sub(in.Now)))
	}
	waiting := l.unchecked(&d, view.plans, changed)
	if next := l.later(&d, view.plans); !next.IsZero() {
		again = min(again, max(0, time.Until(next)))
	}
	all := len(d.Goals)
	d.Goals = urgent(d.Goals)
	if err := l.write(ctx, view, d); err != nil {
		return 0, err
	}
	if len(d.Goals) < all {
		return 0, nil
	}
	if waiting {
		again = min(again, time.Second)
	}
	return again, nil
}

// changedSince is when the first change came that no decision has seen. What
// comes from now on is for the next one.
func (l *loop) changedSince() time.Time {
	l.lock.Lock()
	defer l.lock.Unlock()
	since := l.since
	l.since = time.Time{}
	return since
}

// urgent are the goals that are written now: who is called back or goes back
// before who may leave, and those before who is to download.
func urgent(goals []upgrade.Goal) []upgrade.Goal {
	rank := func(g upgrade.Goal) int {
		switch g.Spec.State {
		case v1alpha1.GoalActive:
			return 1
		case v1alpha1.GoalStaged:
			if g.Spec.GaveUp == nil && g.Spec.GrantedAt == nil {
				return 2
			}
		}
		return 0
	}
	slices.SortStableFunc(goals, func(a, b upgrade.Goal) int { return rank(a) - rank(b) })
	return goals[:min(len(goals), goalsAtOnce)]
}

// sawOwn tells whether the caches have seen all that was written.
func (l *loop) sawOwn() (bool, error) {
	var left []write
	for _, w := range l.unseen {
		if l.caches.sees(w) {
			continue
		}
		if time.Since(w.at) > unseenFor {
			gone, err := l.caches.gone(w)
			if err != nil {
				return false, err
			}
			if gone {
				continue
			}
		}
		left = append(left, w)
	}
	l.unseen = left
	return len(left) == 0, nil
}

func (l *loop) wrote(kind string, o metav1.Object) {
	l.unseen = slices.DeleteFunc(l.unseen, func(w write) bool { return w.kind == kind && w.name == o.GetName() })
	l.unseen = append(l.unseen, write{kind, o.GetName(), o.GetResourceVersion(), time.Now()})
}

// create gives every node its NodeUpgrade, which the node may not make itself.
// It goes when the node goes.
func (l *loop) create(ctx context.Context, v view) (made bool, err error) {
	var all []error
	for _, n := range v.nodes {
		if v.upgrades[n.Name] != nil || n.DeletionTimestamp != nil {
			continue
		}
		if ctx.Err() != nil {
			return made, ctx.Err()
		}
		nu := &v1alpha1.NodeUpgrade{ObjectMeta: metav1.ObjectMeta{
			Name:            n.Name,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}},
		}}
		nu, err := l.caches.upgrades.Create(nu)
		l.metrics.wrote("create", err)
		if err != nil {
			all = append(all, fmt.Errorf("create NodeUpgrade %s: %w", n.Name, err))
			continue
		}
		l.wrote(nodeKind, nu)
		made = true
	}
	return made, errors.Join(all...)
}

// unchecked takes the leaves out of a decision that it gives on checks which
// were last looked at before the last change.
func (l *loop) unchecked(d *upgrade.Decision, plans []*v1alpha1.Plan, changed time.Time) (waiting bool) {
	leave := func(g upgrade.Goal) bool { return g.Spec.State == v1alpha1.GoalActive && g.Spec.GrantedAt != nil }
	for _, p := range plans {
		of := func(g upgrade.Goal) bool { return g.Plan == p.Name && leave(g) }
		if !slices.ContainsFunc(d.Goals, of) || l.facts.fresh(p.UID, changed) {
			continue
		}
		waiting = true
		delete(d.Statuses, p.Name)
		d.Goals = slices.DeleteFunc(d.Goals, of)
	}
	return waiting
}

// later takes the statuses out of a decision that only say in other words and
// numbers what a status said a moment ago: in a rollout they change each second.
// It returns when the first of them is due; zero for none.
func (l *loop) later(d *upgrade.Decision, plans []*v1alpha1.Plan) (next time.Time) {
	told := map[types.UID]time.Time{} // without plans that are gone
	for _, p := range plans {
		at, ok := l.told[p.UID]
		if !ok {
			continue
		}
		told[p.UID] = at
		status, ok := d.Statuses[p.Name]
		if !ok || equality.Semantic.DeepEqual(p.Status, status) || !equality.Semantic.DeepEqual(outline(p.Status), outline(status)) {
			continue
		}
		if due := at.Add(l.telling); time.Now().Before(due) {
			delete(d.Statuses, p.Name)
			if next.IsZero() || due.Before(next) {
				next = due
			}
		}
	}
	l.told = told
	return next
}

// outline is a status without words, without the numbers of nodes that change
// from one moment to the next, and without what a plan under way waits for just now.
func outline(s v1alpha1.PlanStatus) v1alpha1.PlanStatus {
	s.Message, s.Progress, s.NextWindow = "", "", ""
	s.Nodes, s.Staged, s.Updating, s.Updated, s.Unavailable = 0, 0, 0, 0, 0
	s.Conditions = slices.Clone(s.Conditions)
	switch s.Phase {
	case v1alpha1.PlanStaging, v1alpha1.PlanRolling, v1alpha1.PlanWaiting:
		s.Phase = v1alpha1.PlanRolling
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionProgressing)
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.Message, c.Reason, c.LastTransitionTime = "", "", metav1.Time{}
	}
	return s
}

// write writes a decision. The statuses come first: they say which release a tag
// was found to be, before a node is told of it.
func (l *loop) write(ctx context.Context, v view, d upgrade.Decision) error {
	var all []error
	unwritten := map[string]bool{}
	for _, p := range v.plans {
		status, ok := d.Statuses[p.Name]
		if !ok || equality.Semantic.DeepEqual(p.Status, status) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := l.writeStatus(p, status); err != nil {
			all = append(all, err)
			unwritten[p.Name] = true
		}
	}
	for _, g := range d.Goals {
		if unwritten[g.Plan] {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// One node that cannot be told is no reason not to tell the others: Decide
		// holds for a decision that was written in part.
		if err := l.writeGoal(v, g); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// A change is one operation of RFC 6902.
type change struct {
	Operation string `json:"op"`
	Path      string `json:"path"`
	Value     any    `json:"value"`
}

func (l *loop) writeStatus(p *v1alpha1.Plan, status v1alpha1.PlanStatus) error {
	patch, err := json.Marshal([]change{{"test", "/metadata/uid", p.UID}, {"add", "/status", status}})
	if err != nil {
		return err
	}
	written, err := l.caches.plans.Patch(p.Name, types.JSONPatchType, patch, "status")
	l.metrics.wrote("status", err)
	if err != nil {
		return fmt.Errorf("write status of plan %s: %w", p.Name, err)
	}
	l.wrote(planKind, written)
	l.told[p.UID] = time.Now()
	if p.Status.Phase != status.Phase {
		kind := corev1.EventTypeNormal
		switch status.Phase {
		case v1alpha1.PlanHalted, v1alpha1.PlanInvalid, v1alpha1.PlanRolledBack, v1alpha1.PlanRollingBack:
			kind = corev1.EventTypeWarning
		}
		logrus.WithFields(logrus.Fields{"plan": p.Name, "phase": status.Phase}).Info("upgrade: " + status.Message)
		l.events.Event(written, kind, string(status.Phase), status.Message)
	}
	return nil
}

func (l *loop) writeGoal(v view, g upgrade.Goal) error {
	nu := v.upgrades[g.Node]
	if nu == nil {
		return nil // it is being made
	}
	patch, err := json.Marshal([]change{
		{"test", "/metadata/uid", nu.UID}, {"test", "/metadata/generation", nu.Generation}, {"add", "/spec", g.Spec},
	})
	if err != nil {
		return err
	}
	written, err := l.caches.upgrades.Patch(g.Node, types.JSONPatchType, patch)
	l.metrics.wrote("goal", err)
	if err != nil {
		return fmt.Errorf("write goal of node %s: %w", g.Node, err)
	}
	l.wrote(nodeKind, written)
	kind := corev1.EventTypeNormal
	if g.Reason == "GaveUp" || g.Reason == "RollBack" {
		kind = corev1.EventTypeWarning
	}
	logrus.WithFields(logrus.Fields{"node": g.Node, "plan": g.Plan, "goal": g.Spec.State}).Info("upgrade: " + g.Reason + ": " + g.Message)
	l.events.Event(written, kind, g.Reason, g.Message)
	return nil
}

// isGone tells an object that is not there from other errors.
func isGone(err error) (bool, error) {
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}
