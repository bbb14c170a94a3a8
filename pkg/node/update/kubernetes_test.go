package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/release"
)

const own = "v1.36.3"

var (
	oldKube   = Release{"v1.36.2", "00000000000000a0"}
	sameKube  = Release{"v1.36.3", "00000000000000a1"}
	nextKube  = Release{"v1.37.0", "00000000000000a2"}
	laterKube = Release{"v1.38.1", "00000000000000a3"}
)

// on is the state of a machine on which a release was committed beside its own.
func on(r Release, datastore string) Kube { return Kube{Current: r, Own: own, Datastore: datastore} }

func TestChosen(t *testing.T) {
	for _, c := range []struct {
		name string
		k    Kube
		own  string
		want Release
	}{
		{"nothing but the system's", Kube{}, own, Release{Version: own}},
		{"a newer one", on(nextKube, ""), own, nextKube},
		{"an older one, by choice", on(oldKube, ""), own, oldKube},
		{"a system with a newer one comes", on(nextKube, ""), "v1.37.1", Release{Version: "v1.37.1"}},
		{"a system with the same comes", on(nextKube, ""), "v1.37.0", nextKube},
		{"a system with an older one comes", on(nextKube, ""), "v1.36.9", nextKube},
		{"a new system overtakes an old choice", on(oldKube, ""), "v1.36.4", Release{Version: "v1.36.4"}},
		{"a system that does not say", on(nextKube, ""), "", nextKube},
	} {
		if got := c.k.Chosen(c.own); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestStep(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"v1.36.3", "v1.36.9", 0}, {"v1.36.3", "v1.37.0-rc.1", 1}, {"v1.37.0", "v1.36.3", -1}, {"v1.36.3+k3s1", "v1.38.0", 2},
		{"", "v1.36.3", 0}, {"nightly", "v1.36.3", 0},
	} {
		if got := step(c.a, c.b); got != c.want {
			t.Errorf("step(%s, %s) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
	if step("v1.36.3", "v2.0.0") < 2 || step("v2.0.0", "v1.99.0") > -2 {
		t.Error("another major version is near")
	}
}

func manifest(r Release) release.Manifest {
	return release.Manifest{Kind: release.Kubernetes, Arch: "amd64", Kubernetes: r.Version, ID: r.ID}
}

func TestAdmitKube(t *testing.T) {
	const mib = 1 << 20
	server := KubeFacts{Arch: "amd64", Own: own, Server: true, Database: 10 * mib, Free: 200 * mib}
	with := func(f KubeFacts, change func(*KubeFacts)) KubeFacts {
		change(&f)
		return f
	}
	saved := with(server, func(f *KubeFacts) {
		f.Snapshots = []Snapshot{{Name: "first", From: "v1.36.1", To: "v1.37.0"}, {Name: "second", From: "v1.36.3", To: "v1.37.0"}, {Name: "other", From: "v1.35.0", To: "v1.36.0"}}
	})
	worker := with(server, func(f *KubeFacts) { f.Server, f.Database, f.Cluster = false, 0, "v1.36.9" })
	failed := Kube{State: State{Bad: []Bad{{nextKube, "x", noon}}}}
	other := manifest(nextKube)
	other.Arch = "arm64"
	for _, c := range []struct {
		name    string
		m       release.Manifest
		k       Kube
		f       KubeFacts
		p       Policy
		restore string
		want    error
	}{
		{"one minor version up", manifest(nextKube), Kube{}, server, Policy{}, "", nil},
		{"the same version, other content", manifest(sameKube), Kube{}, server, Policy{}, "", nil},
		{"a whole system", release.Manifest{Arch: "amd64", ID: "1"}, Kube{}, server, Policy{}, "", release.ErrKind},
		{"another architecture", other, Kube{}, server, Policy{}, "", ErrArch},
		{"what runs", manifest(nextKube), on(nextKube, ""), server, Policy{}, "", ErrSame},
		{"two minor versions up", manifest(laterKube), Kube{}, server, Policy{}, "", ErrSkew},
		{"two, in two steps", manifest(laterKube), on(nextKube, "v1.37.0"), server, Policy{}, "", nil},
		{"no version", manifest(Release{"latest", "9"}), Kube{}, server, Policy{}, "", ErrVersion},
		{"older", manifest(oldKube), Kube{}, server, Policy{}, "", ErrDowngrade},
		{"older, allowed", manifest(oldKube), Kube{}, server, Policy{Downgrade: true}, "", nil},
		{"an older minor version", manifest(sameKube), on(nextKube, "v1.37.0"), saved, Policy{}, "", ErrDowngrade},
		{"an older minor version, allowed", manifest(sameKube), on(nextKube, "v1.37.0"), saved, Policy{Downgrade: true}, "second", nil},
		{"an older minor version, no snapshot", manifest(sameKube), on(nextKube, "v1.37.0"), server, Policy{Downgrade: true}, "", ErrNoSnapshot},
		{"an older minor version, no snapshot of it", manifest(Release{"v1.34.0", "9"}), Kube{}, saved, Policy{Downgrade: true}, "", ErrNoSnapshot},
		{"newer than what runs, older than the datastore", manifest(sameKube), Kube{Datastore: "v1.37.0"}, server, Policy{}, "", ErrNoSnapshot},
		{"bad", manifest(nextKube), failed, server, Policy{}, "", ErrBad},
		{"bad, once more", manifest(nextKube), failed, server, Policy{Bad: true}, "", nil},
		{"during a trial", manifest(nextKube), Kube{State: State{Phase: Trial}}, server, Policy{}, "", ErrBusy},
		{"when one is armed", manifest(nextKube), Kube{State: State{Phase: Armed}}, server, Policy{}, "", ErrBusy},
		{"while the system changes", manifest(nextKube), Kube{}, with(server, func(f *KubeFacts) { f.Busy = "0.2.0 is armed" }), Policy{}, "", ErrBusy},
		{"no room for the image", manifest(sameKube), Kube{}, with(server, func(f *KubeFacts) { f.Free = 163 * mib }), Policy{}, "", ErrSpace},
		{"room for the image alone", manifest(sameKube), Kube{}, with(server, func(f *KubeFacts) { f.Free = 164 * mib }), Policy{}, "", nil},
		{"room for an image that is here", manifest(sameKube), Kube{}, with(server, func(f *KubeFacts) { f.Free, f.Here = 64*mib, 100*mib }), Policy{}, "", nil},
		{"an image that is here, and no room", manifest(sameKube), Kube{}, with(server, func(f *KubeFacts) { f.Free, f.Here = 63*mib, 100*mib }), Policy{}, "", ErrSpace},
		{"an image that is here, and room for a snapshot", manifest(nextKube), Kube{}, with(server, func(f *KubeFacts) { f.Free, f.Here = 84*mib, 100*mib }), Policy{}, "", nil},
		{"an image that is here, and none for a snapshot", manifest(nextKube), Kube{}, with(server, func(f *KubeFacts) { f.Free, f.Here = 83*mib, 100*mib }), Policy{}, "", ErrSpace},
		{"no room for a snapshot", manifest(nextKube), Kube{}, with(server, func(f *KubeFacts) { f.Free = 183 * mib }), Policy{}, "", ErrSpace},
		{"a worker before its server", manifest(nextKube), Kube{}, worker, Policy{}, "", ErrSkew},
		{"a worker before its server, put aside", manifest(nextKube), Kube{}, worker, Policy{Early: true}, "", nil},
		{"two minor versions up, put aside", manifest(laterKube), Kube{}, worker, Policy{Early: true}, "", ErrSkew},
		{"a worker after its server", manifest(nextKube), Kube{}, with(worker, func(f *KubeFacts) { f.Cluster = "v1.37.2" }), Policy{}, "", nil},
		{"a worker whose server is away", manifest(nextKube), Kube{}, with(worker, func(f *KubeFacts) { f.Cluster = "" }), Policy{}, "", nil},
		{"a worker back, which has no datastore", manifest(sameKube), on(nextKube, ""), worker, Policy{Downgrade: true}, "", nil},
	} {
		restore, err := AdmitKube(c.m, 100*mib, c.k, c.f, c.p)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || restore != c.restore {
			t.Errorf("%s: AdmitKube = %q, %v; want %q, %v", c.name, restore, err, c.restore, c.want)
		}
	}
}

// kubeMachine writes down what it is asked, and fails where it is told to. Its
// datastore is of the version that last ran on it.
type kubeMachine struct {
	log       []string
	fail      string
	none      bool // there is no datastore to save
	datastore string
	snapshots map[string]string
}

func (m *kubeMachine) note(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	m.log = append(m.log, line)
	if line == m.fail {
		return errors.New("input/output error")
	}
	return nil
}

func (m *kubeMachine) Check(id string) error { return m.note("check %s", id) }

func (m *kubeMachine) Save(_ context.Context, from, to string) (string, error) {
	if m.none {
		return "", fmt.Errorf("%w: it is elsewhere", ErrNoDatastore)
	}
	name := from + "-" + to
	if m.snapshots == nil {
		m.snapshots = map[string]string{}
	}
	m.snapshots[name] = m.datastore
	return name, m.note("snapshot %s", name)
}

func (m *kubeMachine) Load(_ context.Context, name string) error {
	if err := m.note("restore %s", name); err != nil {
		return err
	}
	m.datastore = m.snapshots[name]
	return nil
}

func (m *kubeMachine) Put(_ context.Context, i *release.Image, keep ...string) error {
	return m.note("put %s, keep %s", i.Manifest.ID, strings.Join(keep, " "))
}

// start prepares and, when that is allowed, starts kube.
func (m *kubeMachine) start(t *testing.T, k Kube, save func(Kube) error) (Kube, Release, error) {
	t.Helper()
	now, run, _, err := k.Prepare(t.Context(), m, own, noon, save)
	if err == nil {
		m.note("start %s", run.Version)
		m.datastore = run.Version
	}
	return now, run, err
}

// TestKubeLife takes a server to the next minor version, and back in every way
// there is; the power goes at every step, and what comes of it must be the same.
func TestKubeLife(t *testing.T) {
	image := &release.Image{Manifest: manifest(nextKube)}
	for _, c := range []struct {
		name  string
		m     kubeMachine
		after func(k Kube, save func(Kube) error) error // what becomes of the trial
		phase Phase
		run   Release
		ends  string // version of the datastore
		bad   bool
	}{
		{"healthy", kubeMachine{}, func(k Kube, save func(Kube) error) error { return CommitKube(k, own, true, save) }, Committed, nextKube, "v1.37.0", false},
		{"given up", kubeMachine{}, func(k Kube, save func(Kube) error) error { return GiveUpKube(k, "no network", save) }, RolledBack, Release{Version: own}, own, true},
		{"given up, no snapshot", kubeMachine{none: true}, func(k Kube, save func(Kube) error) error { return GiveUpKube(k, "no network", save) }, RolledBack, Release{Version: own}, own, true},
	} {
		life := func(m *kubeMachine, cut int) (disk Kube, run Release, steps int) {
			// What is on the disk outlives the power; a cut is a save or a deed
			// after which nothing more happens.
			m.datastore = own
			var off bool
			save := func(k Kube) error {
				if off {
					return errors.New("no power")
				}
				steps++
				if off = steps == cut; off {
					return errors.New("the power goes before it is written")
				}
				disk = k
				steps++
				if off = steps == cut; off {
					return errors.New("the power goes after it is written")
				}
				return nil
			}
			if err := StageKube(t.Context(), m, image, Kube{}, own, "", save); err == nil {
				_ = ArmKube(disk, 2, save)
			}
			if off { // the user asks again
				off = false
				if disk.Phase == Idle {
					_ = StageKube(t.Context(), m, image, disk, own, "", save)
				}
				if disk.Phase == Staged {
					_ = ArmKube(disk, 2, save)
				}
			}
			decided := false
			for range 8 {
				now, r, err := m.start(t, disk, save)
				if off { // the machine starts again
					off = false
					continue
				}
				if err != nil {
					t.Fatalf("%s, cut %d: %v, did %v", c.name, cut, err, m.log)
				}
				run = r
				if now.Undecided() && !decided {
					_ = c.after(disk, save)
					decided = !off
					if off {
						off = false
						decided = disk.Phase == Committed || disk.Reason != ""
					}
					if disk.Phase == Committed {
						break
					}
					continue
				}
				break
			}
			return disk, run, steps
		}
		whole := c.m
		_, _, steps := life(&whole, -1)
		for cut := -1; cut <= steps; cut++ {
			m := c.m
			k, run, _ := life(&m, cut)
			if k.Phase != c.phase || run != c.run || m.datastore != c.ends || (k.IsBad(nextKube.ID) != "") != c.bad {
				t.Errorf("%s, cut %d: %s, runs %v on a datastore of %s, bad %q; did %v", c.name, cut, k.Phase, run, m.datastore, k.IsBad(nextKube.ID), m.log)
			}
			for i, line := range m.log {
				// Nothing newer starts on a datastore that nobody saved, and
				// nothing older on one that a newer had, unless it cannot be saved.
				if line == "start v1.37.0" && !c.m.none && !slices.Contains(m.log[:i], "snapshot v1.36.3-v1.37.0") {
					t.Errorf("%s, cut %d: no snapshot: %v", c.name, cut, m.log)
				}
				back := line == "start "+own && i > 0 && slices.Contains(m.log[:i], "start v1.37.0")
				if back && !c.m.none && m.log[i-1] != "restore v1.36.3-v1.37.0" && m.log[i-1] != line {
					t.Errorf("%s, cut %d: the old one starts on the new datastore: %v", c.name, cut, m.log)
				}
			}
		}
	}
}

// TestTriesRunOut: a trial that restarts the machine has as many starts as it
// was given, and no more.
func TestTriesRunOut(t *testing.T) {
	m := &kubeMachine{datastore: own}
	disk := Kube{State: State{Phase: Armed, To: nextKube, From: Release{Version: own}}, Tries: 3}
	save := func(k Kube) error { disk = k; return nil }
	var ran []string
	for range 5 {
		_, run, err := m.start(t, disk, save)
		if err != nil {
			t.Fatal(err)
		}
		ran = append(ran, run.Version)
	}
	if got := strings.Join(ran, " "); got != "v1.37.0 v1.37.0 v1.37.0 v1.36.3 v1.36.3" {
		t.Errorf("ran %s", got)
	}
	if disk.Phase != RolledBack || !strings.Contains(disk.Text(), "the machine restarted; the datastore is that of v1.36.3-v1.37.0 again") {
		t.Errorf("%s: %s", disk.Phase, disk.Text())
	}
}

func TestPrepare(t *testing.T) {
	at := func(p Phase, change func(*Kube)) Kube {
		k := Kube{State: State{Phase: p, To: nextKube, From: Release{Version: own}}, Tries: 2}
		if change != nil {
			change(&k)
		}
		return k
	}
	for _, c := range []struct {
		name string
		m    kubeMachine
		k    Kube
		want Phase
		run  string
		says string // in the state's text, the note or the error
		err  error
	}{
		{"nothing was ever changed", kubeMachine{}, Kube{}, Idle, own, "", nil},
		{"staged only", kubeMachine{}, at(Staged, nil), Staged, own, "is staged", nil},
		{"armed", kubeMachine{}, at(Armed, nil), Trial, "v1.37.0", "on trial, 1 more starts", nil},
		{"the snapshot fails", kubeMachine{fail: "snapshot v1.36.3-v1.37.0"}, at(Armed, nil), RolledBack, own, "take a snapshot of the datastore: input/output error", nil},
		{"nothing to save", kubeMachine{none: true}, at(Armed, nil), Trial, "v1.37.0", "the datastore was not saved: it is elsewhere", nil},
		{"the image is damaged", kubeMachine{fail: "check " + nextKube.ID}, at(Armed, nil), RolledBack, own, "input/output error", nil},
		{"the image was damaged in the trial", kubeMachine{fail: "check " + nextKube.ID}, at(Trial, func(k *Kube) { k.Snapshot = "s" }), RolledBack, own, "the datastore is that of s again", nil},
		{"given up", kubeMachine{}, at(Trial, func(k *Kube) { k.Snapshot, k.Reason = "s", "no network" }), RolledBack, own, "no network; the datastore is that of s", nil},
		{"given up, and the snapshot cannot be read", kubeMachine{fail: "restore s"}, at(Trial, func(k *Kube) { k.Snapshot, k.Reason = "s", "x" }), Trial, "", "bring back its datastore", errors.New("any")},
		{"committed", kubeMachine{}, on(nextKube, "v1.37.0"), Idle, "v1.37.0", "", nil},
		{"committed and damaged, a patch up", kubeMachine{fail: "check " + sameKube.ID}, on(sameKube, own), Idle, own, "the system's own has to do", nil},
		{"committed and damaged, the datastore is newer", kubeMachine{fail: "check " + nextKube.ID}, on(nextKube, "v1.37.0"), Idle, "", "last used by v1.37.0", ErrOlder},
		{"an older system", kubeMachine{}, Kube{Datastore: "v1.37.0"}, Idle, "", "is older than its datastore", ErrOlder},
		{"back by a word, with its datastore", kubeMachine{}, Kube{State: State{Phase: Armed, To: Release{Version: own}, From: nextKube}, Current: nextKube, Own: own, Datastore: "v1.37.0", Restore: "s", Tries: 3}, Trial, own, "on trial", nil},
		{"back by a word, its datastore is damaged", kubeMachine{fail: "restore s"}, Kube{State: State{Phase: Armed, To: Release{Version: own}, From: nextKube}, Current: nextKube, Own: own, Datastore: "v1.37.0", Restore: "s", Tries: 3}, RolledBack, "v1.37.0", "bring back the datastore of s", nil},
	} {
		disk := c.k
		now, run, note, err := c.k.Prepare(t.Context(), &c.m, own, noon, func(k Kube) error { disk = k; return nil })
		if now.Phase != c.want || run.Version != c.run || (err == nil) != (c.err == nil) || errors.Is(c.err, ErrOlder) && !errors.Is(err, ErrOlder) {
			t.Errorf("%s: %q, runs %q, %v; want %q, %q, %v; did %v", c.name, now.Phase, run.Version, err, c.want, c.run, c.err, c.m.log)
		}
		if said := fmt.Sprint(now.Text(), note, err); !strings.Contains(said, c.says) {
			t.Errorf("%s: says %q, not %q", c.name, said, c.says)
		}
		if err == nil && fmt.Sprint(disk) != fmt.Sprint(now) {
			t.Errorf("%s: the disk has %+v, not %+v", c.name, disk, now)
		}
	}
}

// TestPrepareSavesFirst: what the disk says before kube starts is what a power
// cut leaves.
func TestPrepareSavesFirst(t *testing.T) {
	k := Kube{State: State{Phase: Armed, To: nextKube, From: Release{Version: own}}, Tries: 1}
	if _, run, _, err := k.Prepare(t.Context(), &kubeMachine{}, own, noon, func(Kube) error { return errors.New("disk full") }); err == nil || run.Version != "" {
		t.Errorf("a trial that could not be noted runs %v, %v", run, err)
	}
}

func TestBackAndSettled(t *testing.T) {
	committed := Kube{State: State{Phase: Committed, To: nextKube, From: Release{Version: own}}, Current: nextKube, Before: Release{Version: own}, Own: own, Datastore: "v1.37.0"}
	facts := KubeFacts{Own: own, Server: true, Snapshots: []Snapshot{{Name: "s", From: own, To: "v1.37.0"}}}
	if _, err := committed.BackKube(facts, Policy{}); !errors.Is(err, ErrDowngrade) {
		t.Errorf("back without a word: %v", err)
	}
	back, err := committed.BackKube(facts, Policy{Downgrade: true})
	if err != nil || back.To != (Release{Version: own}) || back.From != nextKube || back.Restore != "s" || back.Phase != Staged {
		t.Errorf("back is %+v, %v", back, err)
	}
	failed := committed // a further one was tried, and taken back
	failed.Phase, failed.To, failed.From = RolledBack, laterKube, nextKube
	if back, err := failed.BackKube(facts, Policy{Downgrade: true}); err != nil || back.To != (Release{Version: own}) || back.From != nextKube {
		t.Errorf("back after a failure is %+v, %v", back, err)
	}
	for _, busy := range []Phase{Armed, Trial} {
		failed.Phase = busy
		if _, err := failed.BackKube(facts, Policy{Downgrade: true}); !errors.Is(err, ErrBusy) {
			t.Errorf("back while %s: %v", busy, err)
		}
	}
	if _, err := (Kube{}).BackKube(facts, Policy{}); err == nil {
		t.Error("one can go back to nothing")
	}
	for _, c := range []struct {
		name      string
		k         Kube
		own       string
		server    bool
		current   Release
		datastore string
	}{
		{"a first start", Kube{}, own, true, Release{}, own},
		{"a worker", Kube{}, own, false, Release{}, ""},
		{"a choice stays", committed, own, true, nextKube, "v1.37.0"},
		{"a system overtakes it", committed, "v1.38.0", true, Release{}, "v1.38.0"},
		{"a system that must not start", Kube{Datastore: "v1.37.0"}, own, true, Release{}, "v1.37.0"},
		{"a trial is left alone", Kube{State: State{Phase: Trial, To: nextKube}, Datastore: own}, "v1.39.0", true, Release{}, own},
	} {
		got := c.k.Settled(c.own, c.server)
		if got.Current != c.current || got.Datastore != c.datastore {
			t.Errorf("%s: %v on a datastore of %q", c.name, got.Current, got.Datastore)
		}
	}
	for name, err := range map[string]error{
		"arm":             ArmKube(Kube{}, 3, nil),
		"arm for ever":    ArmKube(Kube{State: State{Phase: Staged}}, 99, nil),
		"keep":            KeepDatastore(Kube{State: State{Phase: Trial}, Snapshot: "s"}, nil),
		"commit":          CommitKube(Kube{State: State{Phase: Staged}}, own, true, nil),
		"commit too late": CommitKube(Kube{State: State{Phase: Trial, Reason: "x"}}, own, true, nil),
		"give up":         GiveUpKube(Kube{State: State{Phase: Committed}}, "x", nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestKeepDatastore is the way out when a snapshot cannot be read.
func TestKeepDatastore(t *testing.T) {
	k := Kube{State: State{Phase: Trial, To: nextKube, From: Release{Version: own}, Reason: "x"}, Snapshot: "s"}
	save := func(now Kube) error { k = now; return nil }
	m := &kubeMachine{fail: "restore s"}
	if _, _, _, err := k.Prepare(t.Context(), m, own, noon, save); err == nil || !strings.Contains(err.Error(), "--keep-datastore") {
		t.Errorf("Prepare = %v", err)
	}
	if err := KeepDatastore(k, save); err != nil {
		t.Fatal(err)
	}
	now, run, _, err := k.Prepare(t.Context(), m, own, noon, save)
	if err != nil || run.Version != own || now.Phase != RolledBack || !strings.Contains(now.Text(), "the datastore was not brought back") {
		t.Errorf("Prepare = %v, %v, %s", run, err, now.Text())
	}
}

func TestKubeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubernetes.json")
	if k, err := LoadKube(path); err != nil || k.Phase != Idle {
		t.Errorf("LoadKube without a file = %+v, %v", k, err)
	}
	k := on(nextKube, "v1.37.0")
	k.State = State{Phase: Trial, To: laterKube, From: nextKube, Changed: noon, Bad: []Bad{{oldKube, "why", noon}}}
	k.Tries, k.Snapshot = 2, "s"
	if err := k.Save(path); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadKube(path); err != nil || fmt.Sprint(got) != fmt.Sprint(k) {
		t.Errorf("LoadKube = %+v, %v, want %+v", got, err, k)
	}
	if err := os.WriteFile(path, []byte(`{"phase": "tri`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKube(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("LoadKube of a torn file = %v", err)
	}
}

// TestSystemTakenBack: a system that brings another minor version fails its
// trial, at each of whose starts the power may go; the datastore comes back.
func TestSystemTakenBack(t *testing.T) {
	const next = "v1.37.0"
	for cut := range 8 {
		m := &kubeMachine{snapshots: map[string]string{}, datastore: own}
		disk := Kube{Datastore: own}
		writes := 0
		save := func(k Kube) error {
			if writes++; writes == cut {
				return errors.New("power cut")
			}
			disk = k
			return nil
		}
		boot := func(version string, trial bool) {
			for range 2 { // again after a power cut
				k, _, err := disk.Guard(t.Context(), m, version, trial, save)
				if err != nil {
					continue
				}
				if _, _, _, err := k.Prepare(t.Context(), m, version, noon, save); err != nil {
					t.Fatalf("cut %d: %v", cut, err)
				}
				m.datastore = version
				return
			}
			t.Fatalf("cut %d: Kubernetes %s did not start", cut, version)
		}
		boot(next, true)
		boot(next, true)
		m.datastore = "migrated"
		k, note, err := disk.Guard(t.Context(), m, own, false, save)
		if err != nil {
			k, note, err = disk.Guard(t.Context(), m, own, false, save)
		}
		if err != nil || m.datastore != own || k.Held != "" || note == "" {
			t.Errorf("cut %d: back on %s: datastore of %s, held %q, note %q, %v", cut, own, m.datastore, k.Held, note, err)
		}
	}
	// A system that is committed keeps its datastore.
	m := &kubeMachine{snapshots: map[string]string{}, datastore: own}
	k, _, err := Kube{Datastore: own}.Guard(t.Context(), m, next, true, func(Kube) error { return nil })
	if err != nil || k.Held == "" {
		t.Fatalf("no snapshot: %+v, %v", k, err)
	}
	m.datastore = next
	k, note, err := k.Settled(next, true).Guard(t.Context(), m, next, false, func(Kube) error { return nil })
	if err != nil || k.Held != "" || note != "" || m.datastore != next {
		t.Errorf("committed: %+v, datastore of %s, note %q, %v", k, m.datastore, note, err)
	}
}

// TestSecondUpgrade: the machine does not restart between two upgrades of a minor
// version. The second has its own snapshot, and comes back with that.
func TestSecondUpgrade(t *testing.T) {
	const next, last = "v1.37.0", "v1.38.0"
	save := func(Kube) error { return nil }
	m := &kubeMachine{snapshots: map[string]string{}, datastore: own}
	k, _, err := Kube{Datastore: own}.Guard(t.Context(), m, next, true, save)
	if err != nil {
		t.Fatal(err)
	}
	k, m.datastore = k.Settled(next, true), next
	if k, _, err = k.Guard(t.Context(), m, last, true, save); err != nil || k.HeldFor != last {
		t.Fatalf("held for %q, %v", k.HeldFor, err)
	}
	m.datastore = "migrated"
	if _, note, err := k.Guard(t.Context(), m, next, false, save); err != nil || m.datastore != next || note == "" {
		t.Errorf("taken back: datastore of %s, note %q, %v", m.datastore, note, err)
	}
}

// TestKeepDatastoreEnds: a snapshot that finds no room, before the trial or after it,
// does not keep Kubernetes from starting for good.
func TestKeepDatastoreEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		k    Kube
		ok   bool
	}{
		{"given up", Kube{State: State{Phase: Trial, Reason: "x"}, Snapshot: "s"}, true},
		{"armed, on a snapshot", Kube{State: State{Phase: Armed}, Restore: "s"}, true},
		{"armed, with one taken", Kube{State: State{Phase: Armed}, Snapshot: "s", Restore: "r"}, true},
		{"armed, without", Kube{State: State{Phase: Armed}}, false},
		{"on trial", Kube{State: State{Phase: Trial}, Snapshot: "s"}, false},
		{"nothing", Kube{}, false},
	} {
		var kept Kube
		err := KeepDatastore(c.k, func(k Kube) error { kept = k; return nil })
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.ok {
			continue
		}
		m := &kubeMachine{snapshots: map[string]string{}, datastore: own}
		now, _, _, err := kept.Prepare(t.Context(), m, own, noon, func(Kube) error { return nil })
		if err != nil || now.Phase != RolledBack || m.datastore != own {
			t.Errorf("%s: %q, datastore of %s, %v", c.name, now.Phase, m.datastore, err)
		}
	}
}

func TestAdmitSystem(t *testing.T) {
	for _, c := range []struct {
		name string
		k    Kube
		own  string
		want error
	}{
		{"the same", Kube{Datastore: "v1.36.3"}, "v1.36.9", nil},
		{"one up", Kube{Datastore: "v1.36.3"}, "v1.37.0", nil},
		{"two up", Kube{Datastore: "v1.36.3"}, "v1.38.0", ErrSkew},
		{"one down", Kube{Datastore: "v1.36.3"}, "v1.35.9", ErrOlder},
		{"a worker", Kube{}, "v1.35.9", nil},
		{"no Kubernetes in it", Kube{Datastore: "v1.36.3"}, "", nil},
		{"one down, with the newer one beside it", on(nextKube, "v1.37.0"), "v1.36.3", nil},
	} {
		if err := c.k.AdmitSystem(c.own); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
