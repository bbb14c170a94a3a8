// Command upgrade-controller upgrades the nodes of a cluster from inside it. It
// is one program for two pods: the one of the DaemonSet, which speaks for its
// node, and the controller.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kedgeos/kedge/pkg/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	env := cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Args: append([]string{"upgrade-controller"}, os.Args[1:]...)}
	code := cli.Main(ctx, env, commands()...)
	stop()
	os.Exit(code) // the only os.Exit of the program
}

func commands() []*cli.Command {
	return []*cli.Command{
		nodeCommand(),
		controllerCommand(),
	}
}
