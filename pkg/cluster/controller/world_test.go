package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

func TestMain(m *testing.M) {
	klog.SetLogger(klog.Logger{}) // which says nothing
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// A world is a cluster with its nodes, a registry, and a clock that stands still
// unless it is moved.
type world struct {
	t     *testing.T
	api   *api
	image string // of the release that plans are for

	lock  sync.Mutex
	time  time.Time
	loop  *loop
	limit int64 // of memory, that the controller set itself
	most  int   // nodes that were away for an upgrade at once
	wrong []string

	rollsBack map[string]bool // nodes on which the release fails
	silent    map[string]bool // nodes whose agents do nothing

	telling time.Duration // between two statuses that differ in words only

	runs    int
	token   string
	stop    context.CancelFunc
	stopped chan error
}

const (
	oldVersion = "v1.0.0"
	newVersion = "v2.0.0"
	kubelet    = "v1.36.3"
)

func newWorld(t *testing.T, nodes ...string) *world {
	w := &world{t: t, api: newAPI(t), time: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), rollsBack: map[string]bool{}, silent: map[string]bool{}}
	r := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(r.Close)
	w.image = r.Listener.Addr().String() + "/kedge:v2"
	w.push(newVersion)
	for _, n := range nodes {
		w.join(n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var agents sync.WaitGroup
	agents.Go(func() { w.live(ctx) })
	t.Cleanup(func() {
		w.halt()
		cancel()
		agents.Wait()
	})
	return w
}

// push puts a release under the image's tag.
func (w *world) push(version string) {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "image")
	if err := os.WriteFile(file, []byte(version), 0o644); err != nil {
		w.t.Fatal(err)
	}
	_, err := registry.Push(w.t.Context(), w.image, []registry.Image{{File: file, Arch: "amd64", Release: registry.Release{Version: version, Kubernetes: kubelet}}}, registry.Options{Tries: 1})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) join(name string) {
	w.api.lock.Lock()
	defer w.api.lock.Unlock()
	labels := object{"kubernetes.io/hostname": name}
	if name[0] == 's' {
		labels["node-role.kubernetes.io/control-plane"] = ""
	}
	w.api.put("nodes", name, object{
		"apiVersion": "v1", "kind": "Node", "metadata": object{"name": name, "labels": labels},
		"status": object{
			"nodeInfo":   object{"bootID": "boot-1", "kubeletVersion": kubelet},
			"conditions": []any{object{"type": "Ready", "status": "True", "lastTransitionTime": w.now().Format(time.RFC3339), "lastHeartbeatTime": w.now().Format(time.RFC3339)}},
		},
	})
}

func (w *world) now() time.Time {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.time
}

// mostAway is how many nodes were away for an upgrade at once.
func (w *world) mostAway() int {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.most
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	w.lock.Lock()
	w.time = w.time.Add(d)
	l := w.loop
	w.lock.Unlock()
	if l != nil {
		l.kick()
	}
}

// begin starts a controller. An earlier one dies without a word.
func (w *world) begin() {
	w.t.Helper()
	w.api.lock.Lock()
	w.api.dead[w.token] = true
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
	// The lease has run out meanwhile.
	delete(w.api.objects["leases"], "kedge-system/upgrade-controller")
	w.api.lock.Unlock()
	w.runs++
	w.token = fmt.Sprint("run-", w.runs)
	ctx, cancel := context.WithCancel(w.t.Context())
	c := w.controller(w.token)
	done := make(chan error, 1)
	w.stop, w.stopped = cancel, done
	go func() { done <- c.elect(ctx) }()
}

func (w *world) controller(token string) *controller {
	w.t.Helper()
	c, err := newController(Options{Identity: token}, w.api.config(token))
	if err != nil {
		w.t.Fatal(err)
	}
	c.now, c.pace, c.telling, c.checkEvery = w.now, 2*time.Millisecond, w.telling, 50*time.Millisecond
	c.limit = func(bytes int64) {
		w.lock.Lock()
		defer w.lock.Unlock()
		w.limit = bytes
	}
	c.term = term{lease: 15 * time.Second, renew: 10 * time.Second, retry: 2 * time.Second}
	c.leading = func(l *loop) {
		w.lock.Lock()
		defer w.lock.Unlock()
		w.loop = l
	}
	return c
}

// writes counts what the controller wrote of a kind, with a result.
func (w *world) writes(kind, result string) int {
	w.t.Helper()
	families, err := w.loopNow().metrics.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0.0
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "kedge_upgrade_writes_total" && strings.Contains(m.String(), `"`+kind+`"`) && strings.Contains(m.String(), `"`+result+`"`) {
				n += m.Counter.GetValue()
			}
		}
	}
	return int(n)
}

