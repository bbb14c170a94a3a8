package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/cluster/plans"
	"github.com/kedgeos/kedge/pkg/sys/console"
)

// planCommand is "kedge plan": the upgrades of a whole cluster.
func planCommand() *cli.Command {
	return &cli.Command{Name: "plan", Short: "upgrade a cluster: write a plan, watch it, change its course", Sub: []*cli.Command{
		planNewCommand(),
		planStatusCommand(),
		planWatchCommand(),
		planChangeCommand("pause", "let nothing new begin", plans.Pause),
		planChangeCommand("resume", "go on with a paused plan", plans.Resume),
		planRetryCommand(),
		planRollbackCommand(),
	}}
}

func planNewCommand() *cli.Command {
	var d plans.Draft
	var output string
	return &cli.Command{
		Name: "new", Usage: "[NAME] --image REFERENCE [flags]", Short: "write a plan, with comments, to be applied with kubectl; NAME is " + plans.DefaultName + " if not given",
		Flags: func(f *flag.FlagSet) {
			d.Flags(f)
			f.StringVar(&output, "o", "", "`file` for the plan, which must not be there yet (default: standard output)")
		},
		Run: func(_ context.Context, env cli.Env) error {
			switch len(env.Args) {
			case 1:
			case 2:
				d.Name = env.Args[1]
			default:
				return cli.Usagef("plan new: one name is enough: %s", strings.Join(env.Args[1:], " "))
			}
			text, err := d.YAML()
			if err != nil {
				return inputHint(err)
			}
			if output == "" || output == "-" {
				_, err = fmt.Fprint(env.Stdout, text)
				return err
			}
			f, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return cli.Hint(fmt.Errorf("plan new: %w", err), "change the image in it, or name another file")
			}
			if err != nil {
				return fmt.Errorf("plan new: %w", err)
			}
			_, err = fmt.Fprint(f, text)
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "%s: \"kubectl apply -f %[1]s\" begins\n", output)
			return err
		},
	}
}

// inputHint turns what is wrong with a draft into an error of the command line.
func inputHint(err error) error {
	var input *plans.InputError
	if !errors.As(err, &input) {
		return err
	}
	usage := cli.Usagef("plan new: %v", err)
	if input.Want == "" {
		return usage
	}
	return cli.Hint(usage, "%s", input.Want)
}

// shownNodes is how many nodes are listed without --all.
const shownNodes = 20

func planStatusCommand() *cli.Command {
	var o plans.Options
	var format string
	var all bool
	return &cli.Command{
		Name: "status", Usage: "[NAME] [flags]",
		Short: "show all plans, or one of them with its nodes; the exit status is 1 if one halted, is invalid or took itself back",
		Flags: func(f *flag.FlagSet) {
			o.Flags(f)
			f.StringVar(&format, "o", "", "print `json` or yaml, for programs")
			f.BoolVar(&all, "all", false, fmt.Sprintf("list all nodes, not only %d", shownNodes))
		},
		Run: func(ctx context.Context, env cli.Env) error {
			if len(env.Args) > 2 {
				return cli.Usagef("plan status: one name is enough: %s", strings.Join(env.Args[1:], " "))
			}
			if format != "" && format != "json" && format != "yaml" {
				return cli.Usagef("plan status: -o %s: choose json or yaml", format)
			}
			c, err := plans.Connect(o)
			if err != nil {
				return clusterHint(err)
			}
			shown, err := look(ctx, c, env.Args[1:])
			if err != nil {
				return clusterHint(err)
			}
			list := len(env.Args) == 1
			switch {
			case format != "" && list:
				err = encode(env, format, shown)
			case format != "":
				err = encode(env, format, shown[0])
			case !list:
				limit := shownNodes
				if all {
					limit = 0
				}
				_, err = fmt.Fprint(env.Stdout, plans.Draw(shown[0], time.Local, limit))
			case len(shown) == 0:
				_, err = fmt.Fprintln(env.Stdout, "no plans: \"kedge plan new\" writes one")
			default:
				_, err = fmt.Fprint(env.Stdout, plans.List(shown))
			}
			if err != nil {
				return err
			}
			for _, p := range shown {
				if p.Halted || p.Outcome() == plans.Wrong {
					return cli.ErrReported
				}
			}
			return nil
		},
	}
}

