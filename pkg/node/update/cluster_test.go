package update

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// An agent that starts anew between the arming and the restart must not take the
// release for one that never came up.
func TestBootedBeforeTheRestart(t *testing.T) {
	s := State{Phase: Armed, Slot: "b", To: Release{"2.0.0", "two"}, From: Release{"1.0.0", "one"}, Boot: "x"}
	r := Running{Release: Release{"1.0.0", "one"}, Slot: "a", Boot: "x"}
	if got := s.Booted(r, time.Now()); got.Phase != Armed || len(got.Bad) > 0 {
		t.Errorf("in the same boot: %+v", got)
	}
	r.Boot = "y"
	if got := s.Booted(r, time.Now()); got.Phase != RolledBack || len(got.Bad) != 1 {
		t.Errorf("in the next: %+v", got)
	}
	s.Boot, r.Boot = "", ""
	if got := s.Booted(r, time.Now()); got.Phase != RolledBack {
		t.Errorf("without boot IDs: %+v", got)
	}
}

func TestCame(t *testing.T) {
	s := State{To: Release{"2", "two"}, From: Release{"1", "one"}, Bad: []Bad{{Release: Release{"0", "bad"}, Reason: "x"}}}
	s = s.Came("one", "sha256:1", "one").Came("two", "sha256:2", "one").Came("bad", "sha256:0", "one").Came("gone", "sha256:9", "one")
	s = s.Came("three", "sha256:3", "one")
	if got := strings.Join(slices.Sorted(maps.Keys(s.Digests)), " "); got != "bad one three two" {
		t.Errorf("digests of %s are known", got)
	}
	if s = s.Came("one", "", "one"); s.Digests["one"] != "" {
		t.Error("one that came otherwise has a digest")
	}
}

func TestForget(t *testing.T) {
	k := Kube{State: State{Phase: Staged, To: Release{"v1.36.4", "k"}}, Current: Release{"v1.36.3", "c"}, Restore: "old"}
	if err := ForgetKube(k, func(now Kube) error { k = now; return nil }); err != nil || k.Phase != Idle || k.Restore != "" || k.Current.ID != "c" {
		t.Errorf("ForgetKube = %v, %+v", err, k)
	}
	k.Phase = Committed
	if err := ForgetKube(k, func(Kube) error { t.Error("what is committed is forgotten"); return nil }); err != nil {
		t.Error(err)
	}
}

// The system may have changed between the staging of a Kubernetes and its turn.
func TestStillMay(t *testing.T) {
	k := Kube{State: State{Phase: Staged, To: Release{"v1.36.4", "k"}, From: Release{"v1.36.3", ""}}}
	for _, c := range []struct {
		own, datastore string
		server         bool
		err            error
	}{
		{"v1.36.3", "v1.36.3", true, nil}, {"v1.36.2", "v1.36.2", true, nil},
		{"v1.37.0", "v1.37.0", true, ErrNoSnapshot}, {"v1.34.0", "v1.34.0", true, ErrSkew}, {"v1.37.0", "", false, nil},
	} {
		k.Datastore = c.datastore
		got, err := k.StillMay(KubeFacts{Own: c.own, Server: c.server})
		if !errors.Is(err, c.err) || err == nil && got.From.Version != c.own {
			t.Errorf("with %s on %s: %v, from %s", c.own, c.datastore, err, got.From)
		}
	}
	// A worker may have it on its disk before the servers run it, no more.
	k.To = Release{"v1.37.0", "k"}
	for cluster, want := range map[string]error{"v1.36.9": ErrSkew, "v1.37.0": nil} {
		if _, err := k.StillMay(KubeFacts{Own: "v1.36.3", Cluster: cluster}); !errors.Is(err, want) {
			t.Errorf("with the API server at %s: %v", cluster, err)
		}
	}
	k.Phase = Idle
	if _, err := k.StillMay(KubeFacts{}); err == nil {
		t.Error("what is not staged may")
	}
}
