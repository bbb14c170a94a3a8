package request

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
	"github.com/kedgeos/kedge/pkg/node/update"
)

var v1, v2, v3 = "sha256:" + strings.Repeat("1", 64), "sha256:" + strings.Repeat("2", 64), "sha256:" + strings.Repeat("3", 64)

func image(digest string) *ask.Image {
	return &ask.Image{Name: "registry.example/kedge:v2", Digest: digest}
}

// A fakeMachine writes down what is asked of it.
type fakeMachine struct {
	mu     sync.Mutex
	status ask.Status
	asked  []string
	fail   map[string]error
	hold   chan struct{} // Stage waits for it
	held   chan struct{} // and tells here that it does
}

func (m *fakeMachine) did(format string, args ...any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	what := fmt.Sprintf(format, args...)
	m.asked = append(m.asked, what)
	verb, _, _ := strings.Cut(what, " ")
	return m.fail[verb]
}

func (m *fakeMachine) log() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.asked, ", ")
}

func (m *fakeMachine) Status(context.Context) (ask.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status, m.fail["status"]
}

func (m *fakeMachine) set(f func(*ask.Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.status)
}

func (m *fakeMachine) Stage(ctx context.Context, p ask.Part, i ask.Image, s ask.Stage, report Progress) error {
	report("fetch", 1, 2)
	if m.hold != nil {
		m.held <- struct{}{}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.hold:
		}
	}
	if err := m.did("stage %s %s", p, i.Reference()); err != nil {
		return err
	}
	m.set(func(s *ask.Status) {
		now := &s.OS
		if p == ask.Kubernetes {
			now = &s.Kubernetes
		}
		now.Phase, now.To = ask.Staged, ask.Release{Digest: i.Digest}
	})
	return nil
}

func (m *fakeMachine) Snapshot(_ context.Context, s ask.Snapshot) error {
	m.set(func(st *ask.Status) { st.Saved = &ask.Saved{At: s.At, Name: "one"} })
	return m.did("snapshot")
}

func (m *fakeMachine) Arm(_ context.Context, a ask.Activate) error {
	if err := m.did("arm %s", a.Part); err != nil {
		return err
	}
	m.set(func(s *ask.Status) { s.OS.Phase = ask.Armed })
	return nil
}

func (m *fakeMachine) Confirm(_ context.Context, c ask.Confirm) error {
	m.set(func(s *ask.Status) { s.OS.Held = false })
	return m.did("confirm %s", c.Part)
}

func (m *fakeMachine) Back(_ context.Context, b ask.Rollback) (bool, error) {
	return b.Part == ask.OS, m.did("back %s", b.Part)
}
func (m *fakeMachine) Forget(context.Context) error { return m.did("forget") }
func (m *fakeMachine) Restart(context.Context)      { _ = m.did("restart") }
func (m *fakeMachine) Explain(err error) *ask.Error {
	return &ask.Error{Reason: ask.Failed, Message: err.Error(), Hint: "try something else"}
}