// halt ends the controller, if there is one.
func (w *world) halt() {
	if w.stop == nil {
		return
	}
	w.stop()
	select {
	case <-w.stopped:
	case <-time.After(30 * time.Second):
		w.t.Error("the controller does not end")
	}
	w.stop = nil
}

// until waits for something to be so.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for end := time.Now().Add(8 * time.Second); !is(); {
		if time.Now().After(end) {
			w.t.Fatalf("no %s: plan %+v\nnodes %s", what, w.plan("edge").Status, w.nodeText())
		}
		time.Sleep(2 * time.Millisecond)
	}
	w.check()
}

func (w *world) check() {
	w.t.Helper()
	w.lock.Lock()
	defer w.lock.Unlock()
	for _, text := range w.wrong {
		w.t.Error(text)
	}
	w.wrong = nil
}

func decode[T any](t *testing.T, o object) (out T) {
	t.Helper()
	b, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func encode(o any) (out object) {
	b, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		panic(err)
	}
	return out
}

// apply makes a plan of a spec in YAML, in which IMAGE is the release, or
// changes it.
func (w *world) apply(name, spec string) {
	w.t.Helper()
	var o object
	if err := yaml.Unmarshal(bytes.ReplaceAll([]byte(spec), []byte("IMAGE"), []byte(w.image)), &o); err != nil {
		w.t.Fatal(err)
	}
	w.api.lock.Lock()
	defer w.api.lock.Unlock()
	p := object{"apiVersion": "upgrade.kedgeos.io/v1alpha1", "kind": "Plan", "metadata": object{"name": name}}
	if old := w.api.objects["plans"][name]; old != nil {
		p = copied(old)
	}
	p["spec"] = o
	w.api.put("plans", name, p)
}

func (w *world) plan(name string) v1alpha1.Plan {
	w.t.Helper()
	w.api.lock.Lock()
	defer w.api.lock.Unlock()
	return decode[v1alpha1.Plan](w.t, w.api.objects["plans"][name])
}

func (w *world) node(name string) v1alpha1.NodeUpgrade {
	w.t.Helper()
	w.api.lock.Lock()
	defer w.api.lock.Unlock()
	return decode[v1alpha1.NodeUpgrade](w.t, w.api.objects["nodeupgrades"][name])
}

func (w *world) nodeText() (text string) {
	w.api.lock.Lock()
	defer w.api.lock.Unlock()
	for name, o := range w.api.objects["nodeupgrades"] {
		nu := decode[v1alpha1.NodeUpgrade](w.t, o)
		text += fmt.Sprintf("%s goal %q phase %q %s, ", name, nu.Spec.State, nu.Status.Phase, nu.Status.Message)
	}
	return text
}

// phase waits for the plan to be in a phase.
func (w *world) phase(want v1alpha1.PlanPhase) v1alpha1.Plan {
	w.t.Helper()
	w.until("plan in phase "+string(want), func() bool { return w.plan("edge").Status.Phase == want })
	return w.plan("edge")
}

