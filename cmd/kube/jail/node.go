package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Node is a jail with kube in it.
type Node struct {
	*Jail
	programs Programs
	called   string // name in the cluster; "" for one of the jail's own
	kube     *exec.Cmd
	exited   chan error
	log      *os.File
	Begin    time.Time // of the last start of kube
}

// NewNode makes the n-th node with its folders and log in dir.
func NewNode(n int, dir string, p Programs) (*Node, error) {
	j, err := New(n, dir)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		j.Remove()
		return nil, err
	}
	return &Node{Jail: j, programs: p, log: log}, nil
}

// single makes one node on a bridge of its own, and returns what removes both.
func single(dir string, p Programs) (n *Node, remove func(), err error) {
	removeSwitch, err := Switch()
	if err == nil {
		n, err = NewNode(1, dir, p)
	}
	if err != nil {
		removeSwitch()
		return nil, nil, err
	}
	return n, func() {
		n.Remove()
		removeSwitch()
	}, nil
}

// Host is the node's name in the cluster.
func (n *Node) Host() string {
	if n.called != "" {
		return n.called
	}
	return "node" + n.Address[strings.LastIndex(n.Address, ".")+1:]
}

// run prepares a command of kube in the jail.
func (n *Node) run(args ...string) (*exec.Cmd, error) {
	cmd, err := n.Command(filepath.Join(n.programs.Dir, "kube"), args...)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(os.Environ(),
		"PATH="+n.programs.Dir+":"+os.Getenv("PATH"), "KUBE_CNI_DIR="+n.programs.Dir, "KUBE_IMAGES_DIR="+n.programs.Images)
	return cmd, nil
}

// Start starts kube with the arguments.
func (n *Node) Start(args ...string) error {
	args = append(args, "--node-name", n.Host(), "--node-ip", n.Address)
	cmd, err := n.run(args...)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = n.log, n.log
	n.Begin = time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	n.kube, n.exited = cmd, make(chan error, 1)
	go func() { n.exited <- cmd.Wait() }()
	return nil
}

// Output runs kube to its end and returns all that it says.
func (n *Node) Output(args ...string) (string, error) {
	cmd, err := n.run(args...)
	if err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Stop sends kube a signal and waits for its end.
func (n *Node) Stop(s syscall.Signal) error {
	if err := n.kube.Process.Signal(s); err != nil {
		return err
	}
	select {
	case err := <-n.exited:
		var exit *exec.ExitError
		if s == syscall.SIGKILL && errors.As(err, &exit) {
			return nil
		}
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("kube of %s does not end on %v", n.Host(), s)
	}
}

// Log is what kube and its parts have said.
func (n *Node) Log() string {
	b, err := os.ReadFile(n.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Remove ends all and takes the jail away.
func (n *Node) Remove() {
	n.Jail.Remove()
	n.log.Close()
}

// path is where a file of the node's /var/lib/rancher is seen from outside.
func (n *Node) path(elem ...string) string {
	return filepath.Join(append([]string{n.Dir, "rancher", "k3s"}, elem...)...)
}

// API waits for the server to have made its administrator's kubeconfig.
func (n *Node) API(ctx context.Context) (*API, error) {
	var api *API
	err := wait(ctx, "the administrator's kubeconfig", func() (err error) {
		api, err = newAPI(filepath.Join(n.Dir, "etc", "k3s", "k3s.yaml"), "/run/netns/"+n.Name)
		return err
	})
	return api, err
}

// wait tries until f succeeds, and names what it waited for when ctx ends.
func wait(ctx context.Context, what string, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last: %w", what, ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// process finds a process of the jail by its first argument.
func (n *Node) process(name string) (int, error) {
	for _, pid := range n.processes() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it has ended since
		}
		if first, _, _ := strings.Cut(string(b), "\x00"); filepath.Base(first) == name {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no process %s on %s", name, n.Host())
}

// podProcess finds a process of a pod; its network namespace is the pod's.
func (n *Node) podProcess(uid string) (int, error) {
	for _, pid := range n.processes() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err == nil && strings.Contains(string(b), "pod"+uid) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no process of pod %s on %s", uid, n.Host())
}

// number reads a number from a line "name value" of a file in /proc.
func number(pid int, file, name string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) >= 2 && words[0] == name {
			return strconv.ParseInt(words[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/%s has no %s", pid, file, name)
}
