package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/sirupsen/logrus"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
	"github.com/kedgeos/kedge/pkg/cluster/nodeagent"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// kubeVersion is what all nodes run.
const kubeVersion = args.Version

// storyLimit is when something that is waited for counts as not happening.
const storyLimit = 3 * time.Minute

// The releases of the stories, in a registry that pods reach.
const (
	registryAddress = "10.77.0.254:5000" // of the switch
	releaseImage    = registryAddress + "/kedge:v2"
)

var (
	oldRelease = ask.Release{Version: "1.0.0", ID: "one"}
	// releases are what images bring, by their digests.
	releases = map[string]ask.Release{}
)

// registriesYAML says how that registry is spoken to.
const registriesYAML = "mirrors: {\"" + registryAddress + "\": {endpoint: [\"http://" + registryAddress + "\"]}}\n"

// serveRegistry has the images of releases 2.0.0 and 3.0.0 in a registry on the
// switch, and returns where it is reached from here.
func serveRegistry(t *testing.T) (here string) {
	t.Helper()
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	here = s.Listener.Addr().String()
	for tag, to := range map[string]ask.Release{"v2": {Version: "2.0.0", ID: "two"}, "v3": {Version: "3.0.0", ID: "three"}} {
		file := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(file, []byte(to.Version), 0o644); err != nil {
			t.Fatal(err)
		}
		image := registry.Image{File: file, Arch: runtime.GOARCH, Release: registry.Release{Version: to.Version, Kubernetes: kubeVersion}}
		digest, err := registry.Push(t.Context(), here+"/kedge:"+tag, []registry.Image{image}, registry.Options{Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		to.Digest = digest
		releases[digest] = to
	}
	l, err := listenIn("/run/netns/"+switchNamespace(), registryAddress)
	if err != nil {
		t.Fatal(err)
	}
	there := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = there.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = there.Close() })
	return here
}

// listenIn opens a socket in a network namespace.
func listenIn(namespace, address string) (net.Listener, error) {
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		if err := setns(namespace); err != nil {
			done <- result{nil, err}
			return
		}
		l, err := net.Listen("tcp", address)
		done <- result{l, err}
	}()
	r := <-done
	return r.l, r.err
}

// A cluster is one real node, and nodes that are only objects with a machine.
type cluster struct {
	t      *testing.T
	node   *Node
	config *restclient.Config
	core   kubernetes.Interface
	dyn    dynamic.Interface
	stores map[string]cache.Store // of plans, nodeupgrades and nodes, by the name

	mu      sync.Mutex
	changed chan struct{}       // closed, and another, at each change
	most    map[string]int      // nodes that were away at once, by fleet
	away    map[string]bool     // by node
	said    map[string][]string // messages that plans had, by plan
	hosts   map[string]*host    // by node
}

// clients makes clients that speak with a token, or as the administrator.
func clients(config *restclient.Config, token string) (kubernetes.Interface, dynamic.Interface, error) {
	c := restclient.CopyConfig(config)
	if token != "" {
		c.TLSClientConfig.CertData, c.TLSClientConfig.KeyData, c.BearerToken = nil, nil, token
	}
	client, err := restclient.HTTPClientFor(c)
	if err != nil {
		return nil, nil, err
	}
	core, err := kubernetes.NewForConfigAndClient(c, client)
	if err != nil {
		return nil, nil, err
	}
	dyn, err := dynamic.NewForConfigAndClient(c, client)
	return core, dyn, err
}

// adminConfig is how the administrator of a node's cluster reaches it, with so
// many requests a second; -1 is as many as there are.
func adminConfig(n *Node, qps float32) (*restclient.Config, error) {
	text, err := os.ReadFile(filepath.Join(n.Dir, "etc", "k3s", "k3s.yaml"))
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(text)
	if err != nil {
		return nil, err
	}
	config.Dial = dialIn("/run/netns/" + n.Name)
	config.QPS, config.Burst = qps, int(2*qps)
	return config, nil
}

func newCluster(t *testing.T, n *Node) *cluster {
	t.Helper()
	config, err := adminConfig(n, 200)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		t: t, node: n, config: config, changed: make(chan struct{}),
		most: map[string]int{}, away: map[string]bool{}, said: map[string][]string{}, hosts: map[string]*host{},
	}
	if c.core, c.dyn, err = clients(config, ""); err != nil {
		t.Fatal(err)
	}
	return c
}

