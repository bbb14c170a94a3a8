package plans

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// told says a change, or the error in its place.
func told(c Change, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	patch := "nothing"
	if c.Spec != nil {
		j, _ := json.Marshal(c.Spec)
		patch = string(j)
	}
	return patch + "\n" + strings.Join(c.Say, "\n")
}

func TestChange(t *testing.T) {
	retry := func(bad bool) func(Picture) (Change, error) {
		return func(p Picture) (Change, error) { return Retry(p, bad) }
	}
	paused := func(p *v1alpha1.Plan) { p.Spec.Paused = true }
	back := func(p *v1alpha1.Plan) { p.Spec.Rollback = true }
	other := func(p *v1alpha1.Plan) { p.Spec.NodeSelector = labelled("none") }
	for _, c := range []struct {
		name   string
		edit   func(*v1alpha1.Plan)
		change func(Picture) (Change, error)
		want   string
	}{
		{"pause", nil, Pause, `{"paused":true}
fleet: paused, nothing new begins
edge-3: cannot be called back, and will come to an end
edge-2: called back`},
		{"pause again", paused, Pause, "nothing\nfleet: it is paused already"},
		{"resume", paused, Resume, `{"paused":false}
fleet: goes on`},
		{"resume before the window", func(p *v1alpha1.Plan) { p.Spec.Paused, p.Spec.Windows[0].Start = true, "22:00" }, Resume, `{"paused":false}
fleet: goes on
nodes download, and restart when the window opens: opens Sat 21 Nov 22:00 Europe/Berlin (here Sat 21 Nov 21:00), in 9h`},
		{"resume what is not paused", nil, Resume, "nothing\nfleet: it is not paused"},
		{"resume what halted", halt, Resume, "error: resume fleet: the plan is not paused, it halted: halted: 1 of 1 allowed failures: edge-1: not healthy within 15m0s: the node is not Ready"},
		{"resume what halted and was paused", func(p *v1alpha1.Plan) { halt(p); paused(p) }, Resume, `{"paused":false}
fleet: paused no more; it halted before: halted: 1 of 1 allowed failures: edge-1: not healthy within 15m0s: the node is not Ready`},
		{"retry of what is known to be bad", halt, retry(false), "error: retry fleet: the release is known to be bad on edge-1 (not healthy within 15m0s: the node is not Ready)"},
		{"retry all the same", halt, retry(true), `{"retry":1}
fleet: edge-1 will try os v1.4.0 again`},
		{"retry before its time", paused, retry(true), `{"retry":1}
fleet: edge-1 will try os v1.4.0 again
the plan is paused: nothing begins before it is resumed`},
		{"retry of a health check", func(p *v1alpha1.Plan) {
			p.Spec.NodeSelector = labelled("node-role.kubernetes.io/control-plane")
			p.Status.Failures = []v1alpha1.NodeFailure{{Node: "server-1", Message: "health check web"}}
		}, retry(true), "error: retry fleet: no node of the plan failed: server-1: runs the release; what failed is its health, or a check, and that must become well by itself"},
		{"retry without a failure", func(p *v1alpha1.Plan) { p.Spec.NodeSelector = labelled("node-role.kubernetes.io/control-plane") }, retry(true), "error: retry fleet: no node of the plan failed"},
		{"rollback", nil, Rollback, `{"rollback":true}
server-1 leaves os v1.4.0 for os v1.3.0, kubernetes v1.36.3
edge-2, edge-3: under way; what can be called back stops, the rest comes to its end and goes back then
They go like an upgrade: workers first, drained, never more away than the plan allows, in its windows.`},
		{"rollback with a node that stays", func(p *v1alpha1.Plan) { p.Spec.NodeSelector = labelled("stays") }, func(p Picture) (Change, error) {
			p.Nodes = []Node{{Name: "a", Took: true, Stays: "it has nothing to go back to", State: upgrade.Done}}
			return Rollback(p)
		}, `{"rollback":true}
a stays: it has nothing to go back to
They go like an upgrade: workers first, drained, never more away than the plan allows.`},
		{"rollback of a paused plan", func(p *v1alpha1.Plan) {
			p.Spec.NodeSelector, p.Spec.Paused, p.Spec.Windows = labelled("node-role.kubernetes.io/control-plane"), true, nil
		}, Rollback, `{"rollback":true}
server-1 leaves os v1.4.0 for os v1.3.0, kubernetes v1.36.3
They go like an upgrade: workers first, drained, never more away than the plan allows.
The plan is paused: they go when it is resumed.`},
		{"rollback again", back, Rollback, "nothing\nfleet: its nodes go back already"},
		{"rollback of nothing", other, Rollback, "error: roll back fleet: no node took the release by this plan"},
		{"forward", back, Forward, `{"rollback":false}
fleet: its nodes take os v1.4.0 again`},
		{"forward again", nil, Forward, "nothing\nfleet: its nodes do not go back"},
	} {
		if c.edit == nil {
			c.edit = func(*v1alpha1.Plan) {}
		}
		if got := told(c.change(edited(t, c.edit).picture())); got != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
		}
	}
	again := edited(t, halt)
	again.plans[0].Spec.Retry, again.upgrades[1].Spec.Retry = 4, 4
	if c, err := Retry(again.picture(), true); err != nil || c.Spec["retry"] != int64(5) {
		t.Errorf("Retry = %v, %v", c, err)
	}
	if _, err := Retry(edited(t, halt).picture(), false); !errors.Is(err, ErrKnownBad) {
		t.Errorf("Retry = %v", err)
	}
}

func TestKeeper(t *testing.T) {
	p := read(t, "fleet.yaml").picture()
	if got := p.Keeper(); got != "" {
		t.Errorf("keeper %q", got)
	}
	p.plan.Annotations = map[string]string{"argocd.argoproj.io/tracking-id": "x"}
	if got := p.Keeper(); got != "Argo CD" {
		t.Errorf("keeper %q", got)
	}
}
