package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// restPod is a pod that only waits.
const restPod = `apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default}
spec:
  nodeName: "%s"
  terminationGracePeriodSeconds: 1
  containers:
  - {name: rest, image: "kedge.local/pause:v1", imagePullPolicy: IfNotPresent}
`

// startLimit is when a start that has not come to its end counts as failed.
const startLimit = 3 * time.Minute

// bench starts a fresh server and writes its figures, one "name value unit" a
// line: seconds from exec; resident memory and writes after the idle time.
func bench(ctx context.Context, w io.Writer, p Programs, idle time.Duration) error {
	dir, err := os.MkdirTemp("", "kubejail-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, remove, err := single(dir, p)
	if err != nil {
		return err
	}
	defer remove()
	if err := n.Start("server"); err != nil {
		return err
	}
	if err := starts(ctx, w, n); err != nil {
		return fmt.Errorf("%w\n%s", err, n.Log())
	}
	return rest(ctx, w, n, idle)
}

// starts measures the way to the first pod.
func starts(ctx context.Context, w io.Writer, n *Node) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	api, err := n.API(ctx)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		name  string
		until func() error
	}{
		{"readyz_seconds", func() error { return ok(ctx, api, "/readyz") }},
		{"node_ready_seconds", func() error { return ready(ctx, api, "/api/v1/nodes/"+n.Host()) }},
		{"", func() error {
			return api.do(ctx, http.MethodPost, "/api/v1/namespaces/default/pods", fmt.Sprintf(restPod, "first", ""), nil)
		}},
		{"first_pod_seconds", func() error { return ready(ctx, api, "/api/v1/namespaces/default/pods/first") }},
		{"cluster_dns_seconds", func() error { return answers(ctx, n, api, "default/first") }},
	} {
		if err := wait(ctx, m.name, m.until); err != nil {
			return err
		}
		if m.name != "" {
			fmt.Fprintf(w, "%s %.2f s\n", m.name, time.Since(n.Begin).Seconds())
		}
	}
	return nil
}

// parts are the processes of a server by the name of their figure.
var parts = []struct{ figure, process string }{
	{"server_rss_bytes", "server"}, {"agent_rss_bytes", "kube-worker"}, {"containerd_rss_bytes", "containerd"},
}

// rest measures what a server takes that has nothing to do.
func rest(ctx context.Context, w io.Writer, n *Node, idle time.Duration) error {
	if err := pause(ctx, idle); err != nil {
		return err
	}
	pids := map[string]int{}
	for _, part := range parts {
		pid := n.kube.Process.Pid
		if part.process != "server" {
			var err error
			if pid, err = n.process(part.process); err != nil {
				return err
			}
		}
		pids[part.process] = pid
		kib, err := number(pid, "status", "VmRSS:")
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s %d bytes\n", part.figure, kib<<10)
	}
	before, err := written(pids)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pause(ctx, idle); err != nil {
		return err
	}
	after, err := written(pids)
	if err != nil {
		return err
	}
	day := float64(24*time.Hour) / float64(time.Since(begin))
	var sum int64
	for _, part := range parts {
		bytes := after[part.process] - before[part.process]
		sum += bytes
		fmt.Fprintf(w, "idle_disk_write_bytes_per_day.%s %.0f bytes\n", part.process, float64(bytes)*day)
	}
	fmt.Fprintf(w, "idle_disk_write_bytes_per_day %.0f bytes\n", float64(sum)*day)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// written is the bytes that processes have handed to disks.
func written(pids map[string]int) (map[string]int64, error) {
	out := map[string]int64{}
	for name, pid := range pids {
		n, err := number(pid, "io", "write_bytes:")
		if err != nil {
			return nil, err
		}
		taken, err := number(pid, "io", "cancelled_write_bytes:")
		if err != nil {
			return nil, err
		}
		out[name] = n - taken
	}
	return out, nil
}

// ok asks for an answer of any content.
func ok(ctx context.Context, api *API, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, api.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := api.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w %s", path, errStatus, resp.Status)
	}
	return nil
}

// ready asks for a node or pod that says it is.
func ready(ctx context.Context, api *API, path string) error {
	o, err := api.get(ctx, path)
	if err != nil {
		return err
	}
	if !o.ready() {
		return fmt.Errorf("%s is not Ready: %+v", path, o.Status)
	}
	return nil
}

var errAnswer = errors.New("wrong answer")

// answers looks the API's Service up in the cluster's DNS, through the server
// that the pod (namespace/name) was told, from inside it.
func answers(ctx context.Context, n *Node, api *API, pod string) error {
	namespace, name, _ := strings.Cut(pod, "/")
	o, err := api.get(ctx, "/api/v1/namespaces/"+namespace+"/pods/"+name)
	if err != nil {
		return err
	}
	pid, err := n.podProcess(o.Metadata.UID)
	if err != nil {
		return err
	}
	resolv, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/resolv.conf", pid))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(resolv), "nameserver ")
	server, _, _ := strings.Cut(rest, "\n")
	ip, err := lookup(ctx, fmt.Sprintf("/proc/%d/ns/net", pid), net.JoinHostPort(server, "53"), "kubernetes.default.svc.cluster.local")
	if err != nil {
		return err
	}
	service, err := api.get(ctx, "/api/v1/namespaces/default/services/kubernetes")
	if err != nil {
		return err
	}
	if ip.String() != service.Spec.ClusterIP {
		return fmt.Errorf("%w: kubernetes is %v, its Service has %s", errAnswer, ip, service.Spec.ClusterIP)
	}
	return nil
}
