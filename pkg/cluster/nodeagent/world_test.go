package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	discovery "k8s.io/client-go/discovery/fake"
	dynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	versions "k8s.io/apimachinery/pkg/version"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func digest(n int) string { return "sha256:" + strings.Repeat(fmt.Sprint(n), 64) }

func system(n int) ask.Release {
	return ask.Release{Version: fmt.Sprintf("%d.0.0", n), ID: fmt.Sprintf("id%d", n), Digest: digest(n)}
}

func osTarget(n int) *v1alpha1.Target {
	return &v1alpha1.Target{OS: &v1alpha1.OSTarget{Image: fmt.Sprintf("registry.example/kedge:v%d", n), Digest: digest(n), Version: fmt.Sprintf("%d.0.0", n)}}
}

func kubeTarget(n int) *v1alpha1.KubernetesTarget {
	return &v1alpha1.KubernetesTarget{Version: fmt.Sprintf("v1.36.%d", n), Image: "registry.example/kube:v1", Digest: digest(n)}
}

// A machine is one with its agent, as far as the socket shows it.
type machine struct {
	now     func() time.Time
	s       ask.Status
	work    int  // looks that the work still takes
	unwell  bool // trials fail
	why     string
	restart bool // it was asked for
	ticks   int  // of a trial
	did     []string
	broken  *ask.Error // how transfers end
	silent  bool       // the agent does not answer
	boots   int
}

func newMachine(now func() time.Time) *machine {
	return &machine{now: now, s: ask.Status{BootID: "boot-0", Arch: "amd64", Slot: "a", Healthy: true,
		OS:         ask.State{Running: system(1)},
		Kubernetes: ask.State{Running: ask.Release{Version: "v1.36.3"}},
	}}
}

func (m *machine) part(p ask.Part) *ask.State {
	if p == ask.Kubernetes {
		return &m.s.Kubernetes
	}
	return &m.s.OS
}

func (m *machine) note(format string, args ...any) {
	m.did = append(m.did, fmt.Sprintf(format, args...))
}

func (m *machine) Status(context.Context) (ask.Status, error) {
	if m.silent {
		return ask.Status{}, ask.ErrNoAgent
	}
	s := m.s
	if s.Work != nil {
		w := *s.Work
		s.Work = &w
	}
	return s, nil
}

func (m *machine) Stage(_ context.Context, s ask.Stage) (ask.Status, error) {
	if w := m.s.Work; w != nil && !w.Over {
		if w.Stage != nil && w.Stage.Same(s) {
			return m.s, nil
		}
		return m.s, &ask.Error{Reason: ask.Busy, Message: "busy"}
	}
	m.note("stage")
	m.s.Work, m.work = &ask.Work{Verb: ask.StageVerb, Stage: &s, Begun: m.now(), Step: "fetch", Done: 1, Total: 4}, 2
	return m.s, nil
}

func (m *machine) Activate(_ context.Context, a ask.Activate) (ask.Status, error) {
	is := m.part(a.Part)
	switch {
	case !is.To.Is(a.Digest):
		return m.s, &ask.Error{Reason: ask.NotStaged, Message: a.Digest + " is not staged"}
	case is.Phase == ask.Armed, is.Phase == ask.Trial:
	case is.Phase != ask.Staged:
		return m.s, &ask.Error{Reason: ask.NotStaged, Message: "nothing is staged"}
	default:
		m.note("arm %s", a.Part)
		is.Phase, is.Changed, is.Held = ask.Armed, m.now(), a.Hold
	}
	m.restart = m.restart || a.Part == ask.OS
	return m.s, nil
}

func (m *machine) Confirm(_ context.Context, c ask.Confirm) (ask.Status, error) {
	if is := m.part(c.Part); is.Held {
		m.note("confirm %s", c.Part)
		is.Held = false
	}
	return m.s, nil
}

func (m *machine) Rollback(_ context.Context, r ask.Rollback) (ask.Status, error) {
	is := m.part(r.Part)
	if is.Phase == ask.Armed || !is.Running.Is(r.Digest) {
		return m.s, nil
	}
	m.note("back %s", r.Part)
	if is.Phase == ask.Trial {
		is.Held, m.unwell, m.why = false, true, r.Reason
		return m.s, nil
	}
	is.Phase, is.To, is.Previous, is.Changed = ask.Armed, *is.Previous, nil, m.now()
	m.restart = m.restart || r.Part == ask.OS
	return m.s, nil
}