// live is what all agents do, until the end of ctx.
func (w *world) live(ctx context.Context) {
	for ctx.Err() == nil {
		w.api.lock.Lock()
		leaving := 0
		for name := range w.api.objects["nodes"] {
			if o := w.api.objects["nodeupgrades"][name]; o != nil && !w.silent[name] {
				nu := decode[v1alpha1.NodeUpgrade](w.t, o)
				if w.work(&nu) {
					n := copied(o)
					n["status"] = encode(nu.Status)
					w.api.put("nodeupgrades", name, n)
				}
				switch nu.Status.Phase {
				case v1alpha1.NodeDraining, v1alpha1.NodeArmed, v1alpha1.NodeTrial:
					leaving++
				}
			}
		}
		w.api.lock.Unlock()
		w.lock.Lock()
		w.most = max(w.most, leaving)
		w.lock.Unlock()
		time.Sleep(2 * time.Millisecond)
	}
}

func release(version, digest string) *v1alpha1.Release {
	return &v1alpha1.Release{OS: &v1alpha1.Version{Version: version, Digest: digest}, Kubernetes: &v1alpha1.Version{Version: kubelet}}
}

// work takes one step of one agent, and tells whether it did.
func (w *world) work(nu *v1alpha1.NodeUpgrade) bool {
	s, goal := &nu.Status, nu.Spec
	before := *s.DeepCopy()
	enter := func(p v1alpha1.NodePhase, message string) { s.Phase, s.Message = p, message }
	node := w.api.objects["nodes"][nu.Name]
	boot, _ := node["status"].(object)["nodeInfo"].(object)["bootID"].(string)
	if s.Running == nil {
		s.Running = release(oldVersion, "")
		enter(v1alpha1.NodeIdle, "")
	}
	new := s.ObservedGeneration != nu.Generation
	s.ObservedGeneration, s.BootID = nu.Generation, boot
	t := goal.Target
	there := t != nil && s.Running.OS.Digest == t.OS.Digest
	switch s.Phase {
	case v1alpha1.NodeDraining:
		enter(v1alpha1.NodeArmed, "")
	case v1alpha1.NodeArmed:
		w.reboot(nu.Name, node)
		enter(v1alpha1.NodeTrial, "")
	case v1alpha1.NodeTrial:
		switch {
		case goal.State == v1alpha1.GoalRolledBack:
			s.Running, s.Previous = s.Previous, nil
			enter(v1alpha1.NodeRolledBack, "on request")
		case w.rollsBack[nu.Name]:
			s.Bad = append(s.Bad, v1alpha1.BadRelease{Digest: t.OS.Digest, Message: "kubelet does not answer"})
			enter(v1alpha1.NodeRolledBack, "kubelet does not answer")
		default:
			s.Previous, s.Running, s.Staged = s.Running, release(t.OS.Version, t.OS.Digest), nil
			enter(v1alpha1.NodeCommitted, "")
		}
	case v1alpha1.NodeRolledBack, v1alpha1.NodeFailed:
		if new {
			enter(v1alpha1.NodeIdle, "")
		}
	default:
		switch {
		case t == nil:
		case goal.State == v1alpha1.GoalRolledBack && there && s.Previous != nil:
			enter(v1alpha1.NodeDraining, "")
		case goal.State == v1alpha1.GoalNone || there:
		case s.Staged == nil || s.Staged.OS.Digest != t.OS.Digest:
			s.Staged = release(t.OS.Version, t.OS.Digest)
			enter(v1alpha1.NodeStaged, "")
		case goal.State == v1alpha1.GoalActive:
			enter(v1alpha1.NodeDraining, "")
		default:
			enter(v1alpha1.NodeStaged, "")
		}
	}
	a, _ := json.Marshal(before)
	b, _ := json.Marshal(*s)
	return !bytes.Equal(a, b)
}

var boots atomic.Int64

func (w *world) reboot(name string, node object) {
	n := copied(node)
	n["status"].(object)["nodeInfo"].(object)["bootID"] = fmt.Sprint("boot-", 1+boots.Add(1))
	w.api.put("nodes", name, n)
}
