package boot

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/mount"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// termWait is how long processes that belong to no service may take to end.
const termWait = 5 * time.Second

// GoDown ends the run of the machine, whose services have stopped: every
// process goes, every file system is written and detached. It returns only
// with an error.
func GoDown(action power.Action, note func(error)) error {
	killAll(syscall.SIGTERM)
	for deadline := time.Now().Add(termWait); time.Now().Before(deadline) && len(others()) > 0; {
		time.Sleep(50 * time.Millisecond)
	}
	killAll(syscall.SIGKILL)
	power.Sync()
	unmountAll(note)
	power.Sync()
	return power.Do(action)
}

// killAll sends a signal to every process but this one.
func killAll(s syscall.Signal) { syscall.Kill(-1, s) }

// others returns the processes besides this one and the kernel's threads.
func others() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A thread of the kernel has no command line; neither has a zombie.
		if line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && len(line) > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// unmountAll detaches what is mounted, latest first, several times over: one
// may hold another. What stays busy, and the root at last, becomes read-only.
func unmountAll(note func(error)) {
	var left []string
	for range 3 {
		table, err := mount.Table()
		if err != nil {
			note(err)
			return
		}
		left = left[:0]
		for _, target := range Detachable(table) {
			if mount.Unmount(target) != nil {
				left = append(left, target)
			}
		}
		if len(left) == 0 {
			break
		}
	}
	for _, target := range left {
		err := mount.Mount(mount.Spec{Target: target, Options: "remount,ro"})
		if err != nil && !errors.Is(err, syscall.EINVAL) {
			note(err)
		}
	}
	detachLoops()
}

// kept are the mounts that the last steps still need.
var kept = []string{"/", "/proc", "/dev", "/sys", "/run"}

// Detachable returns, latest first, the mount points that can go before a
// machine does. What lies on the medium below /run goes too.
func Detachable(table []mount.Mounted) []string {
	var targets []string
	for _, m := range slices.Backward(table) {
		if !slices.Contains(kept, m.Target) {
			targets = append(targets, m.Target)
		}
	}
	return targets
}

// detachLoops frees loop devices that services left behind; the root's own
// stays.
func detachLoops() {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return
	}
	for _, e := range entries {
		if _, err := os.Stat("/sys/block/" + e.Name() + "/loop/backing_file"); err == nil && strings.HasPrefix(e.Name(), "loop") {
			block.DetachLoop("/dev/" + e.Name())
		}
	}
}
