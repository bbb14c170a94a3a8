package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/api/release"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
	"github.com/kedgeos/kedge/pkg/node/supervise"
	"github.com/kedgeos/kedge/pkg/node/update"
)

func TestSystemState(t *testing.T) {
	v1, v2 := update.Release{Version: "1.0.0", ID: "one"}, update.Release{Version: "2.0.0", ID: "two"}
	s := update.State{Phase: update.Committed, To: v2, From: v1, Digests: map[string]string{"one": "sha256:1", "two": "sha256:2"},
		Bad: []update.Bad{{Release: update.Release{Version: "1.5.0", ID: "half"}, Reason: "unhealthy"}}}
	got := systemState(s, v2)
	if got.Running.Digest != "sha256:2" || got.Previous == nil || got.Previous.Digest != "sha256:1" || got.Phase != ask.Committed || len(got.Bad) != 1 || got.Text == "" {
		t.Errorf("committed: %+v", got)
	}
	s.Phase = update.Staged
	if got := systemState(s, v1); got.Running.Digest != "sha256:1" || got.Previous != nil || got.To.Digest != "sha256:2" {
		t.Errorf("staged: %+v", got)
	}
	if got := systemState(update.State{}, v1); got.Running.Version != "1.0.0" || got.Running.Digest != "" || got.Previous != nil {
		t.Errorf("never upgraded: %+v", got)
	}
}

func TestKubernetesState(t *testing.T) {
	extra := update.Release{Version: "v1.36.4", ID: "k"}
	k := update.Kube{State: update.State{Phase: update.Committed, To: extra, Digests: map[string]string{"k": "sha256:k"}}, Current: extra, Before: update.Release{Version: "v1.36.3"}, Own: "v1.36.3"}
	if got := kubernetesState(k, "v1.36.3", ""); got.Running.Digest != "sha256:k" || got.Previous == nil || got.Previous.Version != "v1.36.3" {
		t.Errorf("committed: %+v", got)
	}
	k.Phase, k.Current = update.Trial, update.Release{}
	if got := kubernetesState(k, "v1.36.3", ""); got.Running.Version != "v1.36.4" || got.Previous != nil {
		t.Errorf("on trial: %+v", got)
	}
	k.Reason = "unhealthy"
	if got := kubernetesState(k, "v1.36.3", ""); got.Running.Version != "v1.36.3" {
		t.Errorf("given up: %+v", got)
	}
	if got := kubernetesState(update.Kube{}, "", "v1.36.2"); got.Running.Version != "v1.36.2" {
		t.Errorf("one that does not say: %+v", got)
	}
}

func TestReasons(t *testing.T) {
	m := &asked{}
	for _, c := range []struct {
		err    error
		reason string
		hint   bool
	}{
		{update.ErrBusy, ask.Busy, true}, {fmt.Errorf("refuse x: %w: 1.0", update.ErrDowngrade), ask.Downgrade, true},
		{fmt.Errorf("%w: bad magic", update.ErrState), ask.NotPossible, true},
		{release.ErrUnsigned, ask.Untrusted, true}, {errLosesData, ask.NotPossible, false}, {errors.New("anything"), ask.Failed, false},
	} {
		if got := m.Explain(c.err); got.Reason != c.reason || (got.Hint != "") != c.hint || got.Message != c.err.Error() {
			t.Errorf("Explain(%v) = %+v", c.err, got)
		}
	}
}

func TestTrialLimit(t *testing.T) {
	d := &daemon{}
	for limit, want := range map[time.Duration]time.Duration{0: 15 * time.Minute, time.Minute: time.Minute, time.Hour: 20 * time.Minute} {
		if got := trialLimit(d.config.Kedge.Upgrade, update.State{Terms: update.Terms{Limit: limit}}); got != want {
			t.Errorf("trialLimit with %v asked = %v, want %v", limit, got, want)
		}
	}
}

// A savingInit notes when kube is stopped and started.
type savingInit struct{ did []string }

func (i *savingInit) Services(context.Context) ([]supervise.Status, error) { return nil, nil }
func (i *savingInit) Start(context.Context, string) error {
	i.did = append(i.did, "start")
	return nil
}
func (i *savingInit) Stop(context.Context, string) error { i.did = append(i.did, "stop"); return nil }

// A savingStore saves by name.
type savingStore struct {
	kubeStore
	init *savingInit
	err  error
}

func (s *savingStore) Save(_ context.Context, from, to string) (string, error) {
	s.init.did = append(s.init.did, "save "+from+" "+to)
	return "one", s.err
}
func (s *savingStore) Use(string) error      { return nil }
func (s *savingStore) Prune(...string) error { return nil }

func TestSaveDatastore(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		args []string
		k    update.Kube
		err  error
		want string
		is   error
	}{
		{"a server", []string{"server"}, update.Kube{}, nil, "[stop save v1.36.3 v1.36.3 start]", nil},
		{"a disk that is full", []string{"server"}, update.Kube{}, errors.New("full"), "[stop save v1.36.3 v1.36.3 start]", errors.ErrUnsupported},
		{"a worker", []string{"agent"}, update.Kube{}, nil, "[]", update.ErrNoDatastore},
		{"an etcd", []string{"server", "--cluster-init"}, update.Kube{}, nil, "[]", update.ErrNoDatastore},
		{"a trial", []string{"server"}, update.Kube{State: update.State{Phase: update.Trial}}, nil, "[]", update.ErrBusy},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, init := t.TempDir(), &savingInit{}
			u := &kubeKeeper{
				init: init, state: filepath.Join(dir, "kubernetes.json"), lock: filepath.Join(dir, "lock"), args: c.args,
				own: func() (string, error) { return "v1.36.3", nil }, files: func([]string) kubeStore { return &savingStore{init: init, err: c.err} },
				forget: func() {}, tell: func(string) {}, log: logrus.New(), trial: func() bool { return false },
			}
			if err := u.save(c.k); err != nil {
				t.Fatal(err)
			}
			err := u.saveDatastore(t.Context(), at)
			if got := fmt.Sprint(init.did); got != c.want {
				t.Errorf("did %s, want %s", got, c.want)
			}
			k, _ := update.LoadKube(u.state)
			switch {
			case c.is == nil && (err != nil || !k.Asked.Equal(at) || k.Saved != "one"):
				t.Errorf("saveDatastore = %v, state %v %q", err, k.Asked, k.Saved)
			case c.is != nil && (err == nil || !k.Asked.IsZero() || c.err == nil && !errors.Is(err, c.is)):
				t.Errorf("saveDatastore = %v, want %v", err, c.is)
			}
		})
	}
}
