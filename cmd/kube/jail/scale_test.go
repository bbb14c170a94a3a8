package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
	"github.com/kedgeos/kedge/pkg/cluster/nodeagent"
)

var (
	scale        = flag.Int("scale", 0, "roll a plan over a cluster with this `number` of nodes that are objects only, and take figures; 0 for not")
	scaleFigures = flag.String("figures", "", "`file` that the figures of -scale are added to")
)

// What goes wrong in a large fleet, in shares of the nodes.
const (
	scaleUnwell   = 0.005 // whose first trial fails
	scaleRefusing = 0.02  // whose agent does not answer when it is first asked to download
)

// scaleConfig is a server that only serves: nobody but the test has nodes, of
// which each is given a range of addresses.
const scaleConfig = `disable-agent: true
disable: [coredns, upgrade-controller]
cluster-cidr: 100.64.0.0/10
kube-controller-manager-arg: [node-monitor-grace-period=24h]
`

// scalePlan takes as many at once as a careful administrator of a large fleet would.
const scalePlan = `{"apiVersion": "upgrade.kedgeos.io/v1alpha1", "kind": "Plan", "metadata": {"name": "scale"}, "spec": {
	"os": {"image": "` + releaseImage + `"}, "maxUnavailable": "5%",
	"steps": [{"max": 10, "soak": "10s"}, {"max": "10%", "soak": "10s"}],
	"failure": {"haltAfter": "2%", "retries": 2, "backoff": "10s"}}}`

// A census is a cluster of many nodes, and what they are seen to do.
type census struct {
	s          story
	stop       context.CancelCauseFunc // of s.ctx
	config     *restclient.Config
	admin      kubernetes.Interface
	dyn        dynamic.Interface
	pods       nodeagent.API // as which pods of nodes speak, but for the name
	members    map[string]*edge
	here       atomic.Int64 // NodeUpgrades that are there
	away, most int          // nodes, under lock
	lock       sync.Mutex
	writes     atomic.Int64 // of pods of nodes, those that were taken
	reads      atomic.Int64
	plan       atomic.Pointer[v1alpha1.Plan]
}

// An edge is one node: its machine, and the loop of its pod.
type edge struct {
	*machine
	c        *census
	api      nodeagent.API
	changed  chan struct{}
	phase    atomic.Value // v1alpha1.NodePhase, as the cluster has it
	refusals atomic.Int32 // left to do
	isAway   bool         // under the census's lock
	end      func()       // of the loop
}

