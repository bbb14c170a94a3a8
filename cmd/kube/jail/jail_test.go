package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// variable names the folder that "jail build" has filled. Without it, or
// without root, there is nothing to run and the stories are skipped.
const variable = "KUBE_JAIL_PROGRAMS"

// The test program is also the program of the stages.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "stage-") {
		fmt.Fprintln(os.Stderr, "jail:", run(context.Background(), os.Args[1:]))
		os.Exit(1)
	}
	if err := flag.Set("test.parallel", "16"); err != nil { // who waits takes no processor
		panic(err)
	}
	os.Exit(m.Run())
}

func programsFor(t *testing.T) Programs {
	dir := os.Getenv(variable)
	if dir == "" || os.Getuid() != 0 {
		t.Skipf("needs root, and %s: a folder made by \"go run ./jail build DIR\"", variable)
	}
	return Programs{Dir: dir, Images: filepath.Join(dir, "images")}
}

// story is what the steps of a test share.
type story struct {
	*testing.T
	ctx context.Context
}

func begin(t *testing.T) story {
	t.Helper()
	return beginFor(t, 10*time.Minute)
}

// beginFor begins a story that may take so long.
func beginFor(t *testing.T, limit time.Duration) story {
	t.Helper()
	remove, err := Switch()
	t.Cleanup(remove)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return story{t, ctx}
}

func (s story) node(n int, p Programs) *Node {
	s.Helper()
	node, err := NewNode(n, s.TempDir(), p)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if s.Failed() {
			s.Logf("log of %s:\n%s", node.Host(), lastLines(node.Log(), 60))
		}
		node.Remove()
	})
	return node
}

// server starts the first node as a server with a configuration.
func (s story) server(p Programs, config string) (*Node, *API) {
	s.Helper()
	n := s.node(1, p)
	s.config(n, config)
	if err := n.Start("server"); err != nil {
		s.Fatal(err)
	}
	api, err := n.API(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	s.until("the API", func() error { return ok(s.ctx, api, "/readyz") })
	return n, api
}

// until waits for f, and ends the test when it does not succeed in time.
func (s story) until(what string, f func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, startLimit)
	defer cancel()
	if err := wait(ctx, what, f); err != nil {
		s.Fatal(err)
	}
}

func (s story) pod(api *API, name, node string) {
	s.Helper()
	s.until("the API to take pod "+name, func() error {
		return api.do(s.ctx, http.MethodPost, "/api/v1/namespaces/default/pods", fmt.Sprintf(restPod, name, node), nil)
	})
	s.until("pod "+name, func() error { return ready(s.ctx, api, "/api/v1/namespaces/default/pods/"+name) })
}

