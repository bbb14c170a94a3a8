package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/cmd/kube/child"
	"github.com/kedgeos/kedge/cmd/kube/cri"
	"github.com/kedgeos/kedge/cmd/kube/pki"
	"github.com/kedgeos/kedge/cmd/kube/say"
	"github.com/kedgeos/kedge/cmd/kube/server"
	"github.com/kedgeos/kedge/cmd/kube/worker"
	"github.com/vishvananda/netlink"
)

// childGrace is how long a part may take to end by itself.
const childGrace = 10 * time.Second

// insistPause is how long a step of the start that failed rests.
const insistPause = 3 * time.Second

// load reads every source of settings and fills in what this machine says.
func load(role args.Role, flags []string) (args.Config, error) {
	sources := args.Sources{Environ: os.Environ()}
	config, explicit, flags := args.ConfigFile(flags)
	files, _ := filepath.Glob(config + ".d/*.yaml") // the pattern is sound
	for _, name := range append([]string{config}, files...) {
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) && !explicit {
			continue
		}
		if err != nil {
			return args.Config{}, err
		}
		sources.Files = append(sources.Files, args.File{Name: name, Data: data})
	}
	sources.Flags = flags
	c, warnings, err := args.Parse(role, sources)
	for _, w := range warnings {
		say.Printf("%v", w)
	}
	if err != nil {
		return c, err
	}
	name, err := os.Hostname()
	if err != nil {
		return c, err
	}
	c.Defaults(name, defaultAddress())
	return c, c.Check()
}

// defaultAddress is the IPv4 address of the interface with the best default
// route, or nil.
func defaultAddress() net.IP {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil
	}
	var best *netlink.Route
	for i, r := range routes {
		if (r.Dst == nil || r.Dst.IP.IsUnspecified()) && (best == nil || r.Priority < best.Priority) {
			best = &routes[i]
		}
	}
	if best == nil {
		return nil
	}
	if best.Src != nil {
		return best.Src
	}
	link, err := netlink.LinkByIndex(best.LinkIndex)
	if err != nil {
		return nil
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(addrs) == 0 {
		return nil
	}
	return addrs[0].IP
}

// runServer is "kube server".
func runServer(ctx context.Context, flags []string) error {
	c, err := load(args.Server, flags)
	if err != nil {
		return err
	}
	kernelSettings()
	mend(c)
	cluster, err := server.Prepare(c)
	if err != nil {
		return err
	}
	var parts sync.WaitGroup
	partsContext, stop := context.WithCancel(ctx)
	if !c.DisableAgent {
		parts.Go(func() { runNode(partsContext, c) })
	}
	err = server.Run(ctx, c, cluster)
	stop()
	parts.Wait()
	return err
}

// runAgent is "kube agent".
func runAgent(ctx context.Context, flags []string) error {
	c, err := load(args.Agent, flags)
	if err != nil {
		return err
	}
	kernelSettings()
	if err := os.MkdirAll(c.AgentDir(), 0o711); err != nil {
		return err
	}
	mend(c)
	// A node that has its certificate can work while the server is away.
	insist(ctx, "join", func() error {
		if pki.Joined(c, time.Now()) {
			return nil
		}
		return pki.Join(c, 10*time.Second)
	})
	insist(ctx, "learn the cluster's settings", func() error {
		settings, err := pki.Settings(ctx, c)
		if err != nil {
			return err
		}
		changed, err := c.Learn(settings)
		if len(changed) > 0 {
			say.Printf("settings of %s: %s", c.ServerURL, strings.Join(changed, " "))
		}
		return err
	})
	runNode(ctx, c)
	return nil
}

// mend says what a power cut has left of the kubelet's files, which go.
func mend(c args.Config) {
	removed, err := pki.Mend(c)
	for _, f := range removed {
		say.Printf("%s is not whole, as after a power cut: the kubelet will make another", f)
	}
	if err != nil {
		say.Printf("%v", err)
	}
}

// runNode keeps containerd and the worker running until ctx ends. Containers
// outlive both.
func runNode(ctx context.Context, c args.Config) {
	var parts sync.WaitGroup
	defer parts.Wait()
	insist(ctx, "prepare containerd", func() error { return cri.Prepare(c) })
	parts.Go(func() { child.Keep(ctx, cri.Command(c), childGrace) })
	if err := cri.Wait(ctx); err != nil {
		return
	}
	for _, err := range cri.Import(ctx, c) {
		say.Printf("%v", err)
	}
	var cmd child.Command
	insist(ctx, "prepare worker", func() (err error) {
		cmd, err = worker.Prepare(c)
		return err
	})
	if ctx.Err() == nil {
		child.Keep(ctx, cmd, childGrace)
	}
}

// insist repeats f until it succeeds or ctx ends: a full disk or a mistake in a
// file may be mended while we run.
func insist(ctx context.Context, what string, f func() error) {
	for ctx.Err() == nil {
		err := f()
		if err == nil {
			return
		}
		say.Printf("%s: %v; trying again", what, err)
		select {
		case <-ctx.Done():
		case <-time.After(insistPause):
		}
	}
}

// kernelSettings turns on what pod networks need. A sandbox may forbid it;
// then whoever made the sandbox has done it.
func kernelSettings() {
	for name, value := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
		"net/bridge/bridge-nf-call-iptables": "1", "net/bridge/bridge-nf-call-ip6tables": "1",
		"vm/overcommit_memory": "1", "kernel/panic_on_oops": "1",
	} {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			say.Printf("set %s: %v", name, err)
		}
	}
}

func fatal(err error) int {
	fmt.Fprintln(os.Stderr, "kube:", err)
	return 1
}
