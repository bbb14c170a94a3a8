// Package cli is the small frame around every command of the project: a table
// of commands, the streams they may use, exit codes and hints.
//
// Messages go to standard error as "program: verb object: cause"; an error may
// carry a hint, printed on a second line, that names the way out.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Env is all a command may know of the process that runs it.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Args           []string // Args[0] is the program's name, then positional arguments
}

// A Command is one verb. Flags binds its options; Run does the work. A command
// with Sub only selects one of those by its first argument.
type Command struct {
	Name  string
	Usage string // what follows the name on the command line, e.g. "IMAGE [flags]"
	Short string // one line, lower case, no full stop; help does not show a command without one
	Flags func(*flag.FlagSet)
	Run   func(context.Context, Env) error
	Sub   []*Command

	any bool // takes whatever comes
}

// Exit codes, the same in every program.
const (
	ExitOK     = 0
	ExitFailed = 1 // the work failed
	ExitUsage  = 2 // the command line was wrong
)

// A Usage error means the command line is wrong, not the world.
type Usage string

func (u Usage) Error() string { return string(u) }

// Usagef makes a Usage error.
func Usagef(format string, args ...any) error { return Usage(fmt.Sprintf(format, args...)) }

// ErrReported says that everything was already told on Stderr; Main then only
// chooses the exit code.
var ErrReported = errors.New("already reported")

// An Exit error makes Main end with this code, for commands that stand in for
// another program.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Elsewhere are commands that users know, of a program by the same name that runs
// elsewhere: they say where.
func Elsewhere(where string, names ...string) []*Command {
	var all []*Command
	for _, name := range names {
		no := Hint(Usagef("%s is a command %s", name, where), "here, \"kedge help\" lists the commands")
		all = append(all, &Command{Name: name, Run: func(context.Context, Env) error { return no }, any: true})
	}
	return all
}

// Hint adds to err a line that tells the user what to try next.
func Hint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// HintOf returns what Hint added last, "" for nothing.
func HintOf(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

// Main runs the command that Args[1] names and returns the exit code.
func Main(ctx context.Context, env Env, cmds ...*Command) int {
	root := &Command{Name: env.Args[0], Sub: cmds}
	err := root.run(ctx, env, env.Args[0], env.Args[1:])
	var exit Exit
	var usage Usage
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, ErrReported):
		return ExitFailed
	}
	fmt.Fprintf(env.Stderr, "%s: %v\n", env.Args[0], err)
	var h *hinted
	if errors.As(err, &h) {
		fmt.Fprintf(env.Stderr, "%s: hint: %s\n", env.Args[0], h.hint)
	}
	if errors.As(err, &usage) {
		return ExitUsage
	}
	return ExitFailed
}

// run selects a sub-command or runs c itself with args; path is how the user
// got here, such as "kedge config".
func (c *Command) run(ctx context.Context, env Env, path string, args []string) error {
	if c.Run != nil {
		return c.exec(ctx, env, path, args)
	}
	if len(args) == 0 {
		c.help(env.Stderr, path)
		return Usagef("%s: which command?", path)
	}
	if isHelp(args[0]) {
		c.help(env.Stdout, path)
		return nil
	}
	for _, s := range c.Sub {
		if s.Name == args[0] {
			return s.run(ctx, env, path+" "+s.Name, args[1:])
		}
	}
	return Hint(Usagef("unknown command %q", args[0]), "%q lists the commands", path+" help")
}

func isHelp(arg string) bool {
	return arg == "help" || arg == "-h" || arg == "-help" || arg == "--help"
}

func (c *Command) exec(ctx context.Context, env Env, path string, args []string) error {
	if c.any {
		return c.Run(ctx, env)
	}
	fs := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	if c.Flags != nil {
		c.Flags(fs)
	}
	rest, err := parse(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(env.Stdout, "usage: %s %s\n%s\n", path, c.Usage, c.Short)
		fs.SetOutput(env.Stdout)
		fs.PrintDefaults()
		return nil
	}
	if err != nil {
		verb := strings.TrimPrefix(path, env.Args[0]+" ")
		return Hint(Usagef("%s: %v", verb, err), "%q lists the flags", path+" -h")
	}
	env.Args = append(env.Args[:1:1], rest...)
	return c.Run(ctx, env)
}

// parse lets flags stand before, between and after positional arguments; all
// that follows "--" is positional.
func parse(fs *flag.FlagSet, args []string) (positional []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		left := fs.Args()
		if len(left) == 0 {
			return positional, nil
		}
		if used := len(args) - len(left); used > 0 && args[used-1] == "--" {
			return append(positional, left...), nil
		}
		positional = append(positional, left[0])
		args = left[1:]
	}
}

func (c *Command) help(w io.Writer, path string) {
	fmt.Fprintf(w, "usage: %s COMMAND\n\n", path)
	width := 0
	shown := slices.DeleteFunc(slices.Clone(c.Sub), func(s *Command) bool { return s.Short == "" })
	for _, s := range shown {
		width = max(width, len(s.Name))
	}
	for _, s := range shown {
		fmt.Fprintf(w, "  %s%s  %s\n", s.Name, strings.Repeat(" ", width-len(s.Name)), s.Short)
	}
	fmt.Fprintf(w, "\n%q tells more of one.\n", path+" COMMAND -h")
}
