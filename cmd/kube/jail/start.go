package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// runStart starts kube on the state of a machine, as far as it is kube's: the
// folders of its /var.
func runStart(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("start", flag.ContinueOnError)
	programs := fs.String("programs", "", "`folder` with kube, what it runs, and images in a folder of that name")
	state := fs.String("var", "", "`folder` that was /var of a machine; it is changed")
	name := fs.String("name", "", "`name` of the machine's node")
	limit := fs.Duration("limit", 5*time.Minute, "`time` that it may take")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *programs == "" || *state == "" || *name == "" {
		return errors.New("start: --programs, --var and --name are needed")
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	return start(ctx, os.Stdout, Programs{Dir: *programs, Images: filepath.Join(*programs, "images")}, *state, *name)
}

// start starts kube on a state, and waits until the node is Ready in this boot,
// the cluster's DNS runs since then, and a new pod too.
func start(ctx context.Context, w io.Writer, p Programs, state, name string) error {
	dir, err := os.MkdirTemp("", "kubejail-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, folder := range []string{"rancher", "kubelet", "cni"} {
		from := filepath.Join(state, "lib", folder)
		if err := os.MkdirAll(from, 0o755); err != nil {
			return err
		}
		if err := os.Symlink(from, filepath.Join(dir, folder)); err != nil {
			return err
		}
	}
	n, remove, err := single(dir, p)
	if err != nil {
		return err
	}
	defer remove()
	n.called = name
	if err := n.Start("server"); err != nil {
		return err
	}
	if err := n.comesUp(ctx, w); err != nil {
		return fmt.Errorf("%w\n%s", err, lastLines(n.Log(), 60))
	}
	return nil
}

// comesUp waits for all that start promises, or for the end of kube.
func (n *Node) comesUp(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-n.exited:
			cancel(fmt.Errorf("kube has ended: %w", err))
		case <-ctx.Done():
		}
	}()
	api, err := n.API(ctx)
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	const pods = "/api/v1/namespaces/default/pods"
	for _, m := range []struct {
		name  string
		until func() error
	}{
		{"node_ready_seconds", func() error { return readyNow(ctx, api, n.Host()) }},
		{"dns_ready_seconds", func() error { return dnsRuns(ctx, api, n.Begin) }},
		{"", func() error {
			return api.do(ctx, http.MethodPost, pods, fmt.Sprintf(restPod, "after-the-cut", n.Host()), nil)
		}},
		{"pod_ready_seconds", func() error { return ready(ctx, api, pods+"/after-the-cut") }},
	} {
		if err := wait(ctx, m.name, m.until); err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if m.name != "" {
			fmt.Fprintf(w, "%s %.2f s\n", m.name, time.Since(n.Begin).Seconds())
		}
	}
	return nil
}

// readyNow tells whether a node is Ready in this boot of the machine: a state
// may remember an earlier one.
func readyNow(ctx context.Context, api *API, name string) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	var node struct {
		object
		Status struct {
			NodeInfo   struct{ BootID string }
			Conditions []struct{ Type, Status string }
		}
	}
	if err := api.do(ctx, http.MethodGet, "/api/v1/nodes/"+name, "", &node); err != nil {
		return err
	}
	node.object.Status.Conditions = node.Status.Conditions
	if node.Status.NodeInfo.BootID != strings.TrimSpace(string(boot)) || !node.ready() {
		return fmt.Errorf("node %s is not Ready in this boot: %+v", name, node.Status)
	}
	return nil
}

// dnsRuns tells whether a container of the cluster's DNS was started after a
// time, and answers.
func dnsRuns(ctx context.Context, api *API, since time.Time) error {
	var list struct {
		Items []struct {
			Status struct {
				ContainerStatuses []struct {
					Ready bool
					State struct{ Running struct{ StartedAt time.Time } }
				}
			}
		}
	}
	if err := api.do(ctx, http.MethodGet, "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns", "", &list); err != nil {
		return err
	}
	for _, pod := range list.Items {
		for _, c := range pod.Status.ContainerStatuses {
			if c.Ready && c.State.Running.StartedAt.After(since.Truncate(time.Second)) {
				return nil
			}
		}
	}
	return fmt.Errorf("the cluster's DNS does not run yet: %+v", list.Items)
}

// lastLines are the last lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
