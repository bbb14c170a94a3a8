package upgrade

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// seen says a view in a line for each node and step.
func seen(v View) string {
	var b strings.Builder
	for _, n := range v.Nodes {
		fmt.Fprintf(&b, "%s %s", n.Name, n.State)
		if n.Took {
			b.WriteString(" took")
		}
		if n.KnownBad {
			b.WriteString(" bad")
		}
		if n.Stays != "" {
			b.WriteString(" stays: " + n.Stays)
		}
		if n.Why != "" {
			b.WriteString(": " + n.Why)
		}
		b.WriteString("\n")
	}
	for _, s := range v.Steps {
		fmt.Fprintf(&b, "step %d-%d: %d begun, %d through", s.From, s.To, s.Begun, s.Through)
		if !s.Until.IsZero() {
			fmt.Fprintf(&b, ", until %s", s.Until.Format("15:04"))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "away %d of %d\n", v.Away, v.Budget)
	if !v.Next.IsZero() {
		fmt.Fprintf(&b, "next %s\n", clock(v.Next))
	}
	if !v.Until.IsZero() {
		fmt.Fprintf(&b, "until %s\n", clock(v.Until))
	}
	return b.String()
}

func TestLook(t *testing.T) {
	for _, c := range []struct {
		name, nodes, want string
		spec              func(*planSpec)
	}{
		{"a rollout", "s1:done a:done=3h b:trial c:draining,says=waits_for_a_budget d:staged e:fetching f g:rolledback h:notready i:silent j:skip k:granted l:armed", `s1 done took
a done took
b on trial took
c draining: waits for a budget
d staged
e staging
f waiting
g failed bad: kubelet did not start
h not ready
i silent: its agent has not said anything yet
k told
l restarting
step 0-1: 1 begun, 1 through, until 10:00
step 1-6: 5 begun, 2 through
step 6-12: 1 begun, 0 through
away 5 of 10
`, canary},
		{"going back", "s1:done a:back b:wentback c:done,nothingbefore d:gaveup", `s1 done took
a going back took
b went back
c blocked took stays: it has nothing to go back to: it has nothing to go back to
d failed: it has not begun
away 1 of 1
`, func(p *planSpec) { p.Rollback = true }},
		{"a window to come", "a:staged", "a staged\naway 0 of 1\nnext Sat 22:00 Europe/Berlin\n", saturday("22:00", 3*time.Hour, "Europe/Berlin")},
		{"an open window", "a:staged", "a staged\naway 0 of 1\nnext Sat 11:00 Europe/Berlin\nuntil Sat 14:00 Europe/Berlin\n", saturday("11:00", 3*time.Hour, "Europe/Berlin")},
		{"a try to come", "a:rolledback=1m", "a tries again bad: kubelet did not start\naway 0 of 1\n", failing(2, 1)},
		{"a guard", "a:os=v3.0.0", "a blocked: it runs v3.0.0, and v2.0.0 is older; allowDowngrade takes it\naway 0 of 1\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet()
			f.plan("p", c.spec)
			f.nodes(c.nodes)
			v, ok := Look(f.Input, "p")
			if got := seen(v); !ok || got != c.want {
				t.Errorf("Look = %v\n%swant\n%s", ok, got, c.want)
			}
		})
	}
}

func TestLookSeesNothing(t *testing.T) {
	f := newFleet()
	f.plan("p")
	if _, ok := Look(f.Input, "p"); ok {
		t.Error("a plan without nodes is seen")
	}
	f.nodes("a")
	if _, ok := Look(f.Input, "q"); ok {
		t.Error("a plan that is not there is seen")
	}
	f.Resolutions = nil
	if _, ok := Look(f.Input, "p"); ok {
		t.Error("a plan is seen whose release is not known")
	}
}

// TestLookAgrees compares what is seen with what Decide says, once nothing is to
// be written any more. A look has neither resolutions nor checks nor members.
func TestLookAgrees(t *testing.T) {
	compared := 0
	for _, r := range rows {
		f := newFleet()
		f.plan("p", r.spec)
		f.nodes(r.nodes)
		if r.more != nil {
			r.more(f)
		}
		var d Decision
		for range 3 {
			d = Decide(f.Input)
			for _, p := range f.Plans {
				p.Status = d.Statuses[p.Name]
			}
			for _, g := range d.Goals {
				for _, nu := range f.NodeUpgrades {
					if nu.Name == g.Node {
						nu.Spec, nu.Generation = g.Spec, nu.Generation+1
					}
				}
			}
		}
		if len(d.Goals) > 0 {
			continue
		}
		bare := Input{Now: f.Now, Plans: f.Plans, Nodes: f.Nodes, NodeUpgrades: f.NodeUpgrades}
		copied := make([]v1alpha1.NodeUpgrade, len(f.NodeUpgrades))
		for i, nu := range f.NodeUpgrades {
			nu.DeepCopyInto(&copied[i])
		}
		v, ok := Look(bare, "p")
		for i, nu := range f.NodeUpgrades {
			if !reflect.DeepEqual(*nu, copied[i]) {
				t.Errorf("%s: Look changed node %s", r.name, nu.Name)
			}
		}
		if !ok {
			continue
		}
		compared++
		n := map[NodeState]int32{}
		for _, node := range v.Nodes {
			n[node.State]++
		}
		s := f.Plans[0].Status
		if s.Nodes != int32(len(v.Nodes)) || s.Staged != n[Staged] || s.RolledBack != n[WentBack] || s.Failed < n[Failed] || s.Unavailable != int32(v.Away) || s.Updated < n[Done] {
			t.Errorf("%s: seen\n%sbut decided %+v", r.name, seen(v), s)
		}
	}
	if compared < 100 {
		t.Errorf("only %d rows were compared", compared)
	}
}

func TestValidate(t *testing.T) {
	f := newFleet()
	if err := Validate(f.plan("p", canary)); err != nil {
		t.Errorf("Validate = %v", err)
	}
	if err := Validate(f.plan("q", saturday("25:00", time.Hour, ""))); err == nil || !strings.Contains(err.Error(), "windows[0]") {
		t.Errorf("Validate = %v", err)
	}
}
