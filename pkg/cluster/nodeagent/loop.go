package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

// Times of the loop.
const (
	busyPause = 3 * time.Second  // between two looks while something goes on
	restPause = 30 * time.Second // else; the API is asked only when something changed
	patience  = 30 * time.Second // for an agent that does not answer, and may only start anew
	stepLimit = time.Minute      // for all that one look asks of others
	tellPause = 2 * time.Minute  // between two statuses that differ in their words only

	versionFor = time.Minute // that of the API server changes seldom
)

// Agent is the agent of the machine; the Client of its socket is one.
type Agent interface {
	Status(context.Context) (ask.Status, error)
	Stage(context.Context, ask.Stage) (ask.Status, error)
	Activate(context.Context, ask.Activate) (ask.Status, error)
	Confirm(context.Context, ask.Confirm) (ask.Status, error)
	Rollback(context.Context, ask.Rollback) (ask.Status, error)
	Snapshot(context.Context, ask.Snapshot) (ask.Status, error)
	Cancel(context.Context) (ask.Status, error)
}

// Cluster is what is asked of the API server, about one node.
type Cluster interface {
	// Goal returns the node's NodeUpgrade; the error is NotFound without one.
	Goal(context.Context) (*v1alpha1.NodeUpgrade, error)
	// Write writes its status, if nobody has changed it meanwhile.
	Write(context.Context, *v1alpha1.NodeUpgrade) (*v1alpha1.NodeUpgrade, error)
	Node(context.Context) (*corev1.Node, error)
	// Mark changes annotations of the node, where nil takes one away, and whether
	// it is cordoned, if nobody has changed it meanwhile.
	Mark(ctx context.Context, n *corev1.Node, annotations map[string]*string, cordon *bool) error
	// Pods returns those on the node.
	Pods(context.Context) ([]corev1.Pod, error)
	Evict(ctx context.Context, p *corev1.Pod, gracePeriodSeconds *int64) error
	Delete(ctx context.Context, p *corev1.Pod, gracePeriodSeconds *int64) error
	Create(ctx context.Context, p *corev1.Pod) error
	// Version returns that of the API server.
	Version(context.Context) (string, error)
}

// A Loop brings a node to its goal.
type Loop struct {
	Cluster Cluster
	Agent   Agent
	Now     func() time.Time // nil is the clock
	Log     logrus.FieldLogger

	goal    *v1alpha1.NodeUpgrade // as it was seen or written last
	node    *corev1.Node
	stale   bool // they may have changed
	version string
	asked   time.Time // when the version was
	told    time.Time // when the status was written last
	silent  time.Time // since when the agent does not answer; zero when it does
	failed  bool      // the last action did
	refused *ask.Error
	of      int64             // the generation that was refused
	blocked map[string]string // why a pod could not be evicted, by namespace/name
}

func (l *Loop) now() time.Time {
	if l.Now != nil {
		return l.Now()
	}
	return time.Now()
}

// Run goes on until ctx ends. Changed tells that the NodeUpgrade or the node
// may be another.
func (l *Loop) Run(ctx context.Context, changed <-chan struct{}) {
	said := ""
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, stepLimit)
		pause, err := l.Step(within)
		cancel()
		if err == nil {
			said = ""
		} else if text := err.Error(); text != said && ctx.Err() == nil { // each once
			said = text
			l.Log.Warn(text)
		}
		select {
		case <-ctx.Done():
		case <-changed:
			l.stale = true
		case <-time.After(pause):
		}
	}
}

// Step looks once, writes the status when it is another, and does what is to be
// done. It says how long to wait until the next.
func (l *Loop) Step(ctx context.Context) (time.Duration, error) {
	fresh := l.goal == nil || l.node == nil || l.stale
	if fresh {
		if err := l.fetch(ctx); apierrors.IsNotFound(err) {
			return restPause, nil // the controller has not made one
		} else if err != nil {
			return busyPause, err
		}
	}
	d, err := l.decide(ctx)
	if err != nil {
		return busyPause, err
	}
	if !l.worth(d.Status) && d.Action == nil {
		return pauseOf(d.Status), nil
	}
	if !fresh {
		if err := l.fetch(ctx); err != nil {
			return busyPause, err
		}
		if d, err = l.decide(ctx); err != nil {
			return busyPause, err
		}
	}
	if !d.Passing || l.failed {
		if err := l.write(ctx, d.Status); err != nil {
			l.stale = true
			return busyPause, err
		}
	}
	if d.Action == nil {
		return pauseOf(d.Status), nil
	}
	err = d.Action.do(ctx, l)
	l.note(err)
	if err != nil {
		return busyPause, fmt.Errorf("%s: %w", d.Action, err)
	}
	switch d.Action.(type) {
	case Activate, Rollback:
		return 0, nil // what comes of it is to be noted before the machine goes
	}
	return busyPause, nil
}

