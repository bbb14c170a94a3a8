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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
	return []*cli.Command{
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
	}
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
