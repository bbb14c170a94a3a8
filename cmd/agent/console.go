package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/node/apply"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/sys/console"
)

// Times of the console.
const (
	redraw       = 2 * time.Second  // between two looks at the status
	agentDelay   = 60 * time.Second // for the agent to start, before its absence is told
	typing       = 60 * time.Second // to type a name or a password
	wrongDelay   = 3 * time.Second  // after a wrong password
	clearScreen  = "\x1b[H\x1b[2J"
	absentBanner = "\nKedge\n\nThe agent does not answer. Press Enter to log in here.\n"
)

func consoleCommand() *cli.Command {
	var tty string
	return &cli.Command{
		Name: "console", Usage: "--tty NAME", Short: "show the state of the node on a terminal, and let people log in",
		Flags: func(fs *flag.FlagSet) { fs.StringVar(&tty, "tty", "", "`name` of the terminal, without /dev") },
		Run: func(ctx context.Context, env cli.Env) error {
			if err := noArguments(env); err != nil {
				return err
			}
			tty = strings.TrimPrefix(tty, "/dev/")
			if tty == "" {
				return cli.Usagef("console: --tty is required")
			}
			agent, _ := sockets()
			for ctx.Err() == nil {
				if err := visit(ctx, tty, agent); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// visit shows the banner until somebody presses Enter, then lets one person
// log in: this process becomes that person's shell, and PID 1 starts another
// console when it ends. It returns when nobody logged in.
func visit(ctx context.Context, tty string, agent status.Client) error {
	t, err := console.Open(tty)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := watch(ctx, t, agent); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if s, err := agent.Status(ctx); err == nil && s.Install == installAsks {
		if err := installAt(ctx, t); !errors.Is(err, install.ErrQuit) {
			return nil
		}
	}
	who, err := login(ctx, t, os.ReadFile)
	if err != nil {
		if ctx.Err() == nil {
			fmt.Fprintf(t, "\n%v\n", err)
			pause(ctx, wrongDelay)
		}
		return nil
	}
	return become(tty, who)
}

// watch draws the banner, and again when it changes, until Enter is pressed.
func watch(ctx context.Context, t *console.Terminal, agent status.Client) error {
	shown, started := "", time.Now()
	for {
		now := shown
		if s, err := agent.Status(ctx); err == nil {
			now = status.Banner(s)
		} else if time.Since(started) > agentDelay {
			now = absentBanner
		}
		if now != shown {
			shown = now
			if _, err := t.WriteString(clearScreen + now); err != nil {
				return err
			}
		}
		_, err := t.ReadLine(ctx, redraw)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// login asks for a name and a password, and checks them with what read finds
// in the files of users below /etc.
func login(ctx context.Context, t *console.Terminal, read func(string) ([]byte, error)) (account, error) {
	host, err := os.Hostname()
	if err != nil {
		return account{}, err
	}
	if _, err := fmt.Fprintf(t, "\n%s login: ", host); err != nil {
		return account{}, err
	}
	name, err := t.ReadLine(ctx, typing)
	if name = strings.TrimSpace(name); err != nil || name == "" {
		return account{}, errors.New("nobody logged in")
	}
	texts := map[string]string{}
	for _, file := range []string{"/etc/passwd", "/etc/group", "/etc/shadow"} {
		b, err := read(file)
		if err != nil {
			return account{}, err
		}
		texts[file] = string(b)
	}
	who, missing := findAccount(texts["/etc/passwd"], texts["/etc/group"], name)
	if missing == nil && !apply.HasPassword(texts["/etc/shadow"], name) {
		return account{}, fmt.Errorf("no password is set for %s: set kedge.password in the configuration, or log in with an SSH key", name)
	}
	password, err := t.ReadPassword(ctx, "Password: ", typing)
	if err != nil {
		return account{}, errors.New("nobody logged in")
	}
	if err := apply.Check(texts["/etc/shadow"], name, password); err != nil || missing != nil {
		return account{}, errors.New("wrong name or password")
	}
	return who, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