func (m *machine) Snapshot(_ context.Context, s ask.Snapshot) (ask.Status, error) {
	if m.s.Saved == nil || !m.s.Saved.At.Equal(s.At) {
		m.note("snapshot")
		m.s.Saved = &ask.Saved{At: s.At, Name: "snap"}
	}
	return m.s, nil
}

func (m *machine) Cancel(context.Context) (ask.Status, error) {
	m.note("cancel")
	if m.s.Work != nil {
		m.s.Work.Over, m.s.Work.Error = true, &ask.Error{Reason: ask.Interrupted, Message: "called off"}
	}
	return m.s, nil
}

// tick lets time pass on the machine; true when it went down.
func (m *machine) tick() (down bool) {
	if m.restart { // and with it all that runs on it
		m.restart = false
		m.boots++
		m.s.BootID, m.s.Work = fmt.Sprintf("boot-%d", m.boots), nil
		if m.s.OS.Phase == ask.Armed {
			before := m.s.OS.Running
			m.s.OS.Phase, m.s.OS.Running, m.s.OS.Previous, m.ticks = ask.Trial, m.s.OS.To, &before, 2
		}
		m.note("restart")
		return true
	}
	if m.s.Kubernetes.Phase == ask.Armed {
		before := m.s.Kubernetes.Running
		m.s.Kubernetes.Phase, m.s.Kubernetes.Running, m.s.Kubernetes.Previous, m.ticks = ask.Trial, m.s.Kubernetes.To, &before, 2
		return false
	}
	if w := m.s.Work; w != nil && !w.Over {
		if m.work--; m.work <= 0 {
			w.Over, w.Error = true, m.broken
			for _, p := range parts {
				i := w.Stage.OS
				if p == ask.Kubernetes {
					i = w.Stage.Kubernetes
				}
				if i != nil && m.broken == nil {
					is := m.part(p)
					is.Phase, is.To, is.Changed, is.Previous = ask.Staged, named(p, i.Digest), m.now(), nil
				}
			}
		}
	}
	for _, p := range parts {
		is := m.part(p)
		if is.Phase != ask.Trial {
			continue
		}
		if m.ticks--; m.ticks > 0 || is.Held && !m.unwell {
			continue
		}
		before := is.Previous
		is.Changed = m.now()
		if !m.unwell {
			is.Phase = ask.Committed
			continue
		}
		is.Phase, is.Running, is.Previous, is.Reason = ask.RolledBack, *before, nil, orElse(m.why, "not healthy within 15m")
		is.Bad = append(is.Bad, ask.Bad{Release: is.To, Reason: is.Reason, Time: m.now()})
		if p == ask.OS {
			m.boots++
			m.s.BootID = fmt.Sprintf("boot-%d", m.boots)
			down = true
		}
	}
	return down
}

// named is what comes in an image of the tests.
func named(p ask.Part, d string) ask.Release {
	n := int(d[len(d)-1] - '0')
	if p == ask.OS {
		return system(n)
	}
	return ask.Release{Version: fmt.Sprintf("v1.36.%d", n), ID: fmt.Sprintf("k%d", n), Digest: d}
}

// A world is a node with its machine and an API server.
type world struct {
	t       *testing.T
	now     time.Time
	core    *fake.Clientset
	dyn     *dynamic.FakeDynamicClient
	api     API
	m       *machine
	loop    *Loop
	writes  int
	phases  []string
	evicted []string
	budget  bool             // a PodDisruptionBudget allows no eviction
	hooks   []string         // that ran
	fails   map[string]int32 // hooks, with their exit codes

	// The process dies at call number dies, before or after it.
	calls, dies int
	after       bool
}

var errDead = errors.New("the process is dead")