// follow has see called, until ctx ends, with every plan, NodeUpgrade and node as
// it comes, changes and goes, and the name of its resource. It returns the caches
// when they are whole; the kinds of plans are served.
func follow(ctx context.Context, dyn dynamic.Interface, see func(resource string, o any)) (map[string]cache.Store, error) {
	stores := map[string]cache.Store{}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(dyn, 0)
	for _, name := range []string{"plans", "nodeupgrades", "nodes"} {
		of := v1alpha1.GroupVersion.WithResource(name)
		if name == "nodes" {
			of = corev1.SchemeGroupVersion.WithResource(name)
		}
		informer := factory.ForResource(of).Informer()
		stores[name] = informer.GetStore()
		see := func(o any) { see(name, o) }
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, o any) { see(o) }, DeleteFunc: see}); err != nil {
			return nil, err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return stores, nil
}

// watch has the stores follow the cluster.
func (c *cluster) watch(ctx context.Context) {
	var err error
	if c.stores, err = follow(ctx, c.dyn, c.see); err != nil {
		c.t.Fatal(err)
	}
}

// see notes what only shows while it goes on.
func (c *cluster) see(name string, o any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u, ok := o.(*unstructured.Unstructured); ok && name == "nodes" {
		node := convert[corev1.Node](c.t, u)
		fleet := node.Labels["fleet"]
		c.away[node.Name] = fleet != "" && (node.Spec.Unschedulable || !nodeReady(&node))
		n := 0
		for other, h := range c.hosts {
			if h.fleet == fleet && c.away[other] {
				n++
			}
		}
		c.most[fleet] = max(c.most[fleet], n)
	} else if ok && name == "plans" {
		p := convert[v1alpha1.Plan](c.t, u)
		if said := c.said[p.Name]; len(said) == 0 || said[len(said)-1] != p.Status.Message {
			c.said[p.Name] = append(said, p.Status.Message)
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// until waits for what objects or machines show.
func (c *cluster) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.After(storyLimit)
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if is() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("no %s\n%s", what, c.text())
		}
	}
}

// text is how plans and nodes stand.
func (c *cluster) text() string {
	var b strings.Builder
	for _, o := range c.stores["plans"].List() {
		p := convert[v1alpha1.Plan](c.t, o.(*unstructured.Unstructured))
		fmt.Fprintf(&b, "plan %s: %s: %s\n", p.Name, p.Status.Phase, p.Status.Message)
	}
	for _, o := range c.stores["nodeupgrades"].List() {
		nu := convert[v1alpha1.NodeUpgrade](c.t, o.(*unstructured.Unstructured))
		fmt.Fprintf(&b, "node %s: goal %q, %s: %s\n", nu.Name, nu.Spec.State, nu.Status.Phase, nu.Status.Message)
	}
	return b.String()
}

func convert[T any](t *testing.T, u *unstructured.Unstructured) (out T) {
	t.Helper()
	if err := kruntime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func get[T any](t *testing.T, s cache.Store, name string) (out T) {
	t.Helper()
	if o, ok, _ := s.GetByKey(name); ok {
		return convert[T](t, o.(*unstructured.Unstructured))
	}
	return out
}

func (c *cluster) plan(t *testing.T, name string) v1alpha1.Plan {
	return get[v1alpha1.Plan](t, c.stores["plans"], name)
}

func (c *cluster) upgrade(t *testing.T, name string) v1alpha1.NodeUpgrade {
	return get[v1alpha1.NodeUpgrade](t, c.stores["nodeupgrades"], name)
}

// phase waits for a plan, as it is now, to be in a phase.
func (c *cluster) phase(t *testing.T, name string, want v1alpha1.PlanPhase) v1alpha1.Plan {
	t.Helper()
	c.until(t, fmt.Sprintf("plan %s in phase %s", name, want), func() bool {
		p := c.plan(t, name)
		return p.Status.Phase == want && p.Status.ObservedGeneration == p.Generation
	})
	return c.plan(t, name)
}

// apply makes a plan for a fleet, or changes what the words in spec say.
func (c *cluster) apply(t *testing.T, fleet, spec string) {
	t.Helper()
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(spec), &fields); err != nil {
		t.Fatal(err)
	}
	plans := c.dyn.Resource(v1alpha1.GroupVersion.WithResource("plans"))
	patch, err := json.Marshal(map[string]any{"spec": fields})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plans.Patch(t.Context(), fleet, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		if fields["nodeSelector"] == nil {
			fields["nodeSelector"] = map[string]any{"matchLabels": map[string]any{"fleet": fleet}}
		}
		if fields["channel"] == nil {
			fields["os"] = map[string]any{"image": releaseImage}
		}
		p, err = plans.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Plan", "metadata": map[string]any{"name": fleet}, "spec": fields,
		}}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	c.until(t, "plan "+fleet, func() bool { return c.plan(t, fleet).Generation >= p.GetGeneration() })
}

