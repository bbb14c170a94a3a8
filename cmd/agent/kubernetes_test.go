package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/node/supervise"
	"github.com/kedgeos/kedge/pkg/node/update"
)

// A kubeBench is a machine around the keeper: kube runs or not, and shows what
// it is by the ID that is in use. It writes down what it is asked.
type kubeBench struct {
	mu    sync.Mutex
	log   []string
	told  []string
	used  string
	state supervise.State
	fail  map[string]string // by line: the error
	sick  string            // ID of a Kubernetes that never becomes Ready
}

var benchVersions = map[string]string{"": "v1.36.3", "good": "v1.37.0", "bad": "v1.37.1"}

func (b *kubeBench) note(format string, args ...any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	b.log = append(b.log, line)
	if text := b.fail[line]; text != "" {
		return errors.New(text)
	}
	return nil
}

func (b *kubeBench) Services(context.Context) ([]supervise.Status, error) {
	return []supervise.Status{{Name: "agent", State: supervise.Running}, {Name: kubeService, State: b.state}}, nil
}
func (b *kubeBench) Start(_ context.Context, s string) error {
	b.state = supervise.Running
	return b.note("start %s", benchVersions[b.used])
}
func (b *kubeBench) Stop(_ context.Context, s string) error {
	b.state = supervise.Stopped
	return b.note("stop")
}
func (b *kubeBench) Check(id string) error { return b.note("check %s", id) }
func (b *kubeBench) Save(_ context.Context, from, to string) (string, error) {
	return from + "-" + to, b.note("snapshot")
}
func (b *kubeBench) Load(_ context.Context, name string) error { return b.note("restore %s", name) }
func (b *kubeBench) Use(id string) error {
	err := b.note("use %s", id)
	if err == nil {
		b.used = id
	}
	return err
}
func (b *kubeBench) Prune(...string) error { return nil }
func (b *kubeBench) Newest() string        { return "v1.37.0" }

func (b *kubeBench) node() status.Node {
	if b.state != supervise.Running || b.used == b.sick && b.sick != "" {
		return status.Node{Reason: "it is sick"}
	}
	return status.Node{Ready: true, Kubernetes: benchVersions[b.used]}
}

// agent returns the keeper of an agent that was just started on the machine.
func (b *kubeBench) agent(dir, timeout string, health ...string) *kubeKeeper {
	log := logrus.New()
	log.SetOutput(io.Discard)
	u := &kubeKeeper{
		init: b, state: filepath.Join(dir, "kubernetes.json"), lock: filepath.Join(dir, "lock"),
		own:   func() (string, error) { return "v1.36.3", nil },
		files: func([]string) kubeStore { return b }, node: b.node, forget: func() {},
		policy: func() config.Upgrade { return config.Upgrade{HealthTimeout: timeout, Health: health} },
		steady: 20 * time.Millisecond, log: log, trial: func() bool { return false },
		tell: func(text string) { b.told = append(b.told, text) },
	}
	u.setArgs([]string{"server"})
	return u
}

func arm(t *testing.T, u *kubeKeeper, id string) {
	t.Helper()
	k, err := update.LoadKube(u.state)
	if err != nil {
		t.Fatal(err)
	}
	k.Phase, k.Reason, k.Snapshot = update.Staged, "", ""
	k.From, k.To = k.Chosen("v1.36.3"), update.Release{Version: benchVersions[id], ID: id}
	if err := update.ArmKube(k, 2, u.save); err != nil {
		t.Fatal(err)
	}
}

// until looks until the state has come to a phase.
func until(t *testing.T, u *kubeKeeper, phase update.Phase) update.Kube {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := u.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if k, err := update.LoadKube(u.state); err != nil {
			t.Fatal(err)
		} else if k.Phase == phase {
			return k
		}
	}
	t.Fatalf("never %s: %s", phase, u.status())
	return update.Kube{}
}

func (b *kubeBench) did(t *testing.T, want string) {
	t.Helper()
	checks := func(line string) bool { return strings.HasPrefix(line, "check ") }
	if got := strings.Join(slices.DeleteFunc(b.log, checks), ", "); got != want {
		t.Errorf("did %s, want %s", got, want)
	}
	b.log = nil
}

func (b *kubeBench) boot(t *testing.T, u *kubeKeeper) {
	t.Helper()
	u.start(t.Context(), func() {
		if err := b.Start(t.Context(), kubeService); err != nil {
			t.Error(err)
		}
	})
}

