package child

import (
	"os/exec"
	"runtime"
)

// start starts cmd from a thread that lives as long as this process: the kernel
// sends the parent-death signal when the starting thread ends.
func start(cmd *exec.Cmd) error {
	result := make(chan error)
	requests <- request{cmd, result}
	return <-result
}

type request struct {
	cmd    *exec.Cmd
	result chan error
}

var requests = func() chan request {
	ch := make(chan request)
	go func() {
		runtime.LockOSThread()
		for r := range ch {
			r.result <- r.cmd.Start()
		}
	}()
	return ch
}()
