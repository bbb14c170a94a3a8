package controller

import (
	"context"
	"reflect"
	"sync"
	"time"

	lasso "github.com/rancher/lasso/pkg/controller"
	"github.com/rancher/wrangler/v3/pkg/generic"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/rest"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// caches hold the objects that decisions are about, as the cluster last told.
type caches struct {
	plans    generic.NonNamespacedControllerInterface[*v1alpha1.Plan, *v1alpha1.PlanList]
	upgrades generic.NonNamespacedControllerInterface[*v1alpha1.NodeUpgrade, *v1alpha1.NodeUpgradeList]
	nodes    generic.NonNamespacedControllerInterface[*corev1.Node, *corev1.NodeList]

	lock    sync.Mutex
	seen    map[string]upgrade.Node       // of each node, what a decision sees of it
	phases  map[string]v1alpha1.NodePhase // of each NodeUpgrade
	changed time.Time                     // when a node last came to its end, or was lost
}

func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// openCaches begins to follow the cluster, and returns when it is known. Kick is
// called whenever a decision may be another.
func openCaches(ctx context.Context, config *rest.Config, scheme *runtime.Scheme, kick func()) (*caches, error) {
	factory, err := lasso.NewSharedControllerFactoryFromConfigWithOptions(config, scheme, nil)
	if err != nil {
		return nil, err
	}
	own := v1alpha1.GroupVersion
	c := &caches{
		plans:    generic.NewNonNamespacedController[*v1alpha1.Plan, *v1alpha1.PlanList](own.WithKind("Plan"), "plans", factory),
		upgrades: generic.NewNonNamespacedController[*v1alpha1.NodeUpgrade, *v1alpha1.NodeUpgradeList](own.WithKind("NodeUpgrade"), "nodeupgrades", factory),
		nodes:    generic.NewNonNamespacedController[*corev1.Node, *corev1.NodeList](corev1.SchemeGroupVersion.WithKind("Node"), "nodes", factory),
		seen:     map[string]upgrade.Node{}, phases: map[string]v1alpha1.NodePhase{}, changed: time.Now(),
	}
	for _, i := range []generic.ControllerMeta{c.plans, c.upgrades, c.nodes} {
		if err := i.Informer().SetTransform(slim); err != nil {
			return nil, err
		}
	}
	const name = "upgrade-controller"
	c.plans.OnChange(ctx, name, func(_ string, p *v1alpha1.Plan) (*v1alpha1.Plan, error) {
		kick()
		return p, nil
	})
	c.upgrades.OnChange(ctx, name, func(key string, nu *v1alpha1.NodeUpgrade) (*v1alpha1.NodeUpgrade, error) {
		c.sawUpgrade(key, nu)
		kick()
		return nu, nil
	})
	c.nodes.OnChange(ctx, name, func(key string, n *corev1.Node) (*corev1.Node, error) {
		if c.sawNode(key, n) {
			kick()
		}
		return n, nil
	})
	return c, factory.Start(ctx, 1)
}

// slim drops what no decision needs, for the sake of memory.
func slim(o any) (any, error) {
	if m, ok := o.(metav1.Object); ok {
		m.SetManagedFields(nil)
	}
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	info := corev1.NodeSystemInfo{BootID: n.Status.NodeInfo.BootID, KubeletVersion: n.Status.NodeInfo.KubeletVersion}
	var ready []corev1.NodeCondition
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			// Kubelets say it again and again; only changes are news.
			ready = append(ready, corev1.NodeCondition{Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime})
		}
	}
	n.Annotations = nil
	n.Spec = corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable}
	n.Status = corev1.NodeStatus{NodeInfo: info, Conditions: ready}
	return n, nil
}

// sawNode tells whether a node changed in what decisions see of it.
func (c *caches) sawNode(name string, n *corev1.Node) bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	if n == nil {
		delete(c.seen, name)
		c.changed = time.Now()
		return true
	}
	is := upgrade.NodeOf(n)
	was, known := c.seen[name]
	if known && reflect.DeepEqual(was, is) {
		return false
	}
	if was.Ready && !is.Ready {
		c.changed = time.Now()
	}
	c.seen[name] = is
	return true
}

func (c *caches) sawUpgrade(name string, nu *v1alpha1.NodeUpgrade) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if nu == nil {
		delete(c.phases, name)
		return
	}
	phase := nu.Status.Phase
	if c.phases[name] == phase {
		return
	}
	c.phases[name] = phase
	switch phase {
	case v1alpha1.NodeCommitted, v1alpha1.NodeRolledBack, v1alpha1.NodeFailed:
		c.changed = time.Now()
	}
}

// lastChange is when a node last came to the end of an upgrade, or was lost:
// what was known of the cluster's health before that is old.
func (c *caches) lastChange() time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.changed
}

// A view is what the caches hold at one moment.
type view struct {
	plans    []*v1alpha1.Plan
	upgrades map[string]*v1alpha1.NodeUpgrade
	nodes    []*corev1.Node
}

func (c *caches) view() (view, error) {
	v := view{upgrades: map[string]*v1alpha1.NodeUpgrade{}}
	var err error
	if v.plans, err = c.plans.Cache().List(labels.Everything()); err != nil {
		return v, err
	}
	upgrades, err := c.upgrades.Cache().List(labels.Everything())
	if err != nil {
		return v, err
	}
	for _, nu := range upgrades {
		v.upgrades[nu.Name] = nu
	}
	v.nodes, err = c.nodes.Cache().List(labels.Everything())
	return v, err
}

// input is what a decision sees of a view.
func (v view) input(now time.Time) upgrade.Input {
	in := upgrade.Input{Now: now, Plans: v.plans}
	for _, n := range v.nodes {
		if n.DeletionTimestamp == nil {
			in.Nodes = append(in.Nodes, upgrade.NodeOf(n))
		}
	}
	for _, nu := range v.upgrades {
		in.NodeUpgrades = append(in.NodeUpgrades, nu)
	}
	return in
}

// A write is one of ours that the caches may not have seen.
type write struct {
	kind, name string
	version    string // that it made
	at         time.Time
}

// sees tells whether the caches have seen a write, or what came after it.
func (c *caches) sees(w write) bool {
	var o metav1.Object
	var err error
	switch w.kind {
	case planKind:
		o, err = c.plans.Cache().Get(w.name)
	default:
		o, err = c.upgrades.Cache().Get(w.name)
	}
	if err != nil {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(o.GetResourceVersion(), w.version)
	return err == nil && order >= 0
}

// gone asks the cluster itself whether what was written is not there any more.
func (c *caches) gone(w write) (bool, error) {
	var err error
	switch w.kind {
	case planKind:
		_, err = c.plans.Get(w.name, metav1.GetOptions{})
	default:
		_, err = c.upgrades.Get(w.name, metav1.GetOptions{})
	}
	return isGone(err)
}