// serve answers on a socket of its own until the test ends.
func serve(t *testing.T, m *fakeMachine) (ask.Client, *Desk) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "upgrade/agent.sock")
	d := &Desk{Machine: m}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, Socket{Path: path, Group: os.Getgid()}, d) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	c := ask.Client{Socket: path}
	for range 500 {
		if _, err := c.Status(t.Context()); !errors.Is(err, ask.ErrNoAgent) {
			return c, d
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nobody answers")
	return c, d
}

func TestSocketIsClosedToOthers(t *testing.T) {
	c, _ := serve(t, &fakeMachine{})
	for path, want := range map[string]os.FileMode{c.Socket: 0o660, filepath.Dir(c.Socket): 0o750} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestSocketComesAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Serve(ctx, Socket{Path: path, Group: -1}, &Desk{Machine: &fakeMachine{}}) }()
		for {
			if _, err := (ask.Client{Socket: path}).Status(ctx); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if _, err := (ask.Client{Socket: path}).Status(t.Context()); !errors.Is(err, ask.ErrNoAgent) {
		t.Errorf("without an agent: %v", err)
	}
}

func TestStageGoesOnInTheBackground(t *testing.T) {
	m := &fakeMachine{hold: make(chan struct{}), held: make(chan struct{}, 2)}
	c, d := serve(t, m)
	both := ask.Stage{OS: image(v2), Kubernetes: image(v3)}
	for range 3 { // asking again is no error
		s, err := c.Stage(t.Context(), both)
		if err != nil || s.Work == nil || s.Work.Over {
			t.Fatalf("Stage = %+v, %v", s.Work, err)
		}
	}
	if _, err := c.Stage(t.Context(), ask.Stage{OS: image(v1)}); ask.ReasonOf(err) != ask.Busy {
		t.Errorf("another stage = %v", err)
	}
	if _, err := c.Snapshot(t.Context(), ask.Snapshot{At: time.Now()}); ask.ReasonOf(err) != ask.Busy {
		t.Errorf("a snapshot meanwhile = %v", err)
	}
	<-m.held
	if s, _ := c.Status(t.Context()); s.Work.Step != "fetch" || s.Work.Done != 1 || s.Work.Total != 2 {
		t.Errorf("work is %+v", s.Work)
	}
	close(m.hold)
	d.Wait()
	s, err := c.Stage(t.Context(), both)
	if err != nil || !s.Work.Over || s.Work.Error != nil || s.OS.Phase != ask.Staged {
		t.Errorf("then: %+v, %v", s, err)
	}
	want := "stage os registry.example/kedge@" + v2 + ", stage kubernetes registry.example/kedge@" + v3
	if got := m.log(); got != want {
		t.Errorf("did %s\nwant %s", got, want)
	}
}

func TestStageThatFails(t *testing.T) {
	m := &fakeMachine{fail: map[string]error{"stage": errors.New("no room")}}
	c, d := serve(t, m)
	for range 2 { // and once more when it is asked again
		if _, err := c.Stage(t.Context(), ask.Stage{OS: image(v2)}); err != nil {
			t.Fatal(err)
		}
		d.Wait()
	}
	s, _ := c.Status(t.Context())
	if w := s.Work; w == nil || !w.Over || w.Error == nil || w.Error.Message != "stage os: no room" || w.Error.Hint != "try something else" {
		t.Errorf("work is %+v", s.Work)
	}
	if got := strings.Count(m.log(), "stage"); got != 2 {
		t.Errorf("tried %d times", got)
	}
}

func TestCancel(t *testing.T) {
	m := &fakeMachine{hold: make(chan struct{}), held: make(chan struct{}, 2)}
	c, _ := serve(t, m)
	if _, err := c.Stage(t.Context(), ask.Stage{OS: image(v2)}); err != nil {
		t.Fatal(err)
	}
	s, err := c.Cancel(t.Context())
	if err != nil || !s.Work.Over || s.Work.Error.Reason != ask.Interrupted || m.log() != "forget" {
		t.Errorf("Cancel = %+v, %v; did %s", s.Work, err, m.log())
	}
}

func TestActivate(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	state := func(p ask.Phase, running, to string) ask.State {
		return ask.State{Phase: p, Running: ask.Release{Digest: running}, To: ask.Release{Digest: to}}
	}
	bad := state(ask.Staged, v1, v2)
	bad.Bad = []ask.Bad{{Release: ask.Release{Digest: v2}, Reason: "unhealthy"}}
	for _, c := range []struct {
		name   string
		is     ask.State
		a      ask.Activate
		reason string
		did    string
	}{
		{"what is staged", state(ask.Staged, v1, v2), ask.Activate{Digest: v2}, "", "arm os, restart"},
		{"in time", state(ask.Staged, v1, v2), ask.Activate{Digest: v2, NotAfter: now}, "", "arm os, restart"},
		{"too late", state(ask.Staged, v1, v2), ask.Activate{Digest: v2, NotAfter: now.Add(-time.Second)}, ask.Late, ""},
		{"armed, the agent died before the restart", state(ask.Armed, v1, v2), ask.Activate{Digest: v2, NotAfter: now.Add(-time.Hour)}, "", "restart"},
		{"on trial", state(ask.Trial, v2, v2), ask.Activate{Digest: v2}, "", ""},
		{"kept", state(ask.Committed, v2, v2), ask.Activate{Digest: v2}, "", ""},
		{"taken back", state(ask.RolledBack, v1, v2), ask.Activate{Digest: v2}, ask.KnownBad, ""},
		{"another is staged", state(ask.Staged, v1, v3), ask.Activate{Digest: v2}, ask.NotStaged, ""},
		{"nothing is staged", state(ask.Idle, v1, ""), ask.Activate{Digest: v2}, ask.NotStaged, ""},
		{"another is armed", state(ask.Armed, v1, v3), ask.Activate{Digest: v2}, ask.NotStaged, ""},
		{"it failed before", bad, ask.Activate{Digest: v2}, ask.KnownBad, ""},
		{"it failed before, again", bad, ask.Activate{Digest: v2, Again: true}, "", "arm os, restart"},
		{"no digest", state(ask.Staged, v1, v2), ask.Activate{}, ask.Invalid, ""},
		{"no part", state(ask.Staged, v1, v2), ask.Activate{Part: "bios", Digest: v2}, ask.Invalid, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &fakeMachine{status: ask.Status{OS: c.is}}
			d := &Desk{Machine: m, Now: func() time.Time { return now }}
			if c.a.Part == "" {
				c.a.Part = ask.OS
			}
			err := d.activate(t.Context(), c.a)
			if ask.ReasonOf(err) != c.reason || (err == nil) != (c.reason == "") || m.log() != c.did {
				t.Errorf("activate = %v; did %q, want %q", err, m.log(), c.did)
			}
		})
	}
}

