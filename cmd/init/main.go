// Command init is process 1 of a Kedge machine, twice: in the initial RAM file
// system it finds the root, in the root it runs the services.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/power"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: run as process 1: this is not one; see \"kedge reboot\" and \"kedge poweroff\"")
		os.Exit(2)
	}
	stage, action := boot.StageRoot, power.Reboot
	ctx := context.Background()
	go process.Reap(ctx)
	run := runRoot
	if boot.IsInitrd() {
		stage, run = boot.StageInitrd, func(ctx context.Context) (power.Action, error) { return "", boot.Initrd(ctx) }
	}
	err := guard(func() (err error) {
		action, err = run(ctx)
		return err
	})
	end(stage, action, err)
}

// guard turns a panic of f into an error: process 1 must not end.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// lastLook is how long the reason for an unwanted restart stays on the screen.
const lastLook = 20 * time.Second

// end restarts the machine, or switches it off; it never returns.
func end(stage string, action power.Action, err error) {
	if err != nil && !errors.Is(err, boot.ErrReboot) {
		boot.Stopped(stage, err)
		logrus.WithError(err).Error("stopped")
		console.Write(fmt.Sprintf("kedge: restarting in %v\n", lastLook))
		time.Sleep(lastLook)
	}
	if action == "" {
		action = power.Reboot
	}
	err = boot.GoDown(action, func(err error) { logrus.WithError(err).Warn("go down") })
	console.Write(fmt.Sprintf("kedge: %v\n", err))
	select {} // the kernel refused; there is nothing better to do than to reap
}
