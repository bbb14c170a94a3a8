// Package upgrade is the commands of the two pods that upgrade the nodes of a
// cluster from inside it: the one of the DaemonSet, which speaks for its node,
// and the controller. They are part of kube because every node has its pages in
// memory already, and an image carries all that they need once.
package upgrade

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kedgeos/kedge/pkg/cli"
)

// Name is that of the command.
const Name = "upgrade-controller"

// Main runs the command with what follows its name, until a signal ends it, and
// returns its exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	env := cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Args: append([]string{"kube " + Name}, args...)}
	return cli.Main(ctx, env, nodeCommand(), controllerCommand())
}
