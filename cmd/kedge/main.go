// Command kedge is the tool of the build machine: it builds images, changes
// finished ones, runs them, and steers the upgrades of clusters.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
)

func main() {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	code := run(ctx, cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Args: append([]string{"kedge"}, os.Args[1:]...)})
	stop()
	os.Exit(code)
}

func run(ctx context.Context, env cli.Env) int {
	return cli.Main(ctx, env, commands()...)
}

// commands returns all commands in the order in which help shows them; each has
// a file of its own.
func commands() []*cli.Command {
	return append([]*cli.Command{
		buildCommand(),
		lockCommand(),
		deltaCommand(),
		embedCommand(),
		keysCommand(),
		signCommand(),
		verifyCommand(),
		pushCommand(),
		pullCommand(),
		channelCommand(),
		configCommand(),
		planCommand(),
		runCommand(),
		versionCommand(),
	}, cli.Elsewhere("of a machine that runs Kedge: log in there, by SSH or at its console",
		"install", "upgrade", "reset", "status", "services", "logs", "start", "stop", "restart", "reboot", "poweroff")...)
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Short: "print the version of this tool and of the images it builds",
		Run: func(_ context.Context, env cli.Env) error {
			_, err := fmt.Fprintln(env.Stdout, release.Version)
			return err
		},
	}
}
