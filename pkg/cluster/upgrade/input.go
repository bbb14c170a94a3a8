package upgrade

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// Input is all that a decision depends on. Nothing in it is changed.
type Input struct {
	Now          time.Time
	Plans        []*v1alpha1.Plan
	Nodes        []Node
	NodeUpgrades []*v1alpha1.NodeUpgrade

	// Resolutions are what plans mean now, by the name of the plan. One without an
	// entry has not been looked up yet.
	Resolutions map[string]Resolution
	// Checks are the results of the plans' health checks, by the name of the plan.
	Checks map[string][]CheckResult
	// Etcd are the members of the cluster's own etcd; none if its datastore is
	// another one.
	Etcd []Member
}

// A Resolution is what the image or the channel of a plan was found to be.
type Resolution struct {
	Target v1alpha1.Target
	Err    string // why there is no target
}

// A CheckResult is what came out of a health check.
type CheckResult struct {
	Name    string
	Message string    // why it fails; "" for one that holds
	Since   time.Time // when it began to fail, as far as is known; zero for just now
}

// A Member of etcd.
type Member struct {
	Node    string
	Voter   bool // not a learner
	Healthy bool
	Leader  bool
}

// A Node is what decisions need of a node of the cluster.
type Node struct {
	Name         string
	Labels       map[string]string
	Ready        bool
	ReadyChanged time.Time // when Ready became what it is
	Cordoned     bool
	ControlPlane bool
	BootID       string
	Kubelet      string // its version; a control-plane node's API server has the same
}

// Labels that mark a control-plane node.
var controlPlaneLabels = []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}

// NodeOf returns what decisions need of a node.
func NodeOf(n *corev1.Node) Node {
	out := Node{
		Name: n.Name, Labels: n.Labels, Cordoned: n.Spec.Unschedulable,
		BootID: n.Status.NodeInfo.BootID, Kubelet: n.Status.NodeInfo.KubeletVersion,
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Ready, out.ReadyChanged = c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time
		}
	}
	for _, l := range controlPlaneLabels {
		if v, ok := n.Labels[l]; ok && v != "false" {
			out.ControlPlane = true
		}
	}
	return out
}

// A Decision is what is to be written.
type Decision struct {
	Goals    []Goal                         // those that change, by node
	Statuses map[string]v1alpha1.PlanStatus // of every plan, by its name
	Again    time.Time                      // when to decide again if nothing changes; zero for never
}

// A Goal is what one node is to do. Reason and Message say why it changes, for
// an event.
type Goal struct {
	Node    string
	Spec    v1alpha1.NodeUpgradeSpec
	Plan    string
	Reason  string
	Message string
}
