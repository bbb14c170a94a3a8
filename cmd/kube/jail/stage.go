package main

import (
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

// The stages by which a process gets into a jail. Each ends by becoming the
// next program.
const (
	stageEnter  = "stage-enter"  // NAME DIR: join cgroups, make namespaces, go on inside
	stageInside = "stage-inside" // DIR: mount, then hold
	stageJoin   = "stage-join"   // NAME PID PROGRAM ARG...: join cgroups and namespaces
)

func stage(name string, args []string) error {
	switch name {
	case stageEnter:
		return enter(args[0], args[1])
	case stageInside:
		return inside(args[0])
	}
	return join(args[0], args[1], args[2:])
}

func enter(name, dir string) error {
	if err := joinCgroups(name); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return become("nsenter", "--net=/run/netns/"+name, "unshare", "--mount", "--cgroup", "--propagation", "private", self, stageInside, dir)
}

func join(name, holder string, command []string) error {
	if err := joinCgroups(name); err != nil {
		return err
	}
	return become("nsenter", append([]string{"--target", holder, "--mount", "--cgroup", "--net", "--"}, command...)...)
}

func become(program string, args ...string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", program, syscall.Exec(path, append([]string{program}, args...), os.Environ()))
}

// joinCgroups moves this process into the jail's cgroups, made when absent.
func joinCgroups(name string) error {
	for _, dir := range cgroups(name) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // version 1 starts with none
			if err := inherit(dir, file); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return fmt.Errorf("join %s: %w", dir, err)
		}
	}
	return nil
}

func inherit(dir, file string) error {
	if _, err := os.Stat(filepath.Join(dir, "cpuset.cpu_exclusive")); err != nil {
		return nil // not a cpuset of version 1
	}
	value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), value, 0)
}

// inside mounts what a node sees and then waits to be killed.
func inside(dir string) error {
	controllers, err := controllers()
	if err != nil {
		return err
	}
	for _, m := range mounts(dir, controllers) {
		if err := m.do(); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour)
	}
}

// controllers lists the version 1 hierarchies that the machine has.
func controllers() ([]string, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var list []string
	for _, line := range strings.Split(strings.TrimSpace(string(own)), "\n") {
		if fields := strings.SplitN(line, ":", 3); len(fields) == 3 && fields[1] != "" {
			list = append(list, fields[1])
		}
	}
	return list, nil
}

type mount struct{ source, target, kind, data string }

// mounts is the node's view: its own cgroups as the root of all, fresh memory
// for what does not survive a start, and its folders.
func mounts(dir string, controllers []string) []mount {
	list := []mount{
		{"", "/sys/fs/cgroup", "detach", ""},
		{"", "/sys", "detach", ""},
		{"sysfs", "/sys", "sysfs", ""},
	}
	if len(controllers) == 0 {
		list = append(list, mount{"cgroup2", "/sys/fs/cgroup", "cgroup2", ""})
	} else {
		list = append(list, mount{"tmpfs", "/sys/fs/cgroup", "tmpfs", ""}, mount{"cgroup2", "/sys/fs/cgroup/unified", "cgroup2", ""})
	}
	for _, c := range controllers {
		data := c
		if strings.HasPrefix(c, "name=") {
			data = "none," + c
		}
		list = append(list, mount{"cgroup", "/sys/fs/cgroup/" + strings.TrimPrefix(c, "name="), "cgroup", data})
	}
	list = append(list, mount{"tmpfs", "/run", "tmpfs", ""}, mount{"tmpfs", "/var/log", "tmpfs", ""})
	for folder, target := range persistent {
		list = append(list, mount{filepath.Join(dir, folder), target, "bind", ""})
	}
	return append(list, mount{"", "/", "shared", ""})
}

func (m mount) do() error {
	switch m.kind {
	case "detach":
		if err := syscall.Unmount(m.target, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			return err
		}
		return nil
	case "shared":
		return syscall.Mount("", m.target, "", syscall.MS_SHARED|syscall.MS_REC, "")
	}
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if m.kind == "bind" {
		return syscall.Mount(m.source, m.target, "", syscall.MS_BIND|syscall.MS_REC, "")
	}
	return syscall.Mount(m.source, m.target, m.kind, 0, m.data)
}
