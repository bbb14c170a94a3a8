package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
)

func TestMainRuns(t *testing.T) {
	var loud bool
	greet := &Command{
		Name: "greet", Usage: "NAME…", Short: "say hello",
		Flags: func(fs *flag.FlagSet) { fs.BoolVar(&loud, "loud", false, "shout") },
		Run: func(_ context.Context, env Env) error {
			fmt.Fprintln(env.Stdout, "hello", env.Args[1:], loud)
			return nil
		},
	}
	bad := &Command{Name: "bad", Short: "fails", Run: func(context.Context, Env) error {
		return Hint(errors.New("open door: locked"), "the key is under the mat")
	}}
	three := &Command{Name: "three", Short: "exits with 3", Run: func(context.Context, Env) error { return Exit(3) }}
	group := &Command{Name: "group", Short: "holds greet", Sub: []*Command{greet}}
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"greet a b", ExitOK, "hello [a b] false", ""},
		{"greet a --loud b", ExitOK, "hello [a b] true", ""},
		{"greet -loud a", ExitOK, "hello [a] true", ""},
		{"greet -- --loud", ExitOK, "hello [--loud] false", ""},
		{"greet a -- --loud -x", ExitOK, "hello [a --loud -x] false", ""},
		{"group greet x", ExitOK, "hello [x] false", ""},
		{"greet --what", ExitUsage, "", "hint:"},
		{"nothing", ExitUsage, "", `unknown command "nothing"`},
		{"", ExitUsage, "", "usage: prog COMMAND"},
		{"help", ExitOK, "say hello", ""},
		{"greet -h", ExitOK, "usage: prog greet NAME…", ""},
		{"bad", ExitFailed, "", "prog: open door: locked\nprog: hint: the key is under the mat\n"},
		{"three", 3, "", ""},
		{"greet --what", ExitUsage, "", "prog: greet: flag"},
		{"group greet --what", ExitUsage, "", "prog: group greet: flag"},
		{"fly --high over", ExitUsage, "", "prog: fly is a command of birds\nprog: hint: here,"},
	} {
		t.Run(c.args, func(t *testing.T) {
			loud = false
			var out, errs bytes.Buffer
			env := Env{Stdout: &out, Stderr: &errs, Args: append([]string{"prog"}, strings.Fields(c.args)...)}
			if code := Main(context.Background(), env, append(Elsewhere("of birds", "fly"), greet, bad, three, group)...); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(out.String(), c.stdout) || c.stdout == "" && out.Len() > 0 {
				t.Errorf("stdout %q, want %q", out.String(), c.stdout)
			}
			if !strings.Contains(errs.String(), c.stderr) || c.stderr == "" && errs.Len() > 0 {
				t.Errorf("stderr %q, want %q", errs.String(), c.stderr)
			}
		})
	}
}
