//go:build !linux

package process

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

func (c Command) attributes() (*syscall.SysProcAttr, func(), error) {
	if c.Cgroup != "" || c.Terminal {
		return nil, nil, fmt.Errorf("start %s in a cgroup or on a terminal: %w", c.Args[0], errors.ErrUnsupported)
	}
	a := &syscall.SysProcAttr{Setsid: c.Session, Setpgid: c.Group && !c.Session}
	if c.User != nil {
		a.Credential = &syscall.Credential{Uid: c.User.UID, Gid: c.User.GID, Groups: c.User.Groups}
	}
	return a, func() {}, nil
}

// Reap waits for ctx: only Linux hands orphans to the init of a container or
// machine that we run on.
func Reap(ctx context.Context) { <-ctx.Done() }