func (s story) manifest(n *Node, name, text string) {
	s.Helper()
	if err := os.WriteFile(n.path("server", "manifests", name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

var errThere = errors.New("it is still there")

func (s story) gone(api *API, path string) error {
	err := ok(s.ctx, api, path)
	if err == nil {
		return errThere
	}
	if errors.Is(err, errStatus) && strings.Contains(err.Error(), "404") {
		return nil
	}
	return err
}

// serverConfig has other networks than the default: what joins must learn them.
const serverConfig = "cluster-cidr: 10.52.0.0/16\nservice-cidr: 10.53.0.0/16\n"

// config writes the node's /etc/rancher/k3s/config.yaml.
func (s story) config(n *Node, text string) {
	s.Helper()
	file := filepath.Join(n.Dir, "etc", "k3s", "config.yaml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

func TestServer(t *testing.T) {
	p := programsFor(t)
	s := begin(t)
	n, api := s.server(p, serverConfig)
	s.until("the node", func() error { return ready(s.ctx, api, "/api/v1/nodes/node1") })
	s.pod(api, "first", "")
	s.until("an answer of the cluster's DNS", func() error { return answers(s.ctx, n, api, "default/first") })

	t.Run("deploys manifests", func(t *testing.T) { story{t, s.ctx}.deploys(n, api) })
	t.Run("containers survive", func(t *testing.T) { story{t, s.ctx}.survives(n, api) })
	t.Run("tools", func(t *testing.T) { story{t, s.ctx}.tools(n) })
	t.Run("a second node joins", func(t *testing.T) { story{t, s.ctx}.joins(s.node(2, p), n, api) })
	t.Run("killall", func(t *testing.T) { story{t, s.ctx}.killall(n) })
}

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: default}\n"

// deploys: a file is applied, a changed one drops what it no longer names, and
// a broken one costs no other.
func (s story) deploys(n *Node, api *API) {
	const maps = "/api/v1/namespaces/default/configmaps/"
	s.manifest(n, "a-broken.yaml", "kind: [")
	s.manifest(n, "b-unknown.yaml", "apiVersion: example.org/v1\nkind: Unheard\nmetadata: {name: x}\n")
	s.manifest(n, "two.yaml", fmt.Sprintf(configMap, "one")+"---\n"+fmt.Sprintf(configMap, "two"))
	for _, name := range []string{"one", "two"} {
		s.until("ConfigMap "+name, func() error { return ok(s.ctx, api, maps+name) })
	}
	s.manifest(n, "two.yaml", fmt.Sprintf(configMap, "one"))
	s.until("ConfigMap two to go", func() error { return s.gone(api, maps+"two") })
	if err := ok(s.ctx, api, maps+"one"); err != nil {
		s.Errorf("ConfigMap one: %v", err)
	}
	s.manifest(n, "two.yaml", "")
	s.until("a word on the empty file", func() error {
		if !strings.Contains(n.Log(), "manifest two.yaml: the file is empty") {
			return errAnswer
		}
		return nil
	})
	if err := ok(s.ctx, api, maps+"one"); err != nil {
		s.Errorf("ConfigMap one, of a file that is empty now: %v", err)
	}
	s.manifest(n, "two.yaml", "---\n")
	s.until("ConfigMap one to go", func() error { return s.gone(api, maps+"one") })
	for _, file := range []string{"a-broken.yaml", "b-unknown.yaml"} {
		if !strings.Contains(n.Log(), file) {
			s.Errorf("the log does not name %s", file)
		}
	}
}

// survives: the process of a pod is the same after kube was stopped, and after
// it was killed, and started again.
func (s story) survives(n *Node, api *API) {
	pod, err := api.get(s.ctx, "/api/v1/namespaces/default/pods/first")
	if err != nil {
		s.Fatal(err)
	}
	var before int
	s.until("the pod's process", func() (err error) {
		before, err = n.podProcess(pod.Metadata.UID)
		return err
	})
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := n.Stop(signal); err != nil {
			s.Fatalf("stop by %v: %v", signal, err)
		}
		if after, err := n.podProcess(pod.Metadata.UID); err != nil || after != before {
			s.Fatalf("%v ended the pod: process %d became %d, %v", signal, before, after, err)
		}
		if signal == syscall.SIGKILL {
			s.emptyIdentity(n)
		}
		if err := n.Start("server"); err != nil {
			s.Fatal(err)
		}
		s.until("the API", func() error { return ok(s.ctx, api, "/readyz") })
		s.until("the node", func() error { return ready(s.ctx, api, "/api/v1/nodes/node1") })
		s.pod(api, strings.ToLower("after-"+strings.ReplaceAll(signal.String(), " ", "-")), "")
		again, err := api.get(s.ctx, "/api/v1/namespaces/default/pods/first")
		if err != nil || again.Metadata.UID != pod.Metadata.UID {
			s.Errorf("after %v: pod %s became %s, %v", signal, pod.Metadata.UID, again.Metadata.UID, err)
		}
		if after, err := n.podProcess(pod.Metadata.UID); err != nil || after != before {
			s.Errorf("the start after %v began the pod anew: process %d became %d, %v", signal, before, after, err)
		}
	}
}

// emptyIdentity leaves the kubelet's certificates and keys as a power cut does
// soon after they were written.
func (s story) emptyIdentity(n *Node) {
	files, err := filepath.Glob(n.path("agent", "kubelet-pki", "*"))
	if err != nil || len(files) < 2 {
		s.Fatalf("the kubelet has %v, %v", files, err)
	}
	for _, file := range files {
		if st, err := os.Lstat(file); err == nil && st.Mode().IsRegular() {
			if err := os.Truncate(file, 0); err != nil {
				s.Fatal(err)
			}
		}
	}
}

func (s story) tools(n *Node) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"kubectl", "get", "nodes"}, "node1"},
		{[]string{"ctr", "images", "list"}, "kedge.local/pause:v1"},
		{[]string{"--version"}, "v1.36"},
	} {
		if out, err := n.Output(tt.args...); err != nil || !strings.Contains(out, tt.want) {
			s.Errorf("kube %v: %v\n%s", tt.args, err, out)
		}
	}
	st, err := os.Stat(filepath.Join(n.Dir, "etc", "k3s", "k3s.yaml"))
	if err != nil || st.Mode().Perm() != 0o600 {
		s.Errorf("k3s.yaml: mode %v, %v", st.Mode(), err)
	}
}