// RoundTrip counts what a pod asks of the API server, which watches are not.
func (c *census) RoundTrip(base http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(r)
		switch {
		case err != nil || resp.StatusCode/100 != 2:
		case r.Method == http.MethodGet:
			c.reads.Add(1)
		default:
			c.writes.Add(1)
		}
		return resp, err
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestScale is a benchmark by its nature: it takes a quarter of an hour with
// 10,000 nodes, so it is played when it is asked for. What must hold for
// any number of nodes holds here too.
func TestScale(t *testing.T) {
	if *scale == 0 {
		return
	}
	p := programsFor(t)
	s := beginFor(t, 2*time.Hour)
	serveRegistry(t)
	n, api := s.server(p, scaleConfig)
	c := newCensus(s, n)
	began := time.Now()
	c.populate(*scale)
	t.Logf("%d nodes after %.0f s", *scale, time.Since(began).Seconds())

	controller := c.start(n)
	s.until("the kind of plans", func() error { return ok(s.ctx, api, "/apis/upgrade.kedgeos.io/v1alpha1/plans") })
	began = time.Now()
	c.watch()
	c.until("a NodeUpgrade for each node", func() error {
		if got := c.here.Load(); got < int64(*scale) {
			return fmt.Errorf("%d of %d", got, *scale)
		}
		return nil
	})
	t.Logf("a NodeUpgrade for each after %.0f s", time.Since(began).Seconds())
	for _, m := range c.members {
		m.begin()
		_ = pause(s.ctx, 2*time.Millisecond) // pods do not all start in one moment
	}
	c.settle()
	c.measure(figures{t: t}, controller, n.kube.Process)
	c.lock.Lock()
	if budget := max(1, *scale*5/100); c.most > budget {
		t.Errorf("%d nodes were away at once, %d may", c.most, budget)
	}
	c.lock.Unlock()
	for name, m := range c.members {
		if got := m.running().Version; got != "2.0.0" {
			t.Errorf("%s runs %s", name, got)
		}
	}
}

// measure rolls the plan to its end, and takes the figures of that.
func (c *census) measure(f figures, controller *controllerProcess, server *os.Process) {
	reads, writes, before := c.reads.Load(), c.writes.Load(), controller.metrics()
	began := time.Now()
	c.apply()
	peak := controller.peak()
	c.complete()
	took, anonymous := time.Since(began), peak()
	c.settle()
	after := controller.metrics()
	nodes := float64(*scale)
	f.add("scale_nodes", nodes, "nodes")
	f.add("scale_rollout_seconds", took.Seconds(), "s")
	f.add("scale_node_writes", float64(c.writes.Load()-writes)/nodes, "API_writes_per_node")
	f.add("scale_node_reads", float64(c.reads.Load()-reads)/nodes, "API_reads_per_node")
	written := func(m metrics) float64 { return m.sum("kedge_upgrade_writes_total", `result="ok"`) }
	f.add("scale_controller_writes", (written(after)-written(before))/nodes, "API_writes_per_node")
	for _, name := range []string{"decide_seconds", "wait_seconds"} {
		series := "kedge_upgrade_" + name
		f.add("scale_"+name, after.sum(series+"_sum")/after.sum(series+"_count"), "s")
	}
	f.add("scale_controller_anonymous_bytes", float64(anonymous), "bytes")
	for name, process := range map[string]*os.Process{"controller": controller.Process, "server": server} {
		kib, err := number(process.Pid, "status", "VmHWM:")
		if err != nil {
			c.s.Fatal(err)
		}
		f.add("scale_"+name+"_rss_bytes", float64(kib<<10), "bytes")
	}
	f.write()
}

// figures are lines "name value unit".
type figures struct {
	t     *testing.T
	lines []string
}

func (f *figures) add(name string, value float64, unit string) {
	f.lines = append(f.lines, fmt.Sprintf("%s %s %s\n", name, strconv.FormatFloat(value, 'f', -1, 64), unit))
	f.t.Log(strings.TrimSpace(f.lines[len(f.lines)-1]))
}

func (f *figures) write() {
	if *scaleFigures == "" {
		return
	}
	file, err := os.OpenFile(*scaleFigures, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = io.WriteString(file, strings.Join(f.lines, ""))
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		f.t.Error(err)
	}
}

func newCensus(s story, n *Node) *census {
	s.Helper()
	config, err := adminConfig(n, -1)
	if err != nil {
		s.Fatal(err)
	}
	c := &census{s: s, config: config, members: map[string]*edge{}}
	c.s.ctx, c.stop = context.WithCancelCause(s.ctx)
	if c.admin, c.dyn, err = clients(config, ""); err != nil {
		s.Fatal(err)
	}
	counted := restclient.CopyConfig(config)
	counted.Wrap(c.RoundTrip)
	if c.pods.Kubernetes, c.pods.Upgrades, err = clients(counted, ""); err != nil {
		s.Fatal(err)
	}
	_, err = c.admin.CoreV1().Namespaces().Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: upgradeNamespace}}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// populate makes n nodes.
func (c *census) populate(n int) {
	names := make(chan string)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for name := range names {
				if _, err := c.admin.CoreV1().Nodes().Create(c.s.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
					c.s.Error(err)
				}
				c.show(name, "boot-1", true)
			}
		})
	}
	for i := range n {
		m := &edge{machine: newMachine(oldRelease), c: c, api: c.pods, changed: make(chan struct{}, 1)}
		m.api.Name = fmt.Sprintf("edge-%05d", i+1)
		m.machine.unwell = rand.Float64() < scaleUnwell
		if rand.Float64() < scaleRefusing {
			m.refusals.Store(1)
		}
		m.restart = func() { go m.reboot() }
		c.members[m.api.Name] = m
		names <- m.api.Name
	}
	close(names)
	all.Wait()
	if c.s.Failed() {
		c.s.FailNow()
	}
}

