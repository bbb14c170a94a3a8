package process

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attributes returns what the kernel is told about the child, and what gives
// the open files of it back.
func (c Command) attributes() (*syscall.SysProcAttr, func(), error) {
	a := &syscall.SysProcAttr{Setsid: c.Session, Setctty: c.Terminal, Setpgid: c.Group && !c.Session}
	if c.Tied {
		a.Pdeathsig = syscall.SIGKILL
	}
	if c.User != nil {
		a.Credential = &syscall.Credential{Uid: c.User.UID, Gid: c.User.GID, Groups: c.User.Groups}
	}
	if c.Cgroup == "" {
		return a, func() {}, nil
	}
	dir, err := os.Open(c.Cgroup)
	if err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", c.Args[0], err)
	}
	a.UseCgroupFD, a.CgroupFD = true, int(dir.Fd())
	return a, func() { dir.Close() }, nil
}

// Reap collects children that this process never started: orphans that the
// kernel handed to it as init. It returns when ctx ends.
func Reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	// Signals merge, so a slow tick looks after what they miss.
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		for reapOne() {
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
		case <-tick.C:
		}
	}
}

// ownDelay is how long the reaper lets the one who started a child wait for
// it; until then the kernel shows nobody else.
const ownDelay = 5 * time.Millisecond

// reapOne looks at one ended child and collects it when it is an orphan. It
// reports whether there may be more.
func reapOne() bool {
	forks.RLock()
	defer forks.RUnlock()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return err == unix.EINTR
	}
	pid := endedPid(&info)
	if pid == 0 {
		return false
	}
	if ours[pid] {
		forks.RUnlock()
		time.Sleep(ownDelay)
		forks.RLock()
		return true
	}
	_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return err == nil
}