func TestKubeKeeper(t *testing.T) {
	b, dir := &kubeBench{state: supervise.Stopped, sick: "bad"}, t.TempDir()
	u := b.agent(dir, "1h")
	b.boot(t, u)
	b.did(t, "use , start v1.36.3")
	u.settle()
	if k, err := update.LoadKube(u.state); err != nil || k.Datastore != "v1.36.3" {
		t.Errorf("the datastore is of %q, %v", k.Datastore, err)
	}
	if err := u.look(t.Context()); err != nil || len(b.log) > 0 {
		t.Errorf("nothing is armed: %v, did %v", err, b.log)
	}

	arm(t, u, "good")
	until(t, u, update.Trial)
	b.did(t, "stop, snapshot, use good, start v1.37.0")
	// The agent starts again: no try is used up, and kube runs on.
	u = b.agent(dir, "1h")
	b.boot(t, u)
	b.did(t, "start v1.37.0")
	k := until(t, u, update.Committed)
	b.did(t, "")
	if k.Tries != 0 || k.Current.ID != "good" || k.Datastore != "v1.37.0" || !strings.Contains(b.told[len(b.told)-1], "v1.37.0 (good) is committed") {
		t.Errorf("state %+v, told %v", k, b.told)
	}

	// The machine starts again.
	b.state, b.used = supervise.Stopped, ""
	u = b.agent(dir, "50ms")
	b.boot(t, u)
	b.did(t, "use good, start v1.37.0")

	// One that does not become healthy goes, with its reason.
	arm(t, u, "bad")
	k = until(t, u, update.RolledBack)
	b.did(t, "stop, use bad, start v1.37.1, stop, use good, start v1.37.0")
	if !strings.Contains(k.Reason, "not healthy within 50ms: the node is not Ready: it is sick") || k.IsBad("bad") == "" || !strings.Contains(u.status(), "was taken back") {
		t.Errorf("state %+v, status %s", k, u.status())
	}

	// The user's checks count, but for those that failed before.
	u = b.agent(dir, "50ms", "false", "true")
	b.sick = ""
	arm(t, u, "bad")
	if k = until(t, u, update.RolledBack); !strings.Contains(k.Reason, `health check "false"`) {
		t.Errorf("state %+v", k)
	}
}

// TestKubeKeeperDamage: what goes wrong on the way is told, and never starts an
// older Kubernetes on a newer datastore.
func TestKubeKeeperDamage(t *testing.T) {
	b, dir := &kubeBench{state: supervise.Stopped}, t.TempDir()
	u := b.agent(dir, "1h")
	b.boot(t, u)
	arm(t, u, "good")
	b.fail = map[string]string{"use good": "no such device"}
	if k := until(t, u, update.RolledBack); k.Reason != "no such device" || b.used != "" {
		t.Errorf("what cannot be mounted: %+v", k)
	}
	b.fail = nil
	arm(t, u, "good")
	until(t, u, update.Committed)

	b.state, b.used, b.log = supervise.Stopped, "", nil
	b.fail = map[string]string{"check good": "image is damaged"}
	u = b.agent(dir, "1h")
	b.boot(t, u)
	b.did(t, "")
	if _, held := u.watch(); !strings.Contains(held, "older than its datastore") || !strings.Contains(strings.Join(b.told, "; "), "image is damaged") {
		t.Errorf("held is %q, told %v", held, b.told)
	}
	if err := u.restart(t.Context(), func() error { return b.note("restart") }); err != nil {
		t.Error(err)
	}
	if err := u.look(t.Context()); err == nil {
		t.Error("it is not told again")
	}
	b.did(t, "stop")
	u.settle() // does not make the datastore that of the older one
	b.fail = nil
	if err := u.look(t.Context()); err != nil {
		t.Error(err)
	}
	b.did(t, "stop, use good, start v1.37.0")

	// The state is lost: the images tell what the datastore may be of.
	if err := os.WriteFile(u.state, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.state, b.used, b.log = supervise.Stopped, "", nil
	u = b.agent(dir, "1h")
	b.boot(t, u)
	b.did(t, "")
	if _, err := os.Stat(u.state + ".damaged"); err != nil {
		t.Error(err)
	}
	var none *kubeKeeper // of a machine that keeps nothing
	b.boot(t, none)
	none.keep(t.Context())
	none.settle()
	if err := none.restart(t.Context(), func() error { return b.note("restart") }); err != nil || none.status() != "" {
		t.Error(err)
	}
	b.did(t, "start v1.36.3, restart")
}