// show has a node say that it is in a boot, and Ready or not.
func (c *census) show(name, boot string, ready bool) {
	if err := showNode(c.s.ctx, c.admin, name, boot, ready); err != nil && c.s.ctx.Err() == nil {
		c.s.Errorf("%s: show %s: %v", name, boot, err)
	}
}

// A process of the controller, and how its metrics are read.
type controllerProcess struct {
	*os.Process
	c      *census
	client http.Client
}

// start starts the controller as an administrator may, beside the server.
func (c *census) start(n *Node) *controllerProcess {
	c.s.Helper()
	file := filepath.Join(n.Dir, "etc", "k3s", "registries.yaml")
	if err := os.WriteFile(file, []byte(registriesYAML), 0o600); err != nil {
		c.s.Fatal(err)
	}
	cmd, err := n.run("upgrade-controller", "controller", "--kubeconfig", "/etc/rancher/k3s/k3s.yaml",
		"--registries", "/etc/rancher/k3s/registries.yaml", "--listen", "127.0.0.1:8080")
	if err != nil {
		c.s.Fatal(err)
	}
	log, err := os.Create(filepath.Join(n.Dir, "controller.log"))
	if err != nil {
		c.s.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.s.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
		if c.s.ctx.Err() == nil {
			c.stop(errors.New("the controller has ended"))
		}
	}()
	c.s.Cleanup(func() {
		c.stop(nil)
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-ended
		if text, err := os.ReadFile(log.Name()); err == nil && c.s.Failed() {
			c.s.Logf("log of the controller:\n%s", lastLines(string(text), 40))
		}
		log.Close()
	})
	return &controllerProcess{cmd.Process, c, http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: dialIn("/run/netns/" + n.Name)}}}
}

// peak follows the memory that is the process's own, without the pages of its
// program, and returns what ends that and tells the most.
func (p *controllerProcess) peak() (end func() int64) {
	ctx, stop := context.WithCancel(p.c.s.ctx)
	most := make(chan int64, 1)
	go func() {
		var kib int64
		for ctx.Err() == nil {
			if n, err := number(p.Pid, "status", "RssAnon:"); err == nil {
				kib = max(kib, n)
			}
			_ = pause(ctx, time.Second)
		}
		most <- kib << 10
	}()
	return func() int64 {
		stop()
		return <-most
	}
}

// metrics are lines of the Prometheus text format.
type metrics []string

func (p *controllerProcess) metrics() metrics {
	p.c.s.Helper()
	resp, err := p.client.Get("http://127.0.0.1:8080/metrics")
	if err != nil {
		p.c.s.Fatal(err)
	}
	defer resp.Body.Close()
	var m metrics
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		m = append(m, lines.Text())
	}
	return m
}

// sum adds up the values of a metric that have all the labels.
func (m metrics) sum(name string, labels ...string) (sum float64) {
lines:
	for _, line := range m {
		series, value, _ := strings.Cut(line, " ")
		if of, _, _ := strings.Cut(series, "{"); of != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue lines
			}
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			sum += v
		}
	}
	return sum
}

// watch has the members hear of what is theirs, and counts who is away.
func (c *census) watch() {
	see := map[string]func(*unstructured.Unstructured){"plans": c.seePlan, "nodeupgrades": c.seeUpgrade, "nodes": c.seeNode}
	_, err := follow(c.s.ctx, c.dyn, func(resource string, o any) {
		if u, ok := o.(*unstructured.Unstructured); ok {
			see[resource](u)
		}
	})
	if err != nil {
		c.s.Fatal(err)
	}
}

func (c *census) seePlan(u *unstructured.Unstructured) {
	var p v1alpha1.Plan
	if err := kruntime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p); err != nil {
		c.s.Error(err)
		return
	}
	c.plan.Store(&p)
}

func (c *census) seeUpgrade(u *unstructured.Unstructured) {
	m := c.members[u.GetName()]
	if m == nil {
		return
	}
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	if m.phase.Swap(v1alpha1.NodePhase(phase)) == nil {
		c.here.Add(1)
	}
	m.tell()
}