func newWorld(t *testing.T, pods ...*corev1.Pod) *world {
	w := &world{t: t, now: noon}
	w.m = newMachine(func() time.Time { return w.now })
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	objects := []runtime.Object{node}
	for _, p := range pods {
		objects = append(objects, p)
	}
	w.core = fake.NewClientset(objects...)
	w.core.Discovery().(*discovery.FakeDiscovery).FakedServerVersion = &versions.Info{GitVersion: "v1.36.3"}
	w.core.PrependReactor("create", "pods", func(a ktesting.Action) (bool, runtime.Object, error) {
		create, ok := a.(ktesting.CreateAction)
		if !ok || a.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		e := create.GetObject().(*policyv1.Eviction)
		if w.budget {
			no := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
			no.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: "The disruption budget web needs 1 healthy pods and has 1 currently"}}
			return true, nil, no
		}
		w.evicted = append(w.evicted, e.Name)
		return true, nil, w.core.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), e.Namespace, e.Name)
	})
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	w.dyn = dynamic.NewSimpleDynamicClient(scheme, &v1alpha1.NodeUpgrade{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeUpgrade"}, ObjectMeta: metav1.ObjectMeta{Name: "n1", Generation: 1}})
	w.api = API{"n1", w.core, w.dyn}
	w.reborn()
	return w
}

// reborn starts the process anew; it remembers nothing.
func (w *world) reborn() {
	log := logrus.New()
	log.SetOutput(io.Discard)
	w.loop = &Loop{Cluster: &mortal{w}, Agent: &mortalAgent{w}, Now: func() time.Time { return w.now }, Log: log}
}

func pod(name, owner string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name)}}
	p.Spec.NodeName = "n1"
	if owner != "" {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: owner, Name: "x", Controller: &yes}}
	}
	return p
}

func (w *world) nu() *v1alpha1.NodeUpgrade {
	w.t.Helper()
	nu, err := w.api.Goal(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return nu
}

func (w *world) node() *corev1.Node {
	w.t.Helper()
	n, err := w.api.Node(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// want gives the node another goal.
func (w *world) want(f func(*v1alpha1.NodeUpgradeSpec)) {
	w.t.Helper()
	nu := w.nu()
	f(&nu.Spec)
	nu.Generation++
	nu.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("NodeUpgrade"))
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(nu)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.api.upgrades().Update(w.t.Context(), &unstructured.Unstructured{Object: object}, metav1.UpdateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	w.loop.stale = true
}

func (w *world) cordon(is bool) {
	if err := w.api.Mark(w.t.Context(), w.node(), nil, &is); err != nil {
		w.t.Fatal(err)
	}
	w.loop.stale = true
}

// run lets n ticks pass, of five seconds each.
func (w *world) run(n int) {
	w.t.Helper()
	for range n {
		w.step()
		w.kubelet()
		if w.m.tick() {
			w.reborn()
		}
		w.now = w.now.Add(5 * time.Second)
	}
}

// kubelet runs the pods of hooks.
func (w *world) kubelet() {
	list, err := w.api.Pods(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range list {
		if !isHook(&p) || p.Status.Phase != "" {
			continue
		}
		name := p.Labels[HookLabel]
		w.hooks = append(w.hooks, name)
		p.Status.Phase = corev1.PodSucceeded
		if code := w.fails[name]; code != 0 {
			p.Status.Phase = corev1.PodFailed
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: "no luck"}}}}
		}
		if err := w.core.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), &p, p.Namespace); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) step() {
	w.t.Helper()
	defer func() {
		if r := recover(); r == errDead { //nolint:errorlint // it is this one
			w.reborn()
		} else if r != nil {
			panic(r)
		}
	}()
	pause, err := w.loop.Step(w.t.Context())
	for range 10 {
		if err == nil && pause == 0 {
			pause, err = w.loop.Step(w.t.Context())
		}
	}
	if err != nil && ask.ReasonOf(err) == "" {
		w.t.Fatal(err)
	}
}

// call is one call of the process to somebody else.
func call[T any](w *world, do func() (T, error)) (T, error) {
	w.calls++
	mine := w.calls == w.dies
	if mine && !w.after {
		panic(errDead)
	}
	v, err := do()
	if mine {
		panic(errDead)
	}
	return v, err
}

