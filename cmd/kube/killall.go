package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killall ends every container of this node: SIGTERM, the grace time, SIGKILL,
// then their shims. It is for the machine's shutdown, after kube was stopped.
func killall(rest []string) error {
	grace := 30 * time.Second
	if len(rest) > 0 {
		value := strings.TrimPrefix(strings.TrimPrefix(rest[0], "--grace"), "=")
		if value == "" && len(rest) > 1 {
			value = rest[1]
		}
		d, err := time.ParseDuration(value)
		if err != nil || !strings.HasPrefix(rest[0], "--grace") {
			return fmt.Errorf("killall: usage: kube killall [--grace 30s]")
		}
		grace = d
	}
	send(containers(), syscall.SIGTERM)
	for end := time.Now().Add(grace); len(containers()) > 0 && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	send(containers(), syscall.SIGKILL)
	send(shims(), syscall.SIGKILL)
	return nil
}

func send(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			fmt.Fprintf(os.Stderr, "kube: killall: process %d: %v\n", pid, err)
		}
	}
}

// containers lists the processes of all pods, by cgroup (version 2, or the
// memory tree of version 1).
func containers() (pids []int) {
	for _, root := range []string{"/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/memory/kubepods"} {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil // a cgroup may vanish while we look
			}
			b, _ := os.ReadFile(path)
			for _, line := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(line); err == nil {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// shims lists containerd's shim processes.
func shims() (pids []int) {
	comms, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range comms {
		b, _ := os.ReadFile(file)
		if name, _, _ := strings.Cut(string(b), "\x00"); filepath.Base(name) == "containerd-shim-runc-v2" {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