func TestRollback(t *testing.T) {
	for _, c := range []struct {
		name string
		is   ask.State
		part ask.Part
		did  string
	}{
		{"a system", ask.State{Phase: ask.Committed, Running: ask.Release{Digest: v2}}, ask.OS, "back os, restart"},
		{"Kubernetes alone", ask.State{Phase: ask.Committed, Running: ask.Release{Digest: v2}}, ask.Kubernetes, "back kubernetes"},
		{"already gone", ask.State{Phase: ask.Committed, Running: ask.Release{Digest: v1}}, ask.OS, ""},
		{"armed to go back", ask.State{Phase: ask.Armed, Running: ask.Release{Digest: v2}, To: ask.Release{Digest: v1}}, ask.OS, "restart"},
		{"on trial", ask.State{Phase: ask.Trial, Running: ask.Release{Digest: v2}, To: ask.Release{Digest: v2}}, ask.OS, "back os, restart"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &fakeMachine{status: ask.Status{OS: c.is, Kubernetes: c.is}}
			if err := (&Desk{Machine: m}).rollback(t.Context(), ask.Rollback{Part: c.part, Digest: v2}); err != nil || m.log() != c.did {
				t.Errorf("rollback = %v; did %q, want %q", err, m.log(), c.did)
			}
		})
	}
}

func TestConfirm(t *testing.T) {
	state := func(p ask.Phase, held bool) ask.State {
		return ask.State{Phase: p, Held: held, Running: ask.Release{Digest: v2}, To: ask.Release{Digest: v2}}
	}
	for _, c := range []struct {
		name   string
		is     ask.State
		digest string
		did    string
		reason string
	}{
		{"held", state(ask.Trial, true), v2, "confirm os", ""},
		{"not held", state(ask.Trial, false), v2, "", ""},
		{"kept already", state(ask.Committed, false), v2, "", ""},
		{"another one", state(ask.Trial, true), v1, "", ask.NotPossible},
		{"taken back", state(ask.RolledBack, false), v2, "", ask.NotPossible},
		{"none", state(ask.Trial, true), "", "", ask.Invalid},
	} {
		m := &fakeMachine{status: ask.Status{OS: c.is}}
		err := (&Desk{Machine: m}).confirm(t.Context(), ask.Confirm{Part: ask.OS, Digest: c.digest})
		if ask.ReasonOf(err) != c.reason || m.log() != c.did {
			t.Errorf("%s: confirm = %v; did %q, want %q", c.name, err, m.log(), c.did)
		}
	}
}

