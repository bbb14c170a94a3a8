// Command powercut cuts the power of recorded machines, at every write.
//
//	powercut record [flags]   record virtual machines: an installation, then a life
//	powercut [flags]          make disks as power cuts leave them, and check them
//
// It prints figures, a name and a value a line, and fails when a machine is
// bricked, when something promised is lost, and when the negative control, in
// which flushes do nothing, finds no fault: then it is blind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kedgeos/kedge/hack/powercut/record"
	"github.com/kedgeos/kedge/pkg/host/qemu"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run, args := check, os.Args[1:]
	if len(args) > 0 && args[0] == "record" {
		run, args = recordMachines, args[1:]
	}
	if err := run(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
		os.Exit(1)
	}
}

// say tells of progress; figures go to standard output.
func say(text string) { fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format("15:04:05"), text) }

func recordMachines(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("record", flag.ContinueOnError)
	dir := fs.String("dir", "dist/powercut", "`folder` for the recordings")
	image := fs.String("image", "dist/kedge-amd64.iso", "`image` that is installed")
	only := fs.String("only", "", "record `install` or life alone")
	if err := fs.Parse(args); err != nil {
		return err
	}
	l := record.Lab{Root: ".", Image: *image, Kedge: "bin/kedge", Dir: *dir, Say: say}
	for _, path := range []*string{&l.Root, &l.Image, &l.Kedge, &l.Dir} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return err
	}
	if err := l.Build(ctx); err != nil {
		return err
	}
	say("wait for the turn to run a virtual machine")
	turn, err := qemu.Turn()
	if err != nil {
		return err
	}
	defer turn.Unlock()
	for _, r := range []struct {
		name string
		make func(context.Context) error
	}{{record.Install, l.Install}, {record.Life, l.Life}} {
		if *only != "" && *only != r.name {
			continue
		}
		if err := r.make(ctx); err != nil {
			return fmt.Errorf("record %s: %w", r.name, err)
		}
	}
	return nil
}
