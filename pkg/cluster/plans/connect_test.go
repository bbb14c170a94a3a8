package plans

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// serve is an API server that holds a world, or answers every request with one
// status.
func serve(t *testing.T, w world, code int, reason string) (*Cluster, *[]string) {
	t.Helper()
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type")+" "+string(body)))
		rw.Header().Set("Content-Type", "application/json")
		if code != 0 {
			rw.WriteHeader(code)
			fmt.Fprintf(rw, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"plans is %s"}`, reason, code, reason)
			return
		}
		var items any
		switch r.URL.Path {
		case plansPath:
			items = w.plans
		case upgradesPath:
			items = w.upgrades
		case nodesPath:
			items = w.nodes
		case eventsPath:
			items = w.events
		default:
			items = []string{}
		}
		json.NewEncoder(rw).Encode(map[string]any{"items": items})
	}))
	t.Cleanup(s.Close)
	c, err := newCluster(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c, &asked
}

func TestLook(t *testing.T) {
	w := read(t, "fleet.yaml")
	c, asked := serve(t, w, 0, "")
	p, err := c.Look(t.Context(), "fleet")
	if err != nil || len(p.Nodes) != 7 || len(p.Events) != 2 || p.Message != w.plans[0].Status.Message {
		t.Errorf("Look = %+v, %v", p, err)
	}
	if _, err := c.Look(t.Context(), "flet"); !errors.Is(err, ErrNoPlan) || err.Error() != "no such plan: flet; there are: fleet" {
		t.Errorf("Look = %v", err)
	}
	*asked = nil
	if err := c.Apply(t.Context(), p, Change{Spec: map[string]any{"paused": true}}); err != nil {
		t.Fatal(err)
	}
	want := "PATCH " + plansPath + `/fleet application/merge-patch+json {"metadata":{"uid":"p1"},"spec":{"paused":true}}`
	if got := strings.Join(*asked, "\n"); got != want {
		t.Errorf("Apply asked\n%s\nwant\n%s", got, want)
	}
	*asked = nil
	if err := c.Apply(t.Context(), p, Change{}); err != nil || len(*asked) > 0 {
		t.Errorf("Apply of nothing = %v, asked %q", err, *asked)
	}
}

func TestLookFails(t *testing.T) {
	for _, c := range []struct {
		code   int
		reason string
		want   error
	}{
		{http.StatusNotFound, "NotFound", ErrNoController},
		{http.StatusForbidden, "Forbidden", ErrForbidden},
		{http.StatusUnauthorized, "Unauthorized", ErrUnauthorized},
		{http.StatusInternalServerError, "InternalError", nil},
	} {
		cluster, _ := serve(t, world{}, c.code, c.reason)
		_, err := cluster.Look(t.Context(), "fleet")
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "list plans: ") {
			t.Errorf("%d: Look = %v, want %v", c.code, err, c.want)
		}
	}
	cluster, _ := serve(t, world{}, http.StatusNotFound, "NotFound")
	if err := cluster.Apply(t.Context(), read(t, "fleet.yaml").picture(), Change{Spec: map[string]any{}}); !errors.Is(err, ErrNoPlan) {
		t.Errorf("Apply = %v", err)
	}
	c, err := newCluster(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Look(t.Context(), "fleet"); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "http://127.0.0.1:1") || strings.Contains(err.Error(), "Get ") {
		t.Errorf("Look = %v", err)
	}
}

const kubeconfig = `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://%s"}}]
contexts: [{name: here, context: {cluster: c}}, {name: there, context: {cluster: c}}]
current-context: here
`

func TestConnect(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("KUBECONFIG", "")
	write := func(name, host string) string {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(fmt.Sprintf(kubeconfig, host)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	host := func(o Options) string {
		c, err := Connect(o)
		if err != nil {
			return err.Error()
		}
		return c.host
	}
	if _, err := os.Stat(k3sConfig); err != nil {
		if _, err := Connect(Options{}); !errors.Is(err, ErrNoConfig) || !strings.Contains(err.Error(), ".kube/config or "+k3sConfig) {
			t.Errorf("Connect = %v", err)
		}
	}
	write(".kube/config", "usual")
	if got := host(Options{}); got != "http://usual" {
		t.Errorf("host %s", got)
	}
	t.Setenv("KUBECONFIG", filepath.Join(home, "none")+":"+write("named", "environment"))
	if got := host(Options{}); got != "http://environment" {
		t.Errorf("host %s", got)
	}
	if got := host(Options{Kubeconfig: write("flag", "flag"), Context: "there"}); got != "http://flag" {
		t.Errorf("host %s", got)
	}
	if _, err := Connect(Options{Context: "nowhere"}); !errors.Is(err, ErrContext) || !strings.HasSuffix(err.Error(), `"nowhere"; there are: here, there`) {
		t.Errorf("Connect = %v", err)
	}
	if _, err := Connect(Options{Kubeconfig: filepath.Join(home, "gone")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Connect = %v", err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(home, "gone"))
	if _, err := Connect(Options{}); !errors.Is(err, ErrNoConfig) {
		t.Errorf("Connect = %v", err)
	}
	if err := os.WriteFile(filepath.Join(home, "bad"), []byte("}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(Options{Kubeconfig: filepath.Join(home, "bad")}); err == nil || !strings.HasPrefix(err.Error(), "read kubeconfig: ") {
		t.Errorf("Connect = %v", err)
	}
}

func TestWatch(t *testing.T) {
	rolling, halted := read(t, "fleet.yaml").picture(), edited(t, halt).picture()
	gone := fmt.Errorf("%w: refused", ErrUnreachable)
	watch := func(s Screen, looks ...any) (Picture, error) {
		return Watch(t.Context(), func(context.Context) (Picture, error) {
			next := looks[0]
			looks = looks[1:]
			if err, failed := next.(error); failed {
				return Picture{}, err
			}
			return next.(Picture), nil
		}, time.Microsecond, s)
	}
	var b strings.Builder
	p, err := watch(&Lines{W: &b, Local: time.UTC}, rolling, rolling, gone, gone, rolling, halted)
	if err != nil || p.Phase != "Halted" {
		t.Errorf("Watch = %v, %v", p.Phase, err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []string{
		"12:00:00 fleet: Rolling 1/7: edge-2 drains",
		"12:00:00 fleet: 1 done, 1 staged",
		"still trying: the cluster does not answer: refused",
		"12:00:00 the cluster answers again, after ",
		"12:00:00 fleet: Halted 1/7, 1 failed: halted: 1 of 1",
		"12:00:00 edge-1: failed: not healthy",
	} {
		if i >= len(lines) || !strings.Contains(lines[i], want) {
			t.Errorf("line %d is not %q in\n%s", i, want, b.String())
		}
	}
	if len(lines) != 6 {
		t.Errorf("%d lines:\n%s", len(lines), b.String())
	}

	b.Reset()
	if _, err := watch(&Terminal{W: &b, Local: time.UTC, Nodes: 2}, rolling, gone, halted); err != nil {
		t.Error(err)
	}
	frames := strings.Split(b.String(), wrapOff+home)
	if len(frames) != 4 || !strings.Contains(frames[2], "edge-2 drains") || !strings.Contains(frames[2], "still trying") || strings.Contains(frames[3], "still trying") || !strings.HasSuffix(frames[3], eraseAll+wrapOn) {
		t.Errorf("frames %q", frames)
	}

	if _, err := watch(&Lines{W: io.Discard, Local: time.UTC}, gone); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Watch of nothing = %v", err)
	}
	if _, err := watch(&Lines{W: io.Discard, Local: time.UTC}, rolling, ErrNoPlan); !errors.Is(err, ErrNoPlan) {
		t.Errorf("Watch of what was deleted = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Watch(ctx, func(context.Context) (Picture, error) { return rolling, nil }, time.Hour, &Lines{W: io.Discard}); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch = %v", err)
	}
}
