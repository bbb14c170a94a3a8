//go:build unix

package process

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// asGroup lets a command run in a process group of its own, which ends as a whole
// when its context does: a shell that is killed alone leaves behind what it has
// started, and that holds the pipes.
func asGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
}
