package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/cli"
)

// configCommand checks and explains configuration files.
func configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Short: "check configuration files, print their schema and reference",
		Sub: []*cli.Command{
			validateCommand(),
			printCommand("schema", "print the JSON schema of config.yaml", config.Schema),
			printCommand("reference", "print the table of all keys, in Markdown", config.Reference),
			printCommand("example", "print config.yaml.example, every key explained", config.Example),
		},
	}
}

func printCommand(name, short string, text func() []byte) *cli.Command {
	return &cli.Command{Name: name, Short: short, Run: func(_ context.Context, env cli.Env) error {
		if len(env.Args) > 1 {
			return cli.Usagef("config %s: unexpected %q", name, env.Args[1])
		}
		_, err := env.Stdout.Write(text())
		return err
	}}
}

type validateOptions struct {
	Lenient bool // show what a machine would make of the file
}

func (o *validateOptions) flags(fs *flag.FlagSet) {
	fs.BoolVar(&o.Lenient, "lenient", false, "show what a booting machine would skip, and apply")
}

func validateCommand() *cli.Command {
	var o validateOptions
	return &cli.Command{
		Name:  "validate",
		Usage: "FILE... [flags]",
		Short: `print every error in configuration files; "-" is standard input`,
		Flags: o.flags,
		Run: func(_ context.Context, env cli.Env) error {
			return validate(env, o)
		},
	}
}

// validate looks at every file, also after one that is bad, and ends with
// ErrReported if there was one.
func validate(env cli.Env, o validateOptions) error {
	if len(env.Args) < 2 {
		return cli.Hint(cli.Usagef("config validate: which file?"), `"-" is standard input`)
	}
	look := strict
	if o.Lenient {
		look = lenient
	}
	var bad error
	for _, path := range env.Args[1:] {
		data, err := readConfig(env, path)
		if err != nil {
			fmt.Fprintf(env.Stderr, "%s: %v\n", env.Args[0], err)
			bad = cli.ErrReported
			continue
		}
		if err := look(env, path, data); err != nil {
			bad = err
		}
	}
	return bad
}

// readConfig reads a file, or standard input for "-"; more than a
// configuration may have is left unread.
func readConfig(env cli.Env, path string) ([]byte, error) {
	in := env.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, config.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

func strict(env cli.Env, path string, data []byte) error {
	problems := config.Validate(path, data)
	for _, p := range problems {
		fmt.Fprintln(env.Stderr, p)
	}
	if len(problems) > 0 {
		return cli.ErrReported
	}
	fmt.Fprintf(env.Stdout, "%s: ok\n", path)
	return nil
}

// lenient prints what is skipped, then what is applied, without secrets.
func lenient(env cli.Env, path string, data []byte) error {
	layer, problems := config.Parse(path, data)
	for _, p := range problems {
		fmt.Fprintln(env.Stderr, p)
	}
	applied, err := config.Marshal(layer.Config.Masked())
	if err != nil {
		return fmt.Errorf("print %s: %w", path, err)
	}
	fmt.Fprintf(env.Stdout, "# %s: a machine applies\n%s", path, applied)
	return nil
}