// look fetches one plan with all that belongs to it, or all plans.
func look(ctx context.Context, c *plans.Cluster, names []string) ([]plans.Picture, error) {
	if len(names) > 0 {
		p, err := c.Look(ctx, names[0])
		return []plans.Picture{p}, err
	}
	all, err := c.Plans(ctx)
	shown := []plans.Picture{}
	for _, p := range all {
		shown = append(shown, plans.Summary(time.Now(), p))
	}
	return shown, err
}

func encode(env cli.Env, format string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil && format == "yaml" {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(env.Stdout, strings.TrimSuffix(string(text), "\n"))
	return err
}

func planWatchCommand() *cli.Command {
	var o plans.Options
	var every, timeout time.Duration
	return &cli.Command{
		Name: "watch", Usage: "NAME [flags]", Short: "show a plan until it is complete; the exit status is 1 if it halts",
		Flags: func(f *flag.FlagSet) {
			o.Flags(f)
			f.DurationVar(&every, "interval", 2*time.Second, "`time` between two looks")
			f.DurationVar(&timeout, "timeout", 0, "longest `time` to watch (default: for ever)")
		},
		Run: func(ctx context.Context, env cli.Env) error {
			name, err := onePlan(env, "watch")
			if err != nil {
				return err
			}
			if every <= 0 {
				return cli.Usagef("plan watch: --interval %s: it must be more than nothing", every)
			}
			c, err := plans.Connect(o)
			if err != nil {
				return clusterHint(err)
			}
			bounded := ctx
			if timeout > 0 {
				var cancel context.CancelFunc
				bounded, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			var screen plans.Screen = &plans.Lines{W: env.Stdout, Local: time.Local}
			if f, ok := env.Stdout.(*os.File); ok && newProgress(f).tty {
				screen = &plans.Terminal{W: f, Local: time.Local, Nodes: shownNodes, Rows: func() int { return console.Rows(f) }}
			}
			p, err := plans.Watch(bounded, func(ctx context.Context) (plans.Picture, error) { return c.Look(ctx, name) }, every, screen)
			switch {
			case ctx.Err() != nil:
				return cli.Exit(130) // interrupted, as shells say it
			case errors.Is(err, context.DeadlineExceeded) && bounded.Err() != nil:
				return fmt.Errorf("plan watch: %s came to no end within %s", name, timeout)
			case err != nil:
				return clusterHint(err)
			case p.Outcome() == plans.Wrong:
				return haltHint(errors.New(plans.Line(p)), p)
			}
			return nil
		},
	}
}

// haltHint names the way out of a plan that stands still.
func haltHint(err error, p plans.Picture) error {
	if !p.Halted {
		return err
	}
	return cli.Hint(err, "\"kedge plan retry %[1]s\" tries the failed nodes again, \"kedge plan rollback %[1]s\" takes the others back", p.Name)
}

func onePlan(env cli.Env, verb string) (string, error) {
	if len(env.Args) != 2 {
		return "", cli.Hint(cli.Usagef("plan %s: name one plan", verb), "\"kedge plan status\" lists them")
	}
	return env.Args[1], nil
}

// planChangeCommand is a verb that changes a plan at once.
func planChangeCommand(verb, short string, decide func(plans.Picture) (plans.Change, error)) *cli.Command {
	var o plans.Options
	return &cli.Command{
		Name: verb, Usage: "NAME [flags]", Short: short, Flags: o.Flags,
		Run: func(ctx context.Context, env cli.Env) error {
			name, err := onePlan(env, verb)
			if err != nil {
				return err
			}
			return changePlan(ctx, env, o, name, decide, nil)
		},
	}
}

func planRetryCommand() *cli.Command {
	var o plans.Options
	var bad bool
	return &cli.Command{
		Name: "retry", Usage: "NAME [flags]", Short: "give the nodes that failed another chance",
		Flags: func(f *flag.FlagSet) {
			o.Flags(f)
			f.BoolVar(&bad, "known-bad", false, "also where a node remembers the release as one that it could not keep")
		},
		Run: func(ctx context.Context, env cli.Env) error {
			name, err := onePlan(env, "retry")
			if err != nil {
				return err
			}
			return changePlan(ctx, env, o, name, func(p plans.Picture) (plans.Change, error) { return plans.Retry(p, bad) }, nil)
		},
	}
}

func planRollbackCommand() *cli.Command {
	var o plans.Options
	var yes, cancel bool
	return &cli.Command{
		Name: "rollback", Usage: "NAME [flags]", Short: "take the nodes that a plan upgraded back to what they ran before",
		Flags: func(f *flag.FlagSet) {
			o.Flags(f)
			f.BoolVar(&yes, "yes", false, "do not ask")
			f.BoolVar(&cancel, "cancel", false, "go forward again, also with nodes that went back")
		},
		Run: func(ctx context.Context, env cli.Env) error {
			name, err := onePlan(env, "rollback")
			if err != nil {
				return err
			}
			if cancel {
				return changePlan(ctx, env, o, name, plans.Forward, nil)
			}
			return changePlan(ctx, env, o, name, plans.Rollback, func() error {
				if yes {
					return nil
				}
				return confirmPlan(env, name)
			})
		},
	}
}

// changePlan looks at a plan, says what a change of it does, and makes it.
func changePlan(ctx context.Context, env cli.Env, o plans.Options, name string, decide func(plans.Picture) (plans.Change, error), confirm func() error) error {
	c, err := plans.Connect(o)
	if err != nil {
		return clusterHint(err)
	}
	p, err := c.Look(ctx, name)
	if err != nil {
		return clusterHint(err)
	}
	change, err := decide(p)
	if err != nil {
		return clusterHint(haltHintFor(err, p))
	}
	for _, line := range change.Say {
		fmt.Fprintln(env.Stdout, line)
	}
	if change.Spec == nil {
		return nil
	}
	if keeper := p.Keeper(); keeper != "" {
		fmt.Fprintf(env.Stderr, "kedge: %s keeps this plan as it stands in Git, and may undo this: change it there, too\n", keeper)
	}
	if confirm != nil {
		if err := confirm(); err != nil {
			return err
		}
	}
	if err := c.Apply(ctx, p, change); err != nil {
		return clusterHint(err)
	}
	_, err = fmt.Fprintf(env.Stdout, "done: \"kedge plan watch %s\" shows what follows\n", name)
	return err
}

// haltHintFor names the way out of a change that is refused.
func haltHintFor(err error, p plans.Picture) error {
	switch {
	case errors.Is(err, plans.ErrHalted):
		return haltHint(err, p)
	case errors.Is(err, plans.ErrKnownBad):
		return cli.Hint(err, "--known-bad tries it all the same; a better release, named in the plan, begins anew")
	}
	return err
}

// confirmPlan asks on a terminal, and refuses elsewhere.
func confirmPlan(env cli.Env, name string) error {
	refused := errors.New("plan rollback: not confirmed; nothing was changed")
	if !terminal(env.Stdin) {
		return cli.Hint(refused, "--yes confirms it")
	}
	fmt.Fprintf(env.Stderr, "Type the plan's name, %s, to go on: ", name)
	line, err := bufio.NewReader(env.Stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != name {
		return refused
	}
	return nil
}

// clusterHint adds the way out to the errors that have one.
func clusterHint(err error) error {
	switch {
	case errors.Is(err, plans.ErrNoConfig):
		return cli.Hint(err, "--kubeconfig FILE names one; on a server node it is /etc/rancher/k3s/k3s.yaml")
	case errors.Is(err, fs.ErrPermission):
		return cli.Hint(err, "\"sudo\" may read it, or take a copy of your own")
	case errors.Is(err, plans.ErrContext):
		return cli.Hint(err, "--context chooses one")
	case errors.Is(err, plans.ErrUnreachable):
		return cli.Hint(err, "is it up, and reachable from here? --kubeconfig and --context choose another one")
	case errors.Is(err, plans.ErrNoController):
		return cli.Hint(err, "it comes with Kedge's images, unless kube is told --disable upgrade-controller; \"kubectl get crd plans.upgrade.kedgeos.io\" looks for it")
	case errors.Is(err, plans.ErrUnauthorized):
		return cli.Hint(err, "the credentials in the kubeconfig are wrong or too old: fetch it anew")
	case errors.Is(err, plans.ErrForbidden):
		return cli.Hint(err, "\"kubectl auth can-i --list\" tells what you may do; ask for a role with plans, nodeupgrades and nodes")
	}
	return err
}