// pauseOf says how soon something may change that nobody tells.
func pauseOf(s v1alpha1.NodeUpgradeStatus) time.Duration {
	switch s.Phase {
	case v1alpha1.NodeFetching, v1alpha1.NodeDraining, v1alpha1.NodeArmed, v1alpha1.NodeTrial:
		return busyPause
	}
	return restPause
}

// note keeps whether an action failed, and why the agent refused what the goal
// wanted.
func (l *Loop) note(err error) {
	l.failed, l.refused, l.of = err != nil, nil, l.goal.Generation
	var no *ask.Error
	if errors.As(err, &no) {
		l.refused = no
	}
}

func (l *Loop) fetch(ctx context.Context) (err error) {
	l.stale = true
	if l.goal, err = l.Cluster.Goal(ctx); err != nil {
		l.goal = nil
		return err
	}
	if l.node, err = l.Cluster.Node(ctx); err != nil {
		l.node = nil
		return err
	}
	if l.version == "" || l.now().Sub(l.asked) >= versionFor {
		if v, err := l.Cluster.Version(ctx); err == nil {
			l.version, l.asked = v, l.now()
		}
	}
	l.stale = false
	return nil
}

// decide asks Next.
func (l *Loop) decide(ctx context.Context) (Decision, error) {
	v := View{Now: l.now(), Goal: l.goal, Node: nodeOf(l.node)}
	v.Node.Cluster = l.version
	if l.of == l.goal.Generation {
		v.Refused = l.refused
	}
	s, err := l.Agent.Status(ctx)
	switch {
	case err == nil:
		v.Status, l.silent = &s, time.Time{}
	case l.silent.IsZero():
		l.silent = l.now()
		fallthrough
	case l.now().Sub(l.silent) < patience:
		return Decision{Status: l.goal.Status}, nil
	default:
		v.Error = err
	}
	if err := l.look(ctx, &v); err != nil {
		return Decision{}, err
	}
	return Next(v), nil
}

// look has a look at the pods of a node that is leaving.
func (l *Loop) look(ctx context.Context, v *View) error {
	drain := l.goal.Spec.Drain
	drains := drain != nil && v.Node.Cordoned && !v.Node.Leaving.IsZero()
	if !drains {
		l.blocked = nil
	}
	if !drains && (l.goal.Spec.Hooks == nil || v.Node.Leaving.IsZero()) {
		return nil
	}
	pods, err := l.Cluster.Pods(ctx)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	v.Hooks = hookPods(pods)
	if !drains {
		return nil
	}
	left, err := leaving(pods, drain)
	for i := range left {
		v.Node.Left = append(v.Node.Left, l.left(&left[i]))
		v.Node.Blocked = v.Node.Blocked || l.blocked[podName(&left[i])] != ""
	}
	return err
}

// left tells a pod that has not left, and why.
func (l *Loop) left(p *corev1.Pod) string {
	switch why := l.blocked[podName(p)]; {
	case p.DeletionTimestamp != nil:
		return podName(p) + " (it is ending)"
	case why != "":
		return podName(p) + " (" + why + ")"
	}
	return podName(p)
}

