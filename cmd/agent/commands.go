package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/node/control"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// agentHint tells the way out when the agent does not answer.
func agentHint(err error) error {
	if errors.Is(err, status.ErrNoAgent) {
		return cli.Hint(err, `"sudo kedge logs agent" shows why, "sudo kedge restart agent" starts it again`)
	}
	return err
}

// initHint tells the way out when PID 1 does not answer.
func initHint(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return cli.Hint(err, "only root may ask this: try sudo")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return cli.Hint(err, "PID 1 does not answer: is this a machine that runs Kedge?")
	}
	return err
}

// rootOnly refuses what others may not ask for.
func rootOnly(verb string) error {
	if os.Geteuid() != 0 {
		return cli.Hint(fmt.Errorf("%s: only root may", verb), "try sudo")
	}
	return nil
}

func noArguments(env cli.Env) error {
	if len(env.Args) > 1 {
		return cli.Usagef("unexpected argument %q", env.Args[1])
	}
	return nil
}

func statusCommand() *cli.Command {
	var asJSON bool
	return &cli.Command{
		Name: "status", Usage: "[--json]", Short: "say how this node is doing",
		Flags: func(fs *flag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "print JSON") },
		Run: func(ctx context.Context, env cli.Env) error {
			if err := noArguments(env); err != nil {
				return err
			}
			agent, _ := sockets()
			s, err := agent.Status(ctx)
			if err != nil {
				return agentHint(err)
			}
			if asJSON {
				return printJSON(env.Stdout, s)
			}
			_, err = io.WriteString(env.Stdout, status.Text(s))
			return err
		},
	}
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func configCommand() *cli.Command {
	show := func(name, short string, line func(status.Value) string) *cli.Command {
		return &cli.Command{Name: name, Short: short, Run: func(ctx context.Context, env cli.Env) error {
			if err := noArguments(env); err != nil {
				return err
			}
			agent, _ := sockets()
			values, err := agent.Config(ctx)
			for _, v := range values {
				fmt.Fprintln(env.Stdout, line(v))
			}
			return agentHint(err)
		}}
	}
	return &cli.Command{Name: "config", Short: "show the configuration in effect", Sub: []*cli.Command{
		show("show", "print every effective value", func(v status.Value) string { return fmt.Sprintf("%s = %q", v.Key, v.Value) }),
		show("explain", "print every effective value with the source and line it comes from", func(v status.Value) string {
			from := v.Source
			if v.Line > 0 {
				from = fmt.Sprintf("%s:%d", v.Source, v.Line)
			}
			return fmt.Sprintf("%s = %q\n    from %s", v.Key, v.Value, from)
		}),
	}}
}

func servicesCommand() *cli.Command {
	var asJSON bool
	return &cli.Command{
		Name: "services", Usage: "[--json]", Short: "list the services of the system",
		Flags: func(fs *flag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "print JSON") },
		Run: func(ctx context.Context, env cli.Env) error {
			agent, _ := sockets()
			s, err := agent.Status(ctx)
			if err != nil {
				return agentHint(err)
			}
			if asJSON {
				return printJSON(env.Stdout, s.Services)
			}
			for _, svc := range s.Services {
				fmt.Fprintln(env.Stdout, status.ServiceLine(svc))
			}
			return nil
		},
	}
}

func serviceCommand(name, short string, do func(*control.Client, context.Context, string) error) *cli.Command {
	return &cli.Command{Name: name, Usage: "SERVICE", Short: short, Run: func(ctx context.Context, env cli.Env) error {
		if len(env.Args) != 2 {
			return cli.Hint(cli.Usagef("%s: which service?", name), `"kedge services" lists them`)
		}
		_, init := sockets()
		return initHint(do(init, ctx, env.Args[1]))
	}}
}

func powerCommand(name, short string, action power.Action) *cli.Command {
	return &cli.Command{Name: name, Short: short, Run: func(ctx context.Context, env cli.Env) error {
		if err := noArguments(env); err != nil {
			return err
		}
		_, init := sockets()
		return initHint(init.Power(ctx, action))
	}}
}

// logFolders are where PID 1 writes, on disk or in memory.
var logFolders = []string{"/var/log/kedge", "/run/kedge/log"}

func logsCommand() *cli.Command {
	var follow bool
	return &cli.Command{
		Name: "logs", Usage: "[-f] SERVICE", Short: "print what a service wrote",
		Flags: func(fs *flag.FlagSet) { fs.BoolVar(&follow, "f", false, "go on with what it writes from now on") },
		Run: func(ctx context.Context, env cli.Env) error {
			if len(env.Args) != 2 {
				return cli.Hint(cli.Usagef("logs: which service?"), `"kedge services" lists them`)
			}
			folders := logFolders
			if dir := os.Getenv("KEDGE_LOG_FOLDER"); dir != "" {
				folders = []string{dir}
			}
			return logs(ctx, env.Stdout, folders, env.Args[1], follow)
		},
	}
}

// logs prints the older file of the ring, then the newer.
func logs(ctx context.Context, w io.Writer, folders []string, service string, follow bool) error {
	path, err := logFile(folders, service)
	if err != nil {
		return err
	}
	if old, err := os.Open(path + ".1"); err == nil {
		_, err = io.Copy(w, old)
		old.Close()
		if err != nil {
			return err
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	for {
		if _, err := io.Copy(w, f); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(300 * time.Millisecond):
		}
		if f, err = reopened(f, path); err != nil {
			return err
		}
	}
}

// logFile finds the log of a service; one that may not be read is told as such.
func logFile(folders []string, service string) (string, error) {
	if !fs.ValidPath(service) {
		return "", cli.Usagef("%q is no name of a service", service)
	}
	for _, dir := range folders {
		path := dir + "/" + service + ".log"
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrPermission) {
			return "", cli.Hint(err, "only root may read this: try sudo")
		}
		if err == nil {
			return path, f.Close()
		}
	}
	return "", cli.Hint(fmt.Errorf("read log of %s: there is none", service), `"kedge services" lists the services`)
}

// reopened returns the file at path when the ring has turned, else f.
func reopened(f *os.File, path string) (*os.File, error) {
	now, err := os.Stat(path)
	if err != nil {
		return f, nil // between two files of the ring
	}
	before, err := f.Stat()
	if err != nil || os.SameFile(before, now) {
		return f, err
	}
	f.Close()
	return os.Open(path)
}
