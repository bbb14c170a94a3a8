// Command jail runs kube on this machine as if it were machines of its own:
// each node has a network namespace, private mounts and a tree of cgroups
// below the caller's. It is for tests and figures, and needs root, iproute2,
// nftables and util-linux; the machine's own network is not touched.
//
//	jail build DIR                        programs and image files, into DIR
//	jail bench --programs DIR [--idle 2m] figures, one "name value unit" a line
//	jail start --programs DIR --var DIR --name NODE
//	                                      kube on the state of a machine, until its pods run
//
// The nodes hang on a bridge in a network namespace of its own, 10.77.0.0/24.
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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A reader that goes away must not leave a jail behind: the write fails instead.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "jail:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: jail build DIR | jail bench --programs DIR [--idle 2m] | jail start --programs DIR --var DIR --name NODE")
	}
	switch args[0] {
	case "build":
		if len(args) != 2 {
			return fmt.Errorf("usage: jail build DIR")
		}
		return build(ctx, args[1])
	case "bench":
		return runBench(ctx, args[1:])
	case "start":
		return runStart(ctx, args[1:])
	case stageEnter, stageInside, stageJoin:
		return stage(args[0], args[1:])
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func runBench(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	programs := fs.String("programs", "", "`folder` that jail build has filled")
	kube := fs.String("kube", "", "kube `program` to measure instead of the folder's; what it runs must lie beside it")
	images := fs.String("images", "", "`folder` of image files; default is images in the folder of programs")
	idle := fs.Duration("idle", 2*time.Minute, "`time` to rest, and then to measure writes")
	if err := fs.Parse(args); err != nil {
		return err
	}
	p := Programs{Dir: *programs, Images: *images}
	if *kube != "" {
		p.Dir = filepath.Dir(*kube)
	}
	if p.Images == "" {
		p.Images = filepath.Join(p.Dir, "images")
	}
	return bench(ctx, os.Stdout, p, *idle)
}
