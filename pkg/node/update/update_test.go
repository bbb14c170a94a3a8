package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
)

var (
	old   = Release{"0.1.0", "0000000000000001"}
	fresh = Release{"0.2.0", "0000000000000002"}
	noon  = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
)

func TestBooted(t *testing.T) {
	inA, inB := Running{Release: old, Slot: "a"}, Running{Release: fresh, Slot: "b"}
	onTrial, unarmed := Running{Release: fresh, Slot: "b", Trial: true}, Running{Release: old, Slot: "a", Unarmed: true}
	byHand, after := Running{Release: fresh, Slot: "b", Good: "a"}, Running{Release: fresh, Slot: "b", Good: "a", Unarmed: true}
	at := func(p Phase, reason string) State {
		return State{Phase: p, Slot: "b", To: fresh, From: old, Reason: reason}
	}
	for _, c := range []struct {
		name string
		was  State
		r    Running
		want Phase
		says string
		bad  bool
	}{
		{"never upgraded", State{}, inA, Idle, "", false},
		{"staged only", at(Staged, ""), inA, Staged, "", false},
		{"armed, and its trial runs", at(Armed, ""), onTrial, Trial, "", false},
		{"armed, and never came up", at(Armed, ""), inA, RolledBack, "never came up", true},
		{"armed, power cut before the boot record", at(Armed, ""), unarmed, Staged, "", false},
		{"on trial, given up, and taken off the boot record", at(Trial, "no network"), unarmed, RolledBack, "no network", true},
		{"on trial, and started once more", at(Trial, ""), onTrial, Trial, "", false},
		{"on trial, and its tries ran out", at(Trial, ""), inA, RolledBack, "before it became healthy", true},
		{"on trial, given up with a reason", at(Trial, "no network"), inA, RolledBack, "no network", true},
		{"on trial, committed, power cut before the note", at(Trial, ""), inB, Committed, "", false},
		{"armed, and chosen in the menu before its trial", at(Armed, ""), byHand, Armed, "", false},
		{"on trial, and chosen in the menu between two tries", at(Trial, ""), byHand, Trial, "", false},
		{"on trial, given up, and chosen in the menu", at(Trial, "no network"), after, RolledBack, "no network", true},
		{"committed", at(Committed, ""), inB, Committed, "", false},
		{"committed, and no longer starts: the other slot is tried", State{Phase: Committed, Slot: "a", To: old, Bad: nil}, onTrial, Trial, "", false},
		{"on trial, with its state lost", State{}, onTrial, Trial, "", false},
		{"staged, and tried since the committed one does not start", at(Staged, ""), onTrial, Trial, "", false},
		{"taken back", at(RolledBack, "why"), inA, RolledBack, "why", false},
	} {
		got := c.was.Booted(c.r, noon)
		if got.Phase != c.want || !strings.Contains(got.Reason, c.says) || c.says == "" && got.Reason != "" {
			t.Errorf("%s: %q with %q, want %q with %q", c.name, got.Phase, got.Reason, c.want, c.says)
		}
		if bad := got.IsBad(fresh.ID) != ""; bad != c.bad {
			t.Errorf("%s: bad is %v", c.name, bad)
		}
		if again := got.Booted(c.r, noon); again.Phase != got.Phase || len(again.Bad) != len(got.Bad) {
			t.Errorf("%s: the next start changes %+v to %+v", c.name, got, again)
		}
	}
}

func TestJudge(t *testing.T) {
	s := State{Failing: []string{"was broken"}}
	for want, failed := range map[string]map[string]error{
		"":                           {"was broken": errors.New("x")},
		`health check "new": exit 1`: {"was broken": errors.New("x"), "new": errors.New("exit 1")},
		`health check "a": 1; health check "b": 2`: {"b": errors.New("2"), "a": errors.New("1")},
	} {
		if got := s.Judge(failed); got != want {
			t.Errorf("Judge(%v) = %q, want %q", failed, got, want)
		}
	}
	if got := s.Judge(nil); got != "" {
		t.Errorf("Judge of no failure = %q", got)
	}
}

