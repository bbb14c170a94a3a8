// Command kube is a whole Kubernetes in one program: "kube server" is the
// control plane with its own worker, "kube agent" a worker that joins one. By
// the name it is called by, or by its first argument, it is also kubectl,
// containerd and ctr.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins" // containerd's plugins
	"github.com/containerd/containerd/v2/cmd/containerd/command"
	ctrapp "github.com/containerd/containerd/v2/cmd/ctr/app"
	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/cmd/kube/lean"
	"github.com/kedgeos/kedge/cmd/kube/say"
	"github.com/kedgeos/kedge/cmd/kube/server"
	"github.com/kedgeos/kedge/cmd/kube/upgrade"
	"github.com/kedgeos/kedge/cmd/kube/worker"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
)

const usage = `usage: kube COMMAND

  server              the control plane and a worker ("kube server --help" lists the flags)
  agent               a worker that joins a server
  kubectl             talk to the cluster
  ctr                 talk to containerd
  containerd          the container runtime (server and agent start it)
  killall             end every container of this node
  upgrade-controller  upgrade the cluster's nodes (pods of its own do)
`

func main() {
	name, rest := filepath.Base(os.Args[0]), os.Args[1:]
	if (name == "kube" || name == "k3s") && len(rest) > 0 {
		name, rest = rest[0], rest[1:]
	}
	os.Args = append([]string{name}, rest...)
	os.Exit(dispatch(name, rest))
}

func dispatch(name string, rest []string) int {
	switch name {
	case "containerd", "server", "agent", "kube-worker", upgrade.Name: // which stay
		lean.Later()
	}
	switch name {
	case "containerd":
		return status(command.App().Run(os.Args))
	case "ctr":
		socketOf("CONTAINERD_ADDRESS", args.ContainerdSocket)
		socketOf("CONTAINERD_NAMESPACE", "k8s.io")
		return status(ctrapp.New().Run(os.Args))
	case "kubectl":
		socketOf("KUBECONFIG", "/etc/rancher/k3s/k3s.yaml")
		return cli.Run(kubectl.NewDefaultKubectlCommand())
	case "server", "agent":
		if len(rest) > 0 && (rest[0] == "--help" || rest[0] == "-h") {
			args.Help(os.Stdout, args.Role(name))
			return 0
		}
		return node(name, rest)
	case "kube-worker":
		return status(worker.Run(signals(), rest[0]))
	case upgrade.Name:
		return upgrade.Main(rest)
	case "killall":
		return status(killall(rest))
	case "--version", "version", "-v":
		fmt.Printf("kube %s\n", args.Version)
		return 0
	case "kube", "k3s", "help", "--help", "-h":
		fmt.Print(usage)
		return 0
	}
	fmt.Fprintf(os.Stderr, "kube: unknown command %q\n%s", name, usage)
	return 2
}

// node runs a server or agent; after its certificates were renewed it becomes
// itself again, with the new ones.
func node(name string, rest []string) int {
	run := map[string]func(context.Context, []string) error{"server": runServer, "agent": runAgent}[name]
	err := run(signals(), rest)
	if errors.Is(err, server.ErrRenewed) {
		say.Printf("%v", err)
		self, e := os.Executable()
		if e == nil {
			e = syscall.Exec(self, append([]string{"kube", name}, rest...), os.Environ())
		}
		return fatal(e)
	}
	return status(err)
}

func signals() context.Context {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	return ctx
}

func status(err error) int {
	if err != nil {
		return fatal(err)
	}
	return 0
}

// socketOf gives a tool our default for a variable that the user left unset.
func socketOf(variable, value string) {
	if os.Getenv(variable) == "" {
		os.Setenv(variable, value)
	}
}
