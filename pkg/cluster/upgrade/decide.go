package upgrade

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// Decide says what every node is to do and how every plan stands.
func Decide(in Input) Decision {
	c, plans := open(in)
	d := Decision{Statuses: make(map[string]v1alpha1.PlanStatus, len(plans))}
	for _, p := range plans {
		d.Statuses[p.Name] = c.decide(p)
	}
	for _, m := range c.machines {
		if m.changed {
			g := Goal{Node: m.Name, Spec: m.goal, Reason: m.reason, Message: m.message}
			if m.goal.Plan != nil {
				g.Plan = m.goal.Plan.Name
			}
			d.Goals = append(d.Goals, g)
		}
	}
	d.Again = c.again
	return d
}

// open reads the plans and gives them their nodes. They come in the order of
// their age: the older one wins wherever two want the same.
func open(in Input) (*cluster, []*plan) {
	c := newCluster(in)
	plans := make([]*plan, 0, len(in.Plans))
	for _, p := range in.Plans {
		if p.DeletionTimestamp == nil {
			plans = append(plans, c.open(p))
		}
	}
	slices.SortFunc(plans, func(a, b *plan) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	unread := map[types.UID]bool{}
	for _, p := range plans {
		c.claim(p)
		unread[p.UID] = p.invalid != ""
	}
	c.release(unread)
	return c, plans
}

// A cluster is what all plans share within one decision.
type cluster struct {
	now      time.Time
	in       Input
	machines []*machine // by name
	again    time.Time

	controlPlane []*machine
	voters       int
	members      map[string]Member
	// Minor versions of Kubernetes; -1 where none is known.
	oldestServer, newestServer, oldestKubelet int
}

func newCluster(in Input) *cluster {
	c := &cluster{now: in.Now, in: in, members: map[string]Member{}, oldestServer: -1, newestServer: -1, oldestKubelet: -1}
	upgrades := make(map[string]*v1alpha1.NodeUpgrade, len(in.NodeUpgrades))
	for _, nu := range in.NodeUpgrades {
		if nu.DeletionTimestamp == nil {
			upgrades[nu.Name] = nu
		}
	}
	all := make([]machine, len(in.Nodes))
	c.machines = make([]*machine, len(in.Nodes))
	for i, n := range in.Nodes {
		m := &all[i]
		m.Node = n
		if nu := upgrades[n.Name]; nu != nil {
			m.nu, m.goal, m.say = nu, nu.Spec, nu.Status
		}
		m.onWay = m.isOnWay()
		c.machines[i] = m
	}
	slices.SortFunc(c.machines, func(a, b *machine) int { return strings.Compare(a.Name, b.Name) })
	lower := func(old *int, v int) {
		if v >= 0 && (*old < 0 || v < *old) {
			*old = v
		}
	}
	for _, m := range c.machines {
		v := minor(m.Kubelet)
		lower(&c.oldestKubelet, v)
		if m.ControlPlane {
			c.controlPlane = append(c.controlPlane, m)
			lower(&c.oldestServer, v)
			c.newestServer = max(c.newestServer, v)
		}
	}
	for _, e := range in.Etcd {
		c.members[e.Node] = e
		if e.Voter {
			c.voters++
		}
	}
	return c
}

// wake asks for another decision at a time, if that is still to come.
func (c *cluster) wake(t time.Time) {
	if t.After(c.now) && (c.again.IsZero() || t.Before(c.again)) {
		c.again = t
	}
}

// claim gives a plan the nodes that no older plan decides over.
func (c *cluster) claim(p *plan) {
	if p.invalid != "" {
		return
	}
	for _, m := range c.machines {
		if !p.selects(m) {
			continue
		}
		p.nodes = append(p.nodes, m)
		if p.wantsOS && m.osPlan == nil {
			m.osPlan = p
		}
		if p.wantsKubernetes && m.kubernetesPlan == nil {
			m.kubernetesPlan = p
		}
	}
}

// rival returns the older plan that decides over what this plan wants of a node.
func (p *plan) rival(m *machine) *plan {
	if p.wantsOS && m.osPlan != p {
		return m.osPlan
	}
	if p.wantsKubernetes && m.kubernetesPlan != p {
		return m.kubernetesPlan
	}
	return nil
}

// release calls nodes back whose plan is gone, or no longer wants them. A plan
// that cannot be read keeps its nodes until it can.
func (c *cluster) release(unread map[types.UID]bool) {
	for _, m := range c.machines {
		if m.goal.State == v1alpha1.GoalNone || m.goal.Plan == nil || unread[m.goal.Plan.UID] {
			continue
		}
		of := m.goal.Plan
		if p := m.osPlan; p != nil && p.is(of) && p.rival(m) == nil {
			continue
		}
		if p := m.kubernetesPlan; p != nil && p.is(of) && p.rival(m) == nil {
			continue
		}
		if m.committedToRestart() {
			continue // it comes to its end
		}
		goal := v1alpha1.NodeUpgradeSpec{}
		if m.onWay {
			goal.GrantedAt = m.goal.GrantedAt // until it has heard
		}
		m.set(goal, "Released", "plan %s does not want it any more", of.Name)
	}
}

// othersAway returns a control-plane node that is not there, other than m.
func (c *cluster) othersAway(m *machine) *machine {
	for _, o := range c.controlPlane {
		if o != m && (o.onWay || !o.Ready) {
			return o
		}
	}
	return nil
}