func TestBadIsBounded(t *testing.T) {
	var s State
	for n := range 3 * maxBad {
		s.To.ID = fmt.Sprint(n % (2 * maxBad))
		s.markBad("x", noon)
	}
	if len(s.Bad) != maxBad || s.Bad[maxBad-1].ID != s.To.ID {
		t.Errorf("%d bad releases, the last is %s", len(s.Bad), s.Bad[len(s.Bad)-1].ID)
	}
}

func TestAdmit(t *testing.T) {
	installed := Running{Release: old, Slot: "a"}
	image := func(version, arch, id string, size int64) *release.Image {
		return &release.Image{Manifest: release.Manifest{Name: "kedge", Version: version, Arch: arch, ID: id}, Size: size}
	}
	good := image("0.2.0", "amd64", fresh.ID, 100)
	after := func(versions string) *release.Image {
		i := image("0.2.0", "amd64", fresh.ID, 100)
		i.Manifest.UpgradeFrom = versions
		return i
	}
	failed := State{Bad: []Bad{{fresh, "kube did not start", noon}}}
	for _, c := range []struct {
		name  string
		image *release.Image
		r     Running
		s     State
		p     Policy
		want  error
	}{
		{"a newer one", good, installed, State{}, Policy{}, nil},
		{"from a medium", good, Running{Release: old, Slot: ""}, State{}, Policy{}, ErrNotInstalled},
		{"Kubernetes alone", &release.Image{Manifest: release.Manifest{Kind: release.Kubernetes}}, installed, State{}, Policy{}, release.ErrKind},
		{"during a trial", good, Running{Release: old, Slot: "a", Trial: true}, State{}, Policy{}, ErrBusy},
		{"another architecture", image("0.2.0", "arm64", fresh.ID, 100), installed, State{}, Policy{}, ErrArch},
		{"the same", image("0.1.0", "amd64", old.ID, 100), installed, State{}, Policy{}, ErrSame},
		{"the same, to mend a slot", image("0.1.0", "amd64", old.ID, 100), installed, State{}, Policy{Same: true}, nil},
		{"the same version, other content", image("0.1.0", "amd64", "3", 100), installed, State{}, Policy{}, nil},
		{"older", image("0.0.9", "amd64", "3", 100), installed, State{}, Policy{}, ErrDowngrade},
		{"older by its suffix", image("0.1.0-rc.1", "amd64", "3", 100), installed, State{}, Policy{}, ErrDowngrade},
		{"older, allowed", image("0.0.9", "amd64", "3", 100), installed, State{}, Policy{Downgrade: true}, nil},
		{"a version of another form", image("nightly", "amd64", "3", 100), installed, State{}, Policy{}, nil},
		{"bad", good, installed, failed, Policy{}, ErrBad},
		{"bad, once more", good, installed, failed, Policy{Bad: true}, nil},
		{"the same, which may follow only others", func() *release.Image { i := after("<0.1.0"); i.Manifest.ID = old.ID; return i }(), installed, State{}, Policy{Same: true}, nil},
		{"may follow", after(">=0.1.0"), installed, State{}, Policy{}, nil},
		{"may not follow", after(">=0.1.5 <0.2.0"), installed, State{}, Policy{}, ErrFrom},
		{"may not follow, allowed", after(">=0.1.5"), installed, State{}, Policy{From: true}, nil},
		{"may follow what nobody understands", after("~0.1"), installed, State{}, Policy{}, ErrFrom},
		{"may follow versions, but a nightly runs", after(">=0.1.0"), Running{Release: Release{"nightly", "4"}, Slot: "a"}, State{}, Policy{}, ErrFrom},
		{"too large", image("0.2.0", "amd64", fresh.ID, 1001), installed, State{}, Policy{}, ErrTooLarge},
	} {
		if err := Admit(c.image, c.r, c.s, c.p, "amd64", 1000); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: Admit = %v, want %v", c.name, err, c.want)
		}
	}
}