func podName(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

func (l *Loop) pods(ctx context.Context, drain *v1alpha1.Drain) ([]corev1.Pod, error) {
	pods, err := l.Cluster.Pods(ctx)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return leaving(pods, drain)
}

// nodeOf reads what matters here of a node.
func nodeOf(n *corev1.Node) Node {
	_, server := n.Labels["node-role.kubernetes.io/control-plane"]
	at, _ := time.Parse(time.RFC3339, n.Annotations[LeavingAnnotation]) // zero without one
	return Node{Name: n.Name, Cordoned: n.Spec.Unschedulable, Ours: n.Annotations[CordonedAnnotation] != "", Leaving: at, ControlPlane: server}
}

// worth tells whether a status is another than the one that is written. That
// only words or shares differ is told now and then.
func (l *Loop) worth(s v1alpha1.NodeUpgradeStatus) bool {
	was := l.goal.Status
	if equality.Semantic.DeepEqual(was, s) {
		return false
	}
	if l.now().Sub(l.told) >= tellPause {
		return true
	}
	return !equality.Semantic.DeepEqual(wordless(was), wordless(s))
}

// wordless is a status without what is only for people.
func wordless(s v1alpha1.NodeUpgradeStatus) v1alpha1.NodeUpgradeStatus {
	s = *s.DeepCopy()
	s.Downloaded, s.Message, s.Reason = 0, "", ""
	for i := range s.Conditions {
		s.Conditions[i].Message, s.Conditions[i].Reason = "", ""
	}
	return s
}

func (l *Loop) write(ctx context.Context, s v1alpha1.NodeUpgradeStatus) error {
	if !l.worth(s) {
		return nil
	}
	if l.goal.Status.Phase != s.Phase {
		l.Log.Infof("%s: %s", s.Phase, orElse(s.Message, "nothing goes on"))
	}
	nu := l.goal.DeepCopy()
	nu.Status = s
	written, err := l.Cluster.Write(ctx, nu)
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	l.goal, l.told = written, l.now()
	return nil
}

// mark changes the node.
func (l *Loop) mark(ctx context.Context, annotations map[string]*string, cordon *bool) error {
	l.stale = true
	return l.Cluster.Mark(ctx, l.node, annotations, cordon)
}

// An Action is one thing that is done once the status is written.
type Action interface {
	fmt.Stringer
	do(ctx context.Context, l *Loop) error
}

// The actions.
type (
	Stage    struct{ ask.Stage }
	Activate struct{ ask.Activate }
	Rollback struct{ ask.Rollback }
	Snapshot struct{ ask.Snapshot }
	Cancel   struct{}
	// Leave notes on the node that it begins to leave, and cordons it.
	Leave struct{ Cordon bool }
	// Return undoes Leave.
	Return struct{}
	// Evict evicts the pods that have to leave, or deletes them.
	Evict struct {
		Drain v1alpha1.Drain
		Force bool
	}
)

func (a Stage) String() string { return "stage" }
func (a Stage) do(ctx context.Context, l *Loop) error {
	_, err := l.Agent.Stage(ctx, a.Stage)
	return err
}

func (a Activate) String() string { return fmt.Sprintf("activate %s", a.Part) }
func (a Activate) do(ctx context.Context, l *Loop) error {
	_, err := l.Agent.Activate(ctx, a.Activate)
	return err
}

func (a Rollback) String() string { return fmt.Sprintf("roll back %s", a.Part) }
func (a Rollback) do(ctx context.Context, l *Loop) error {
	_, err := l.Agent.Rollback(ctx, a.Rollback)
	return err
}

func (a Snapshot) String() string { return "snapshot" }
func (a Snapshot) do(ctx context.Context, l *Loop) error {
	_, err := l.Agent.Snapshot(ctx, a.Snapshot)
	return err
}

func (Cancel) String() string { return "cancel" }
func (Cancel) do(ctx context.Context, l *Loop) error {
	_, err := l.Agent.Cancel(ctx)
	return err
}

func (a Leave) String() string {
	if a.Cordon {
		return "leave, cordoned"
	}
	return "leave"
}

func (a Leave) do(ctx context.Context, l *Loop) error {
	n := nodeOf(l.node)
	if l.goal.Spec.Hooks != nil && n.Leaving.IsZero() {
		if err := l.clearHooks(ctx, true); err != nil {
			return err
		}
	}
	annotations := map[string]*string{}
	if n.Leaving.IsZero() {
		at := l.now().UTC().Format(time.RFC3339)
		annotations[LeavingAnnotation] = &at
	}
	if !a.Cordon || n.Cordoned { // a cordon that is there already is somebody else's
		return l.mark(ctx, annotations, nil)
	}
	yes, cordon := "true", true
	annotations[CordonedAnnotation] = &yes
	return l.mark(ctx, annotations, &cordon)
}

func (Return) String() string { return "return" }
func (Return) do(ctx context.Context, l *Loop) error {
	if l.goal.Spec.Hooks != nil {
		if err := l.clearHooks(ctx, false); err != nil {
			return err
		}
	}
	annotations := map[string]*string{LeavingAnnotation: nil, CordonedAnnotation: nil}
	if n := nodeOf(l.node); !n.Ours || !n.Cordoned {
		return l.mark(ctx, annotations, nil)
	}
	cordon := false
	return l.mark(ctx, annotations, &cordon)
}

func (a Evict) String() string {
	if a.Force {
		return "delete pods"
	}
	return "evict pods"
}

func (a Evict) do(ctx context.Context, l *Loop) error {
	pods, err := l.pods(ctx, &a.Drain)
	if err != nil {
		return err
	}
	blocked := map[string]string{}
	for i := range pods {
		p := &pods[i]
		if p.DeletionTimestamp != nil {
			continue
		}
		remove := l.Cluster.Evict
		if a.Force {
			remove = l.Cluster.Delete
		}
		if err := remove(ctx, p, a.Drain.GracePeriodSeconds); err != nil && !apierrors.IsNotFound(err) {
			blocked[podName(p)] = refusal(err)
		}
	}
	l.blocked = blocked
	return nil
}

// refusal says why a pod is not evicted. What names the disruption budget is
// not in the text of the error.
func refusal(err error) string {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		if d := status.Status().Details; d != nil {
			for _, c := range d.Causes {
				if c.Type == policyv1.DisruptionBudgetCause && c.Message != "" {
					return c.Message
				}
			}
		}
	}
	return err.Error()
}