func (c *census) seeNode(u *unstructured.Unstructured) {
	m := c.members[u.GetName()]
	if m == nil {
		return
	}
	var n corev1.Node
	if err := kruntime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &n); err != nil {
		c.s.Error(err)
		return
	}
	m.tell()
	away := n.Spec.Unschedulable || !nodeReady(&n)
	c.lock.Lock()
	defer c.lock.Unlock()
	if away != m.isAway {
		m.isAway = away
		c.away++
		if !away {
			c.away -= 2
		}
	}
	if c.plan.Load() != nil {
		c.most = max(c.most, c.away)
	}
}

func (m *edge) tell() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// until waits as long as the test may take.
func (c *census) until(what string, is func() error) {
	c.s.Helper()
	if err := wait(c.s.ctx, what, is); err != nil {
		c.s.Fatalf("%v: %v", context.Cause(c.s.ctx), err)
	}
}

// settle waits until every node is there and has said how it is.
func (c *census) settle() {
	c.s.Helper()
	c.until("nodes that are all there", func() error {
		c.lock.Lock()
		defer c.lock.Unlock()
		silent := 0
		for _, m := range c.members {
			if p, _ := m.phase.Load().(v1alpha1.NodePhase); p == "" {
				silent++
			}
		}
		if c.away > 0 || silent > 0 {
			return fmt.Errorf("%d away, %d silent", c.away, silent)
		}
		return nil
	})
}

func (c *census) apply() {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(scalePlan)); err != nil {
		c.s.Fatal(err)
	}
	if _, err := c.dyn.Resource(v1alpha1.GroupVersion.WithResource("plans")).Create(c.s.ctx, u, metav1.CreateOptions{}); err != nil {
		c.s.Fatal(err)
	}
}

// complete waits for the end of the plan, and tells how it stands meanwhile.
func (c *census) complete() {
	c.s.Helper()
	said := time.Now()
	c.until("the end of the plan", func() error {
		p := c.plan.Load()
		if p == nil {
			return errAnswer
		}
		if time.Since(said) > 30*time.Second {
			said = time.Now()
			c.s.Logf("%s %s %s: %s", said.Format(time.TimeOnly), p.Status.Phase, p.Status.Progress, p.Status.Message)
		}
		switch p.Status.Phase {
		case v1alpha1.PlanComplete:
			return nil
		case v1alpha1.PlanHalted, v1alpha1.PlanInvalid:
			c.s.Fatalf("%s: %s", p.Status.Phase, p.Status.Message)
		}
		return fmt.Errorf("%s: %s", p.Status.Phase, p.Status.Message)
	})
}

// Stage takes its time, and does not always answer.
func (m *edge) Stage(ctx context.Context, s ask.Stage) (ask.Status, error) {
	if m.refusals.Add(-1) >= 0 {
		return ask.Status{}, fmt.Errorf("ask agent: %w", ask.ErrNoAgent)
	}
	takeTime(ctx, 2*time.Second)
	return m.machine.Stage(ctx, s)
}

// takeTime waits for a part of d.
func takeTime(ctx context.Context, d time.Duration) { _ = pause(ctx, rand.N(d)) }

// begin starts what runs in the node's pod.
func (m *edge) begin() {
	ctx, stop := context.WithCancel(m.c.s.ctx)
	done := make(chan struct{})
	m.end = func() {
		stop()
		<-done
	}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	go func() {
		defer close(done)
		l := nodeagent.Loop{Cluster: m.api, Agent: m, Log: quiet}
		l.Run(ctx, m.changed)
	}()
}

// reboot is a restart into what is armed, and another when its trial fails.
func (m *edge) reboot() {
	if !m.await(v1alpha1.NodeArmed) {
		return
	}
	m.comeBack()
	takeTime(m.c.s.ctx, 3*time.Second)
	if m.judge() {
		m.setUnwell(false) // the next time
		m.comeBack()
	}
}

func (m *edge) comeBack() {
	m.end()
	m.mu.Lock()
	before := m.s.BootID
	m.mu.Unlock()
	m.c.show(m.api.Name, before, false)
	takeTime(m.c.s.ctx, 8*time.Second)
	m.c.show(m.api.Name, m.cameUp(), true)
	m.begin()
}

func (m *edge) await(phase v1alpha1.NodePhase) bool {
	for m.c.s.ctx.Err() == nil {
		if m.phase.Load() == phase {
			return true
		}
		takeTime(m.c.s.ctx, 400*time.Millisecond)
	}
	return false
}
