package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/control"
	"github.com/kedgeos/kedge/pkg/node/supervise"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// serviceDirs hold the definitions: those of the image, then what the agent
// replaces.
var serviceDirs = []string{"/usr/lib/kedge/services", "/run/kedge/services"}

// baseEnv is where the environment of each service begins.
var baseEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec/cni",
	"HOME=/root", "LANG=C.UTF-8",
}

// clockPause is the time between two notes of the time on the disk.
const clockPause = 30 * time.Minute

// initd is what the control socket reaches.
type initd struct {
	*supervise.Supervisor
	system *boot.System
	down   chan power.Action
}

func (i *initd) Boot() boot.Record { return i.system.Journal.Record() }

// Power begins to go down; whoever asks second changes nothing.
func (i *initd) Power(a power.Action) error {
	select {
	case i.down <- a:
		return nil
	default:
		return supervise.ErrClosed
	}
}

// runRoot runs the machine until it shall go down, and returns how.
func runRoot(ctx context.Context) (power.Action, error) {
	system, err := boot.Root(ctx)
	if err != nil {
		return power.Reboot, err
	}
	ring := supervise.OpenRing(filepath.Join(system.LogDir(), "init.log"))
	boot.LogTo(ring)
	i := &initd{system: system, down: make(chan power.Action, 1)}
	i.Supervisor, err = supervise.New(supervise.Options{
		Load: loadServices, Cgroups: boot.CgroupDir, Logs: system.LogDir(), Console: consoleWriter{}, Env: baseEnv,
	})
	if err != nil {
		logrus.WithError(err).Error("read services")
		system.Journal.Note(err.Error())
	}
	i.background(ctx)
	go i.guardTrial(ctx)
	system.Journal.Stage(boot.StageServices)
	if err := i.Autostart(system.Mode); err != nil {
		logrus.WithError(err).Error("start services")
	}
	action := <-i.down
	console.Write("kedge: " + string(action) + ": stopping services\n")
	logrus.WithField("action", action).Info("going down")
	i.Shutdown()
	if err := system.Save(); err != nil {
		logrus.WithError(err).Warn("save state")
	}
	console.Write("kedge: " + string(action) + ": services stopped\n")
	boot.LogTo(nil)
	ring.Close()
	return action, nil
}

// loadServices reads all definitions, those for each console spread out.
func loadServices() ([]supervise.Definition, error) {
	read, err := supervise.Load(serviceDirs...)
	var all []supervise.Definition
	consoles := console.Names()
	for _, d := range read {
		all = append(all, d.Expand(consoles)...)
	}
	return all, err
}

// consoleWriter shows lines of services on the console.
type consoleWriter struct{}

func (consoleWriter) Write(b []byte) (int, error) { return len(b), console.Write(string(b)) }

// background starts what runs beside the services. A part that fails is told
// and, where that makes sense, tried again; it does not stop the machine.
func (i *initd) background(ctx context.Context) {
	for name, part := range map[string]func(context.Context) error{
		"control socket": func(ctx context.Context) error { return control.Serve(ctx, control.Path, i) },
		"power buttons":  i.watchButtons,
		"disk links":     boot.LinkDisks,
		"clock":          i.keepClock,
		"root":           func(context.Context) error { return i.system.CheckRoot() },
	} {
		go func() {
			for {
				if err := guard(func() error { return part(ctx) }); err != nil {
					logrus.WithError(err).Error(name)
				}
				time.Sleep(5 * time.Second)
			}
		}()
	}
	go i.watchSignals()
}

// guardTrial restarts the machine when a slot on trial was not decided about.
func (i *initd) guardTrial(ctx context.Context) {
	err := guard(func() error { return i.system.GuardTrial(ctx) })
	if err == nil {
		return
	}
	console.Write("kedge: " + err.Error() + "; restarting\n")
	logrus.WithError(err).Error("trial")
	i.Power(power.Reboot)
}

// actionOf maps signals to what busybox' reboot, poweroff and halt mean by
// them; Ctrl-Alt-Del is an interrupt.
var actionOf = map[os.Signal]power.Action{
	syscall.SIGINT: power.Reboot, syscall.SIGTERM: power.Reboot, syscall.SIGUSR2: power.PowerOff, syscall.SIGUSR1: power.Halt,
}

func (i *initd) watchSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := power.CatchCtrlAltDel(); err != nil {
		logrus.WithError(err).Warn("signals")
	}
	for s := range signals {
		i.Power(actionOf[s])
	}
}

// watchButtons switches off when a power button is pressed.
func (i *initd) watchButtons(ctx context.Context) error {
	events, err := kernel.Events(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	watched := map[string]bool{}
	watch := func() {
		mu.Lock()
		defer mu.Unlock()
		for _, device := range power.Buttons() {
			if watched[device] {
				continue
			}
			watched[device] = true
			go func() {
				if power.Pressed(ctx, device) == nil {
					i.Power(power.PowerOff)
				}
				mu.Lock()
				defer mu.Unlock()
				delete(watched, device)
			}()
		}
	}
	watch()
	for e := range events {
		if e.Values["SUBSYSTEM"] == "input" && e.Action == "add" {
			watch()
		}
	}
	return nil
}

// keepClock notes the time on the disk now and then.
func (i *initd) keepClock(ctx context.Context) error {
	if err := i.system.SaveClock(); err != nil {
		return err
	}
	time.Sleep(clockPause)
	return nil
}
