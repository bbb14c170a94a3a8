package plans

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// Errors of changes that callers tell apart.
var (
	ErrHalted    = errors.New("the plan is not paused, it halted")
	ErrNoFailure = errors.New("no node of the plan failed")
	ErrKnownBad  = errors.New("the release is known to be bad")
	ErrNotTaken  = errors.New("no node took the release by this plan")
)

// A Change is what is to be changed in the spec of a plan.
type Change struct {
	Spec map[string]any // a merge patch; nil changes nothing
	Say  []string       // what the change does, for people
}

// Pause lets nothing new begin.
func Pause(p Picture) (Change, error) {
	if p.plan.Spec.Paused {
		return Change{Say: []string{p.Name + ": it is paused already"}}, nil
	}
	c := Change{map[string]any{"paused": true}, []string{p.Name + ": paused, nothing new begins"}}
	if names := p.in(upgrade.Restarting, upgrade.Trial); len(names) > 0 {
		c.Say = append(c.Say, some(names)+": cannot be called back, and will come to an end")
	}
	if names := p.in(upgrade.Draining, upgrade.Told); len(names) > 0 {
		c.Say = append(c.Say, some(names)+": called back")
	}
	return c, nil
}

// Resume goes on with a paused plan. The error wraps ErrHalted for one that
// stands still for another cause.
func Resume(p Picture) (Change, error) {
	switch {
	case p.plan.Spec.Paused:
		c := Change{map[string]any{"paused": false}, []string{p.Name + ": goes on"}}
		switch {
		case p.Halted:
			c.Say = []string{p.Name + ": paused no more; it halted before: " + p.Message}
		case p.Window != nil && !p.Window.Open && p.Window.Next != nil:
			c.Say = append(c.Say, "nodes download, and restart when the window opens: "+windowText(p.Window, p.At, p.At.Location()))
		}
		return c, nil
	case p.Outcome() == Wrong && p.Halted:
		return Change{}, fmt.Errorf("resume %s: %w: %s", p.Name, ErrHalted, p.Message)
	}
	return Change{Say: []string{p.Name + ": it is not paused"}}, nil
}

// Retry gives the nodes that failed another chance. A release that a node
// remembers as bad is tried again only if bad allows it; else the error wraps
// ErrKnownBad.
func Retry(p Picture, bad bool) (Change, error) {
	failed := p.in(upgrade.Failed, upgrade.Backoff)
	if len(failed) == 0 {
		return Change{}, fmt.Errorf("retry %s: %w", p.Name, ErrNoFailure)
	}
	var known []string
	runs := true
	for _, n := range p.Nodes {
		if !slices.Contains(failed, n.Name) {
			continue
		}
		runs = runs && n.Took
		if n.KnownBad {
			known = append(known, n.Name+" ("+n.Why+")")
		}
	}
	switch {
	case runs:
		return Change{}, fmt.Errorf("retry %s: %w: %s: runs the release; what failed is its health, or a check, and that must become well by itself", p.Name, ErrNoFailure, some(failed))
	case len(known) > 0 && !bad:
		return Change{}, fmt.Errorf("retry %s: %w on %s", p.Name, ErrKnownBad, some(known))
	}
	c := Change{map[string]any{"retry": p.plan.Spec.Retry + 1}, []string{p.Name + ": " + some(failed) + " will try " + p.Target + " again"}}
	if p.plan.Spec.Paused {
		c.Say = append(c.Say, "the plan is paused: nothing begins before it is resumed")
	}
	return c, nil
}

// Rollback takes the nodes that the plan upgraded back to what they ran before.
// Its words are said before it is done. The error wraps ErrNotTaken if there is
// none.
func Rollback(p Picture) (Change, error) {
	if p.plan.Spec.Rollback {
		return Change{Say: []string{p.Name + ": its nodes go back already"}}, nil
	}
	c := Change{Spec: map[string]any{"rollback": true}}
	to := map[string][]string{}
	stays := 0
	moving := p.in(upgrade.Draining, upgrade.Told, upgrade.Restarting, upgrade.Trial)
	for _, n := range p.Nodes {
		switch {
		case slices.Contains(moving, n.Name):
		case n.Took && n.Stays == "":
			to[n.GoesTo] = append(to[n.GoesTo], n.Name)
		case n.Took:
			stays++
			if stays <= named {
				c.Say = append(c.Say, fmt.Sprintf("%s stays: %s", n.Name, n.Stays))
			}
		}
	}
	if stays > named {
		c.Say = append(c.Say, fmt.Sprintf("%d more stay", stays-named))
	}
	if len(to) == 0 && stays == 0 && len(moving) == 0 {
		return Change{}, fmt.Errorf("roll back %s: %w", p.Name, ErrNotTaken)
	}
	var back []string
	for version, names := range to {
		back = append(back, fmt.Sprintf("%s leaves %s for %s", some(names), p.Target, orElse(version, "what ran before")))
	}
	slices.Sort(back)
	c.Say = append(back, c.Say...)
	if len(moving) > 0 {
		c.Say = append(c.Say, some(moving)+": under way; what can be called back stops, the rest comes to its end and goes back then")
	}
	c.Say = append(c.Say, "They go like an upgrade: workers first, drained, never more away than the plan allows"+inWindow(p)+".")
	if p.plan.Spec.Paused {
		c.Say = append(c.Say, "The plan is paused: they go when it is resumed.")
	}
	return c, nil
}

func inWindow(p Picture) string {
	if p.Window == nil {
		return ""
	}
	return ", in its windows"
}

// Forward ends a rollback: nodes that went back are upgraded again.
func Forward(p Picture) (Change, error) {
	if !p.plan.Spec.Rollback {
		return Change{Say: []string{p.Name + ": its nodes do not go back"}}, nil
	}
	return Change{map[string]any{"rollback": false}, []string{p.Name + ": its nodes take " + p.Target + " again"}}, nil
}

// named bounds how many nodes a message names.
const named = 5

// in returns the nodes that are in one of some states.
func (p Picture) in(states ...upgrade.NodeState) (names []string) {
	for _, n := range p.Nodes {
		if slices.Contains(states, n.State) {
			names = append(names, n.Name)
		}
	}
	return names
}

func some(names []string) string {
	if len(names) <= named {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:named], ", "), len(names)-named)
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// keepers say who keeps a plan as it stands in Git, and would undo a change.
var keepers = []struct{ mark, name string }{
	{"argocd.argoproj.io/tracking-id", "Argo CD"},
	{"argocd.argoproj.io/instance", "Argo CD"},
	{"objectset.rio.cattle.io/id", "Fleet"},
	{"kustomize.toolkit.fluxcd.io/name", "Flux"},
	{"helm.toolkit.fluxcd.io/name", "Flux"},
}

// Keeper names the program that keeps a plan as it stands in Git, "" for none.
func (p Picture) Keeper() string {
	for _, k := range keepers {
		if p.plan.Labels[k.mark] != "" || p.plan.Annotations[k.mark] != "" {
			return k.name
		}
	}
	return ""
}
