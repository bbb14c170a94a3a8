// Command agent, on the device /usr/bin/kedge, applies the configuration of the
// machine it runs on, keeps its network and its node going, and answers the
// person in front of it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/node/control"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	env := cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Args: words(os.Args)}
	code := cli.Main(ctx, env, commands()...)
	stop()
	os.Exit(code) // the only os.Exit of the program
}

// words is the command line as "kedge VERB …": by the names of old, such as
// poweroff, the program is the verb of today, and their flags mean nothing.
func words(args []string) []string {
	verb := map[string]string{"reboot": "reboot", "poweroff": "poweroff", "halt": "poweroff", "shutdown": "poweroff"}[filepath.Base(args[0])]
	if verb == "" {
		return append([]string{"kedge"}, args[1:]...)
	}
	if slices.Contains(args[1:], "-r") || slices.Contains(args[1:], "--reboot") {
		verb = "reboot"
	}
	return []string{"kedge", verb}
}

// sockets are where the commands ask; tests set the variables.
func sockets() (agent status.Client, init *control.Client) {
	return status.Client{Socket: os.Getenv("KEDGE_AGENT_SOCKET")}, control.NewClient(os.Getenv("KEDGE_INIT_SOCKET"))
}

func commands() []*cli.Command {
	return append([]*cli.Command{
		statusCommand(),
		configCommand(),
		servicesCommand(),
		logsCommand(),
		installCommand(),
		upgradeCommand(),
		resetCommand(),
		serviceCommand("start", "start a service", (*control.Client).Start),
		serviceCommand("stop", "stop a service until it is started again", (*control.Client).Stop),
		serviceCommand("restart", "stop a service and start it again", (*control.Client).Restart),
		powerCommand("reboot", "stop everything in order and start the machine again", power.Reboot),
		powerCommand("poweroff", "stop everything in order and switch the machine off", power.PowerOff),
		{Name: "version", Short: "print the version", Run: func(_ context.Context, env cli.Env) error {
			_, err := fmt.Fprintln(env.Stdout, "kedge", release.Version)
			return err
		}},
		agentCommand(),
		consoleCommand(),
	}, cli.Elsewhere("of the tool that builds images, on a machine of yours, not of the node",
		"build", "lock", "embed", "keys", "sign", "verify", "push", "pull", "channel", "plan", "run")...)
}
