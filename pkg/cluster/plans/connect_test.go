package plans

import (
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
