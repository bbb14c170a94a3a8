package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Jail is the namespaces of one node. A process that does nothing keeps them
// while kube is stopped.
type Jail struct {
	Name    string
	Address string // of eth0, without its prefix
	Dir     string // holds the node's persistent folders
	holder  *exec.Cmd
}

// persistent are the folders of a node that are on disk, by their place in Dir.
var persistent = map[string]string{
	"etc": "/etc/rancher", "rancher": "/var/lib/rancher", "kubelet": "/var/lib/kubelet", "cni": "/var/lib/cni",
}

// switchNamespace is the network namespace of the bridge.
func switchNamespace() string { return fmt.Sprintf("jail%d-sw", os.Getpid()) }

// Switch makes the bridge that nodes hang on, and returns what removes it.
func Switch() (remove func(), err error) {
	ns := switchNamespace()
	err = commands(
		"ip netns add "+ns,
		"ip -n "+ns+" link set lo up",
		"ip -n "+ns+" link add br0 type bridge",
		"ip -n "+ns+" addr add 10.77.0.254/24 dev br0",
		"ip -n "+ns+" link set br0 up",
	)
	return func() { _ = commands("ip netns del " + ns) }, err
}

// New makes the namespaces of the n-th node, n from 1.
func New(n int, dir string) (*Jail, error) {
	j := &Jail{
		Name:    fmt.Sprintf("jail%d-n%d", os.Getpid(), n),
		Address: fmt.Sprintf("10.77.0.%d", n),
		Dir:     dir,
	}
	for folder := range persistent {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return nil, err
		}
	}
	port := fmt.Sprintf("p%d", n)
	err := commands(
		"ip netns add "+j.Name,
		"ip -n "+j.Name+" link set lo up",
		"ip -n "+j.Name+" link add eth0 type veth peer name "+port+" netns "+switchNamespace(),
		"ip -n "+j.Name+" addr add "+j.Address+"/24 dev eth0",
		"ip -n "+j.Name+" link set eth0 up",
		"ip -n "+j.Name+" route add default via 10.77.0.254",
		"ip -n "+switchNamespace()+" link set "+port+" master br0 up",
	)
	if err != nil {
		j.Remove()
		return nil, err
	}
	if err := j.hold(); err != nil {
		j.Remove()
		return nil, err
	}
	return j, nil
}

// hold starts the process that keeps the namespaces.
func (j *Jail) hold() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	j.holder = exec.Command(self, stageEnter, j.Name, j.Dir)
	j.holder.Stderr = os.Stderr
	out, err := j.holder.StdoutPipe()
	if err != nil {
		return err
	}
	j.holder.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := j.holder.Start(); err != nil {
		return err
	}
	line := make([]byte, 6)
	if n, err := out.Read(line); err != nil || string(line[:n]) != "ready\n" {
		return fmt.Errorf("make namespaces of %s: it said %q: %w", j.Name, line[:n], err)
	}
	return nil
}

// Command returns a command that runs in the jail.
func (j *Jail) Command(program string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, append([]string{stageJoin, j.Name, strconv.Itoa(j.holder.Process.Pid), program}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// Remove ends every process of the jail and takes its namespaces and cgroups
// away. Its folder stays.
func (j *Jail) Remove() {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		pids := j.processes()
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended since
		}
	}
	if j.holder != nil {
		_ = j.holder.Wait() // it was killed
	}
	for _, dir := range cgroups(j.Name) {
		removeTree(dir)
	}
	_ = commands("ip netns del " + j.Name)
}

// processes lists every process in the jail's cgroups, each once.
func (j *Jail) processes() (pids []int) {
	defer func() {
		slices.Sort(pids) // a process is in a cgroup of every hierarchy
		pids = slices.Compact(pids)
	}()
	for _, root := range cgroups(j.Name) {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil // a cgroup may vanish while we look
			}
			b, _ := os.ReadFile(path)
			for _, word := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(word); err == nil && pid != os.Getpid() {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// removeTree removes a cgroup with all below it.
func removeTree(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	_ = syscall.Rmdir(dir)
}

// commands runs command lines whose words hold no blanks, up to the first that
// fails.
func commands(lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		var stderr bytes.Buffer
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, bytes.TrimSpace(stderr.Bytes()))
		}
	}
	return nil
}

// cgroups are the cgroups of a jail, one for each hierarchy of this machine.
func cgroups(name string) (dirs []string) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for _, line := range strings.Split(strings.TrimSpace(string(own)), "\n") {
		if dir := hierarchy(line); dir != "" {
			dirs = append(dirs, filepath.Join(dir, name))
		}
	}
	return dirs
}

// hierarchy returns our own cgroup's folder for a line of /proc/self/cgroup
// (number:controllers:path), or "" when it is not mounted.
func hierarchy(line string) string {
	fields := strings.SplitN(line, ":", 3)
	if len(fields) != 3 {
		return ""
	}
	mount := filepath.Join("/sys/fs/cgroup", strings.TrimPrefix(fields[1], "name="))
	if fields[1] == "" { // version 2
		if _, err := os.Stat("/sys/fs/cgroup/unified"); err == nil {
			mount = "/sys/fs/cgroup/unified"
		}
	}
	dir := filepath.Join(mount, fields[2])
	if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return dir
}