// slots writes down what it is asked, and fails where it is told to.
type slots struct {
	log  []string
	fail string
}

func (s *slots) note(line string) error {
	s.log = append(s.log, line)
	if line == s.fail {
		return errors.New("input/output error")
	}
	return nil
}

func (s *slots) Disarm() error { return s.note("disarm") }
func (s *slots) Write(_ context.Context, _ *release.Image, partition string, _ func(int64)) error {
	return s.note("write " + partition)
}
func (s *slots) Arm(slot string, tries int) error {
	return s.note(fmt.Sprint("arm ", slot, " ", tries))
}
func (s *slots) Commit(slot string) error { return s.note("commit " + slot) }

// TestLife takes a machine from a staged release to a committed one, and breaks
// every step: what is on disk then must be true.
func TestLife(t *testing.T) {
	image := &release.Image{Manifest: release.Manifest{Version: fresh.Version, ID: fresh.ID}}
	life := func(m *slots, states *[]State) error {
		save := func(s State) error {
			*states = append(*states, s)
			return m.note("save " + string(s.Phase))
		}
		last := func() State { return (*states)[len(*states)-1] }
		if err := Stage(context.Background(), m, image, Running{Release: old, Slot: "a"}, State{}, nil, save); err != nil {
			return err
		}
		if err := Arm(m, last(), 3, save); err != nil {
			return err
		}
		*states = append(*states, last().Booted(Running{Release: fresh, Slot: "b", Trial: true}, noon))
		return Commit(m, last(), save)
	}
	whole := &slots{}
	var states []State
	if err := life(whole, &states); err != nil {
		t.Fatal(err)
	}
	want := "disarm, save , write KEDGE-B, save staged, save armed, arm b 3, commit b, save committed"
	if got := strings.Join(whole.log, ", "); got != want {
		t.Errorf("did %s, want %s", got, want)
	}
	for n, step := range whole.log {
		m, states := &slots{fail: step}, []State(nil)
		if err := life(m, &states); err == nil || len(m.log) != n+1 {
			t.Errorf("%s fails: %v, did %v", step, err, m.log)
		}
		if strings.HasPrefix(step, "write") && states[len(states)-1].Phase != Idle {
			t.Errorf("%s fails: the state says %q of a slot that is half written", step, states[len(states)-1].Phase)
		}
	}
	if err := Arm(&slots{}, State{}, 3, nil); err == nil {
		t.Error("nothing can be armed")
	}
	if err := Commit(&slots{}, State{Phase: Staged}, nil); err == nil {
		t.Error("what is not on trial can be committed")
	}
	if err := Commit(&slots{}, State{Phase: Trial, Reason: "no network"}, nil); err == nil {
		t.Error("a trial that is given up can be committed")
	}
	if err := GiveUp(&slots{}, State{Phase: Committed}, "x", nil); err == nil {
		t.Error("what is not on trial can be given up")
	}
}

// TestStray: a slot runs that is not the committed one. That one must not be
// written to before the running one has its place.
func TestStray(t *testing.T) {
	image := &release.Image{Manifest: release.Manifest{Version: fresh.Version, ID: fresh.ID}}
	stray := Running{Release: old, Slot: "b", Good: "a", Unarmed: true}
	m := &slots{}
	save := func(s State) error { return m.note("save " + string(s.Phase)) }
	if err := Stage(t.Context(), m, image, stray, State{}, nil, save); err != nil {
		t.Error(err)
	}
	if got, want := strings.Join(m.log, ", "), "commit b, disarm, save , write KEDGE-A, save staged"; got != want {
		t.Errorf("did %s, want %s", got, want)
	}
	m = &slots{fail: "commit b"}
	if err := Stage(t.Context(), m, image, stray, State{}, nil, save); err == nil || len(m.log) != 1 {
		t.Errorf("the record cannot be written: %v, did %v", err, m.log)
	}
	// Going back to what runs needs no restart.
	m = &slots{}
	var kept State
	keep := func(s State) error { kept = s; return save(s) }
	upgraded := State{Phase: Committed, Slot: "a", To: fresh, From: old}
	if err := Return(m, upgraded, stray, "somebody took it back", keep); err != nil || strings.Join(m.log, ", ") != "commit b, save rolled back" || kept.Reason == "" {
		t.Errorf("Return = %v, did %v", err, m.log)
	}
	if err := Return(m, State{Phase: Committed, Slot: "b"}, stray, "x", keep); err == nil {
		t.Error("what was upgraded to counts as what was before")
	}
}