// A host is a node that is an object only, with its machine, and the loop that a
// pod of it would run.
type host struct {
	*machine
	c           *cluster
	name, fleet string
	api         nodeagent.API
	stop        context.CancelFunc
	done        chan struct{}
	restarts    sync.WaitGroup
}

// fleet makes n nodes with the label fleet.
func (c *cluster) fleet(t *testing.T, name string, n int) []*host {
	t.Helper()
	var all []*host
	for i := range n {
		h := &host{machine: newMachine(oldRelease), c: c, name: fmt.Sprintf("%s-%d", name, i+1), fleet: name}
		h.restart = func() { h.restarts.Go(func() { h.reboot(t) }) }
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: h.name, Labels: map[string]string{"fleet": name, "kubernetes.io/os": "linux", "kubernetes.io/hostname": h.name}},
			// Nothing but the pods that speak for nodes comes here by itself.
			Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "fleet", Effect: corev1.TaintEffectNoSchedule}}},
		}
		if _, err := c.core.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.hosts[h.name] = h
		c.mu.Unlock()
		h.show("boot-1", true)
		all = append(all, h)
	}
	for _, h := range all {
		token := h.token(t)
		core, dyn, err := clients(c.config, token)
		if err != nil {
			t.Fatal(err)
		}
		h.api = nodeagent.API{Name: h.name, Kubernetes: core, Upgrades: dyn}
		h.begin()
		t.Cleanup(func() {
			h.restarts.Wait()
			h.end()
		})
	}
	return all
}

// token is that of the pod that the DaemonSet has for the node: it is never run,
// but its account and its node are real.
func (h *host) token(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), storyLimit)
	defer cancel()
	var pod *corev1.Pod
	err := wait(ctx, "the pod that speaks for "+h.name, func() error {
		list, err := h.c.core.CoreV1().Pods(upgradeNamespace).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + h.name})
		if err != nil {
			return err
		}
		if len(list.Items) == 0 {
			return errAnswer
		}
		pod = &list.Items[0]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{BoundObjectRef: &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}}}
	r, err = h.c.core.CoreV1().ServiceAccounts(upgradeNamespace).CreateToken(t.Context(), pod.Spec.ServiceAccountName, r, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status.Token
}

// show has the node say that it is in a boot, and Ready or not.
func (h *host) show(boot string, ready bool) {
	if err := showNode(context.Background(), h.c.core, h.name, boot, ready); err != nil {
		h.c.t.Errorf("%s: show %s: %v", h.name, boot, err)
	}
}

// showNode does what the kubelet of a node would.
func showNode(ctx context.Context, core kubernetes.Interface, name, boot string, ready bool) error {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	now := metav1.Now()
	room := corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("4Gi"), "pods": resource.MustParse("110")}
	patch, err := json.Marshal(map[string]any{"status": corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		NodeInfo:   corev1.NodeSystemInfo{BootID: boot, KubeletVersion: kubeVersion},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Reason: "Test", LastHeartbeatTime: now, LastTransitionTime: now}},
	}})
	if err != nil {
		return err
	}
	_, err = core.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// begin starts what runs in the node's pod.
func (h *host) begin() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	h.stop, h.done = stop, done
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	go func() {
		defer close(done)
		l := nodeagent.Loop{Cluster: h.api, Agent: h.machine, Log: quiet}
		l.Run(ctx, h.api.Watch(ctx))
	}()
}

func (h *host) end() {
	h.stop()
	<-h.done
}

// reboot takes the node away once it is known that it goes, and brings it back,
// into what was armed. A trial that fails does that once more.
func (h *host) reboot(t *testing.T) {
	h.await(t, v1alpha1.NodeArmed)
	h.comeBack()
	if h.judge() {
		h.comeBack()
	}
}

func (h *host) comeBack() {
	h.end()
	h.mu.Lock()
	before := h.s.BootID
	h.mu.Unlock()
	h.show(before, false)
	h.show(h.cameUp(), true)
	h.begin()
}

// await waits for the node's pod to have told a phase, or for the test's end.
func (h *host) await(t *testing.T, phase v1alpha1.NodePhase) {
	for t.Context().Err() == nil {
		h.c.mu.Lock()
		changed := h.c.changed
		h.c.mu.Unlock()
		if h.c.upgrade(t, h.name).Status.Phase == phase {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
		}
	}
}
