// Package worker is the node's side: kubelet, kube-proxy and the pods' network.
//
// It runs in a process of its own, because the kubelet and the
// controller-manager cannot share one (both write package variables of the CSI
// volume plugin).
package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/cmd/kube/child"
	"github.com/kedgeos/kedge/cmd/kube/say"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	proxyapp "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
)

// Prepare writes the files that the worker process reads and returns its
// command.
func Prepare(c args.Config) (child.Command, error) {
	file := filepath.Join(c.AgentDir(), "etc", "worker.json")
	for _, dir := range []string{filepath.Dir(file), filepath.Join(c.AgentDir(), "pod-manifests"), filepath.Join(c.AgentDir(), "kubelet-plugins"), c.ImagesDir(), "/var/lib/kubelet"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return child.Command{}, err
		}
	}
	resolv, err := os.ReadFile(c.ResolvConf)
	if err != nil && !os.IsNotExist(err) {
		return child.Command{}, err
	}
	c.ResolvConf = filepath.Join(c.AgentDir(), "etc", "resolv.conf")
	if err := os.WriteFile(c.ResolvConf, podResolvConf(resolv), 0o644); err != nil {
		return child.Command{}, err
	}
	if err := os.WriteFile(filepath.Join(c.AgentDir(), "kubelet.yaml"), []byte(c.KubeletConfig()), 0o600); err != nil {
		return child.Command{}, err
	}
	c.Token = "" // no business of the worker
	b, err := json.Marshal(c)
	if err != nil {
		return child.Command{}, err
	}
	return child.Command{Name: "worker", Args: []string{"kube-worker", file}}, os.WriteFile(file, b, 0o600)
}

// Run is the worker process: it returns when ctx ends or a part of it fails.
func Run(ctx context.Context, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c args.Config
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	failed := make(chan error, 3)
	start := func(name string, cmd *cobra.Command, arguments []string) {
		cmd.SetArgs(arguments)
		go func() { failed <- fmt.Errorf("%s ended: %w", name, cmd.ExecuteContext(ctx)) }()
	}
	start("kubelet", kubeletapp.NewKubeletCommand(ctx), c.Kubelet())
	client, err := waitIdentity(ctx, c)
	if err != nil {
		return err
	}
	if !c.DisableKubeProxy {
		start("kube-proxy", proxyapp.NewProxyCommand(), c.KubeProxy())
	}
	if c.FlannelBackend != "none" {
		go func() { failed <- fmt.Errorf("flannel ended: %w", network(ctx, c)) }()
	}
	go announce(ctx, client, c.NodeName)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// waitIdentity returns a client once the kubelet has its certificate, which a
// joining node first has to ask for.
func waitIdentity(ctx context.Context, c args.Config) (clientset.Interface, error) {
	for {
		conf, err := clientcmd.BuildConfigFromFlags("", c.KubeletKubeconfig())
		if err == nil {
			return clientset.NewForConfig(conf)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// announce logs once when the node is Ready.
func announce(ctx context.Context, client clientset.Interface, name string) {
	begin := time.Now()
	for ctx.Err() == nil {
		n, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err == nil && ready(n) {
			say.Printf("node %s is Ready after %.1f s of its kubelet", name, time.Since(begin).Seconds())
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func ready(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