// TestEnds: no full disk keeps a machine from going back, and what is armed can be
// called off.
func TestEnds(t *testing.T) {
	m := &slots{fail: "save trial"}
	save := func(s State) error { return m.note("save " + string(s.Phase)) }
	if err := GiveUp(m, State{Phase: Trial, Slot: "b"}, "no network", save); err != nil || strings.Join(m.log, ", ") != "save trial, disarm" {
		t.Errorf("GiveUp on a full disk = %v, did %v", err, m.log)
	}
	m = &slots{fail: "disarm"}
	if err := GiveUp(m, State{Phase: Trial, Slot: "b"}, "no network", save); err == nil {
		t.Error("GiveUp without a record succeeds")
	}
	m = &slots{}
	if err := Unarm(m, State{Phase: Armed, Slot: "b", To: fresh}, save); err != nil || strings.Join(m.log, ", ") != "disarm, save staged" {
		t.Errorf("Unarm = %v, did %v", err, m.log)
	}
	if err := Unarm(m, State{Phase: Staged}, save); err == nil {
		t.Error("what is not armed can be called off")
	}
}

// TestNoOtherSlot: the committed slot does not start, and the other one is not
// healthy. It is given up once; when it is all there is, it stays.
func TestNoOtherSlot(t *testing.T) {
	onTrial := Running{Release: old, Slot: "a", Trial: true, Good: "b"}
	first := State{Phase: Committed, Slot: "b", To: fresh, From: old}.Booted(onTrial, noon)
	if first.Phase != Trial || first.Last || !first.Undecided() {
		t.Fatalf("the first time: %+v", first)
	}
	m := &slots{}
	if err := Keep(m, first, "not Ready", nil); err == nil {
		t.Error("it is kept the first time")
	}
	given := first
	given.Reason = "not Ready"
	again := given.Booted(onTrial, noon)
	if again.Phase != Trial || !again.Last || !again.Undecided() {
		t.Fatalf("the second time: %+v", again)
	}
	var kept State
	if err := Keep(m, again, "not Ready", func(s State) error { kept = s; return nil }); err != nil || strings.Join(m.log, ", ") != "commit a" {
		t.Errorf("Keep = %v, did %v", err, m.log)
	}
	if kept.Phase != Committed || !strings.Contains(kept.Text(), "slot b does not start: not Ready") {
		t.Errorf("kept: %q", kept.Text())
	}
	now := onTrial
	now.Boot, given.Boot = "this", "this"
	if still := given.Booted(now, noon); still.Last || still.Undecided() {
		t.Errorf("what was given up in this boot is on trial again: %+v", still)
	}
	// Once the committed slot has started, all is as it was.
	back := given.Booted(Running{Release: fresh, Slot: "b", Good: "b", Unarmed: true}, noon)
	if back.Phase != RolledBack || back.Booted(onTrial, noon).Last {
		t.Errorf("back: %+v", back)
	}
}

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "upgrade.json")
	if s, err := Load(path); err != nil || s.Phase != Idle {
		t.Errorf("Load without a file = %+v, %v", s, err)
	}
	s := State{Phase: Trial, Slot: "b", To: fresh, From: old, Changed: noon, Bad: []Bad{{old, "why", noon}}}
	if err := s.Save(path); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(path); err != nil || fmt.Sprint(got) != fmt.Sprint(s) {
		t.Errorf("Load = %+v, %v, want %+v", got, err, s)
	}
	if err := os.WriteFile(path, []byte(`{"phase": "tri`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Load of a torn file = %v", err)
	}
}
