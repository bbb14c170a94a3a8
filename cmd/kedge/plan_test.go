package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"
)

// A fakeCluster is an API server as far as "kedge plan" needs one.
type fakeCluster struct {
	address string
	server  *http.Server

	lock    sync.Mutex
	objects []map[string]any
	refuse  int // status of every answer; 0 answers
	looks   int // how often the events were asked for, the last that a look asks
}

var fakeClusters sync.Map // by script

// clusterCommand is what stories do to their cluster:
//
//	cluster start FILE     begin with the objects of a file; $KUBECONFIG names it
//	cluster set FILE       these objects are all there are
//	cluster stop | go      the API server goes away, and comes back
//	cluster refuse CODE    it answers every request with this status, 0 for no more
//	cluster rest           wait a moment
//	cluster seen           wait until somebody has looked at it again, twice
//	cluster spec NAME JSON the spec of a plan has these fields
func clusterCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: cluster start|set|stop|go|refuse|rest|seen|spec")
	}
	if args[0] == "start" {
		c := &fakeCluster{address: "127.0.0.1:0"}
		c.set(ts, args[1])
		c.listen(ts)
		fakeClusters.Store(ts, c)
		ts.Defer(func() {
			c.server.Close()
			fakeClusters.Delete(ts)
		})
		config := fmt.Sprintf(`{"kind": "Config", "clusters": [{"name": "c", "cluster": {"server": "http://%s"}}], "contexts": [{"name": "here", "context": {"cluster": "c"}}], "current-context": "here"}`, c.address)
		ts.Check(os.WriteFile(ts.MkAbs("kubeconfig"), []byte(config), 0o600))
		ts.Setenv("KUBECONFIG", ts.MkAbs("kubeconfig"))
		return
	}
	found, ok := fakeClusters.Load(ts)
	if !ok {
		ts.Fatalf("no cluster")
	}
	c := found.(*fakeCluster)
	switch args[0] {
	case "set":
		c.set(ts, args[1])
	case "stop":
		c.server.Close()
	case "go":
		c.listen(ts)
	case "refuse":
		c.lock.Lock()
		defer c.lock.Unlock()
		if _, err := fmt.Sscan(args[1], &c.refuse); err != nil {
			ts.Fatalf("%s: %v", args[1], err)
		}
	case "rest":
		time.Sleep(200 * time.Millisecond)
	case "seen":
		c.seen(ts)
	case "spec":
		c.spec(ts, args[1], args[2])
	default:
		ts.Fatalf("cluster %s: no such command", args[0])
	}
}

func (c *fakeCluster) listen(ts *testscript.TestScript) {
	var l net.Listener
	var err error
	for range 100 { // the port may be free again only after a moment
		if l, err = net.Listen("tcp", c.address); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Check(err)
	c.address = l.Addr().String()
	c.server = &http.Server{Handler: c}
	go c.server.Serve(l)
}

func (c *fakeCluster) set(ts *testscript.TestScript, file string) {
	var objects []map[string]any
	for _, doc := range strings.Split(ts.ReadFile(file), "\n---\n") {
		var o map[string]any
		ts.Check(yaml.Unmarshal([]byte(doc), &o))
		if o != nil {
			objects = append(objects, o)
		}
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.objects = objects
}

func (c *fakeCluster) seen(ts *testscript.TestScript) {
	count := func() int {
		c.lock.Lock()
		defer c.lock.Unlock()
		return c.looks
	}
	for begun, tries := count(), 0; count() < begun+2; tries++ {
		if tries > 10000 {
			ts.Fatalf("nobody looks")
		}
		time.Sleep(time.Millisecond) // what follows comes between two looks
	}
}

func (c *fakeCluster) spec(ts *testscript.TestScript, name, want string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	o := c.find("Plan", name)
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(want), &fields))
	spec, _ := o["spec"].(map[string]any)
	for key, value := range fields {
		if fmt.Sprint(spec[key]) != fmt.Sprint(value) {
			ts.Fatalf("spec.%s of %s is %v, want %v", key, name, spec[key], value)
		}
	}
}

func (c *fakeCluster) find(kind, name string) map[string]any {
	for _, o := range c.objects {
		if meta, _ := o["metadata"].(map[string]any); o["kind"] == kind && meta["name"] == name {
			return o
		}
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (c *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.lock.Lock()
	defer c.lock.Unlock()
	w.Header().Set("Content-Type", "application/json")
	reasons := map[int]string{403: "Forbidden", 401: "Unauthorized", 404: "NotFound", 503: "ServiceUnavailable"}
	refuse := func(code int) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": %q, "code": %d, "message": "refused"}`, reasons[code], code)
	}
	if c.refuse != 0 {
		refuse(c.refuse)
		return
	}
	kinds := map[string]string{"plans": "Plan", "nodeupgrades": "NodeUpgrade", "nodes": "Node", "events": "Event"}
	kind, list := kinds[path.Base(r.URL.Path)]
	if list {
		items := []any{}
		for _, o := range c.objects {
			if o["kind"] == kind {
				items = append(items, o)
			}
		}
		if kind == "Event" {
			c.looks++
		}
		json.NewEncoder(w).Encode(map[string]any{"items": items})
		return
	}
	o := c.find(kinds[path.Base(path.Dir(r.URL.Path))], path.Base(r.URL.Path))
	if o == nil || r.Method != http.MethodPatch {
		refuse(404)
		return
	}
	var patch struct{ Spec map[string]any }
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &patch)
	}
	if err != nil {
		refuse(503)
		return
	}
	spec, _ := o["spec"].(map[string]any)
	for key, value := range patch.Spec {
		spec[key] = value
	}
	json.NewEncoder(w).Encode(o)
}

// condition knows [k3s]: this machine has a cluster of its own.
func condition(name string) (bool, error) {
	if name != "k3s" {
		return false, fmt.Errorf("unknown condition %s", name)
	}
	_, err := os.Stat("/etc/rancher/k3s/k3s.yaml")
	return err == nil, nil
}
