package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

func resetCommand() *cli.Command {
	var yes, format bool
	return &cli.Command{
		Name: "reset", Usage: "[--yes] [--format]", Short: "restart, and lose all state but the configuration written at installation",
		Flags: func(fs *flag.FlagSet) {
			fs.BoolVar(&yes, "yes", false, "do not ask")
			fs.BoolVar(&format, "format", false, "make a new file system where that of the state is damaged")
		},
		Run: func(ctx context.Context, env cli.Env) error {
			if err := noArguments(env); err != nil {
				return err
			}
			if err := rootOnly("reset"); err != nil {
				return err
			}
			_, init := sockets()
			record, err := init.Boot(ctx)
			if err != nil {
				return initHint(err)
			}
			if record.Mode != boot.ModeDisk {
				return errors.New("reset: this system keeps no state: a restart is a reset")
			}
			damaged := record.StateDamage != ""
			switch {
			case damaged && !format:
				return errDamaged(record)
			case format && !damaged:
				return cli.Hint(errors.New("reset: --format: the state's file system is not damaged"), "\"kedge reset\" removes all that is in it")
			}
			if !yes {
				fmt.Fprint(env.Stdout, "All state will be lost: containers, volumes, the cluster, logs. Type reset to go on: ")
				line, err := bufio.NewReader(env.Stdin).ReadString('\n')
				if err != nil || strings.TrimSpace(line) != "reset" {
					return errors.New("reset: not confirmed; nothing was removed")
				}
			}
			if damaged {
				if err := formatState(ctx, env.Stdout, record); err != nil {
					return err
				}
				return initHint(init.Power(ctx, power.Reboot))
			}
			if err := atomicfile.WriteFile("/var/"+boot.ResetMark, nil, 0o600); err != nil {
				return err
			}
			return initHint(init.Power(ctx, power.Reboot))
		},
	}
}