func TestSnapshotOnce(t *testing.T) {
	m := &fakeMachine{}
	c, d := serve(t, m)
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for range 2 {
		if _, err := c.Snapshot(t.Context(), ask.Snapshot{At: at}); err != nil {
			t.Fatal(err)
		}
		d.Wait()
	}
	s, _ := c.Status(t.Context())
	if m.log() != "snapshot" || s.Saved == nil || s.Saved.Name != "one" {
		t.Errorf("did %s, saved %+v", m.log(), s.Saved)
	}
}

func TestUnsoundRequests(t *testing.T) {
	c, _ := serve(t, &fakeMachine{})
	for _, s := range []ask.Stage{
		{}, {OS: &ask.Image{Name: "registry.example/kedge", Digest: "sha256:12"}},
		{OS: &ask.Image{Name: "/etc/shadow", Digest: v2}}, {OS: &ask.Image{Name: "usb", Digest: v2}},
		{OS: &ask.Image{Name: "http://host.example/kedge.iso", Digest: v2}}, {Kubernetes: &ask.Image{Name: "oci:/srv/a.b/c", Digest: v2}},
		{OS: &ask.Image{Name: "../x/y", Digest: v2}},
	} {
		if _, err := c.Stage(t.Context(), s); ask.ReasonOf(err) != ask.Invalid {
			t.Errorf("Stage(%+v) = %v", s.OS, err)
		}
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
	}}}
	for _, r := range []struct {
		method, path, body string
		code               int
	}{
		{"POST", "/v1/stage", `{"os":null,"allow_unsigned":true}`, 400}, {"POST", "/v1/stage", `{`, 400},
		{"POST", "/v1/arm", `{}`, 404}, {"POST", "/v1/confirm", `{}`, 400}, {"GET", "/v1/stage", ``, 405}, {"POST", "/v1/stage", `{"os":{"name":"` + strings.Repeat("x", maxRequest) + `"}}`, 400},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), r.method, "http://agent"+r.path, strings.NewReader(r.body))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != r.code {
			t.Errorf("%s %s %.40s: %s, want %d", r.method, r.path, r.body, resp.Status, r.code)
		}
	}
}

func TestReference(t *testing.T) {
	for name, want := range map[string]string{
		"registry.example/kedge:v1":            "registry.example/kedge@",
		"registry.example:5000/os/kedge":       "registry.example:5000/os/kedge@",
		"registry.example:5000/kedge:v1@" + v1: "registry.example:5000/kedge@",
	} {
		if got := (ask.Image{Name: name, Digest: v2}).Reference(); got != want+v2 {
			t.Errorf("Reference of %s = %s", name, got)
		}
	}
}

func TestProbes(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/away", http.StatusFound)
		} else if r.URL.Path != "/well" {
			http.Error(w, "no", http.StatusTeapot)
		}
	}))
	defer s.Close()
	address := s.Listener.Addr().String()
	failed := Probes(t.Context(), []update.Probe{
		{Name: "well", URL: s.URL + "/well"}, {Name: "moved", URL: s.URL + "/moved"}, {Name: "ill", URL: s.URL + "/ill"},
		{Name: "port", TCP: address}, {Name: "closed", TCP: "127.0.0.1:1"},
	})
	if len(failed) != 2 || failed["probe ill"] == nil || failed["probe closed"] == nil {
		t.Errorf("failed: %v", failed)
	}
}