// joins: a wrong token is refused with words that say so; with the server's
// token the node gets Ready and its pods reach a Service of the first node.
func (s story) joins(n, first *Node, api *API) {
	url := "https://" + first.Address + ":6443"
	if err := n.Start("agent", "--server", url, "--token", "abcdef.0123456789abcdef"); err != nil {
		s.Fatal(err)
	}
	s.until("a message about the token", func() error {
		if log := n.Log(); !strings.Contains(log, "token") || !strings.Contains(log, url) {
			return fmt.Errorf("the log says %q", lastLines(log, 3))
		}
		return nil
	})
	if err := n.Stop(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	token, err := os.ReadFile(first.path("server", "node-token"))
	if err != nil {
		s.Fatal(err)
	}
	if err := n.Start("agent", "--server", url, "--token", strings.TrimSpace(string(token))); err != nil {
		s.Fatal(err)
	}
	s.until("the second node", func() error { return ready(s.ctx, api, "/api/v1/nodes/"+n.Host()) })
	if log := n.Log(); !strings.Contains(log, "cluster-cidr=10.52.0.0/16") {
		s.Errorf("the joining node does not say what it learnt:\n%s", lastLines(log, 20))
	}
	s.pod(api, "far", n.Host())
	s.until("an answer of the DNS on the other node", func() error { return answers(s.ctx, n, api, "default/far") })
}

// killall ends what a stopped kube has left running.
func (s story) killall(n *Node) {
	if err := n.Stop(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	if out, err := n.Output("killall", "--grace", "5s"); err != nil {
		s.Fatalf("kube killall: %v\n%s", err, out)
	}
	s.until("an empty jail", func() error {
		if pids := n.processes(); len(pids) > 1 { // the holder stays
			return fmt.Errorf("%d processes are left", len(pids))
		}
		return nil
	})
}

func TestMistakes(t *testing.T) {
	p := programsFor(t)
	s := begin(t)
	n := s.node(1, p)
	for _, tt := range []struct {
		name, file string
		args       []string
		want       string
	}{
		{"unknown flag", "", []string{"server", "--node-nam", "x"}, "--node-name"},
		{"flag of a later version", "", []string{"server", "--cluster-init"}, "--cluster-init"},
		{"unknown key", "nodename: x\n", []string{"server"}, "config.yaml"},
		{"agent without a server", "", []string{"agent", "--token", "x"}, "--server"},
		{"unknown command", "", []string{"serve"}, "serve"},
		{"a file that is not there", "", []string{"server", "--config", "/absent.yaml"}, "/absent.yaml"},
	} {
		s.config(n, tt.file)
		out, err := n.Output(tt.args...)
		if err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %v, %q, want an error with %q", tt.name, err, out, tt.want)
		}
		if strings.Count(out, "\n") > 15 {
			t.Errorf("%s: the message has %d lines", tt.name, strings.Count(out, "\n"))
		}
	}
}