func call0(w *world, do func() error) error {
	_, err := call(w, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// A mortal is a Cluster whose caller may die.
type mortal struct{ w *world }

func (c *mortal) Goal(ctx context.Context) (*v1alpha1.NodeUpgrade, error) {
	return call(c.w, func() (*v1alpha1.NodeUpgrade, error) { return c.w.api.Goal(ctx) })
}
func (c *mortal) Write(ctx context.Context, nu *v1alpha1.NodeUpgrade) (*v1alpha1.NodeUpgrade, error) {
	return call(c.w, func() (*v1alpha1.NodeUpgrade, error) {
		c.w.writes++
		if s := string(nu.Status.Phase); len(c.w.phases) == 0 || c.w.phases[len(c.w.phases)-1] != s {
			c.w.phases = append(c.w.phases, s)
		}
		return c.w.api.Write(ctx, nu)
	})
}
func (c *mortal) Node(ctx context.Context) (*corev1.Node, error) {
	return call(c.w, func() (*corev1.Node, error) { return c.w.api.Node(ctx) })
}
func (c *mortal) Mark(ctx context.Context, n *corev1.Node, a map[string]*string, cordon *bool) error {
	return call0(c.w, func() error { c.w.writes++; return c.w.api.Mark(ctx, n, a, cordon) })
}
func (c *mortal) Pods(ctx context.Context) ([]corev1.Pod, error) {
	return call(c.w, func() ([]corev1.Pod, error) { return c.w.api.Pods(ctx) })
}
func (c *mortal) Evict(ctx context.Context, p *corev1.Pod, g *int64) error {
	return call0(c.w, func() error { return c.w.api.Evict(ctx, p, g) })
}
func (c *mortal) Delete(ctx context.Context, p *corev1.Pod, g *int64) error {
	return call0(c.w, func() error { return c.w.api.Delete(ctx, p, g) })
}
func (c *mortal) Create(ctx context.Context, p *corev1.Pod) error {
	return call0(c.w, func() error { return c.w.api.Create(ctx, p) })
}
func (c *mortal) Version(ctx context.Context) (string, error) {
	return call(c.w, func() (string, error) { return c.w.api.Version(ctx) })
}

// A mortalAgent is the machine's, whose caller may die.
type mortalAgent struct{ w *world }

func (a *mortalAgent) Status(ctx context.Context) (ask.Status, error) {
	return call(a.w, func() (ask.Status, error) { return a.w.m.Status(ctx) })
}
func (a *mortalAgent) Stage(ctx context.Context, s ask.Stage) (ask.Status, error) {
	return call(a.w, func() (ask.Status, error) { return a.w.m.Stage(ctx, s) })
}
func (a *mortalAgent) Activate(ctx context.Context, s ask.Activate) (ask.Status, error) {
	return call(a.w, func() (ask.Status, error) { return a.w.m.Activate(ctx, s) })
}
func (a *mortalAgent) Confirm(ctx context.Context, s ask.Confirm) (ask.Status, error) {
	return call(a.w, func() (ask.Status, error) { return a.w.m.Confirm(ctx, s) })
}
func (a *mortalAgent) Rollback(ctx context.Context, s ask.Rollback) (ask.Status, error) {
	return call(a.w, func() (ask.Status, error) { return a.w.m.Rollback(ctx, s) })
}
func (a *mortalAgent) Snapshot(ctx context.Context, s ask.Snapshot) (ask.Status, error) {
	return call(a.w, func() (ask.Status, error) { return a.w.m.Snapshot(ctx, s) })
}
func (a *mortalAgent) Cancel(ctx context.Context) (ask.Status, error) {
	return call(a.w, func() (ask.Status, error) { return a.w.m.Cancel(ctx) })
}

// check holds how a world stands to what is wanted of it.
func (w *world) check(phase v1alpha1.NodePhase, cordoned bool, did string) {
	w.t.Helper()
	nu, n := w.nu(), w.node()
	if nu.Status.Phase != phase || nu.Status.ObservedGeneration != nu.Generation {
		w.t.Errorf("phase is %s (%s: %s) of generation %d, want %s of %d; phases %v", nu.Status.Phase, nu.Status.Reason, nu.Status.Message, nu.Status.ObservedGeneration, phase, nu.Generation, w.phases)
	}
	if n.Spec.Unschedulable != cordoned || n.Annotations[LeavingAnnotation] != "" || n.Annotations[CordonedAnnotation] != "" || nu.Status.Cordoned {
		w.t.Errorf("node is cordoned: %v, annotations %v, status %v; want %v", n.Spec.Unschedulable, n.Annotations, nu.Status.Cordoned, cordoned)
	}
	if got := strings.Join(w.m.did, ", "); got != did {
		w.t.Errorf("the machine did %s\nwant %s", got, did)
	}
}

func (w *world) left() string {
	list, err := w.api.Pods(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
