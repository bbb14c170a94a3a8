package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// installAsks is the state of an installation that waits for a person.
const installAsks = "press Enter to install this system to a disk"

// installAgain is how long a failed installation rests before it is tried once
// more: a disk or a server may appear.
const installAgain = 30 * time.Second

// installs tells whether this boot installs the system: because the boot menu
// or the kernel command line says so, or because the configuration does, which
// then needs no person. An installed system does not install.
func (d *daemon) installs() bool {
	switch d.record.Mode {
	case boot.ModeInstall:
		return true
	case boot.ModeLive:
		return d.config.Kedge.Install.Silent
	}
	return false
}

// installHere installs without a question when the configuration says so, and
// else leaves it to the consoles. It returns when ctx ends.
func (d *daemon) installHere(ctx context.Context) {
	if !d.config.Kedge.Install.Silent {
		d.tellInstall(installAsks)
		<-ctx.Done()
		return
	}
	begun, wrote := time.Now(), false
	for ctx.Err() == nil {
		now, err := d.installSilently(ctx)
		wrote = wrote || now
		if err == nil {
			return
		}
		d.tellInstall(err.Error())
		if goesBack(d.record.Takeover, wrote, time.Since(begun)) {
			d.tellInstall("restarting into the system that was to be taken over, of which nothing was changed: " + err.Error())
			if err = d.init.Power(ctx, power.Reboot); err == nil {
				return
			}
			d.log.Warn("install: ", err)
		}
		if errors.Is(err, errInstalled) {
			<-ctx.Done()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(installAgain):
		}
	}
}

// takeoverPatience is how long the disk of a takeover is waited for.
const takeoverPatience = 10 * time.Minute

// goesBack tells whether a takeover that cannot install ends: the system that
// started it is still there, and only a restart away.
func goesBack(takeover, wrote bool, tried time.Duration) bool {
	return takeover && !wrote && tried > takeoverPatience
}

// errInstalled means that a medium that installs by itself was left in a
// machine that has been installed.
var errInstalled = errors.New("this machine is installed already: take the medium out and restart it")

// disksPause is how long the disks must stay the same until the only one that
// fits is taken to be the only one: others may be spinning up.
var disksPause = 15 * time.Second

// installSilently installs, and says whether it came to write to a disk.
func (d *daemon) installSilently(ctx context.Context) (wrote bool, err error) {
	d.tellInstall("installing")
	i, err := newInstaller(ctx, installOptions{}, consoleLines{})
	if err != nil {
		return false, err
	}
	defer i.close()
	wanted := i.config.Kedge.Install
	if !install.Named(wanted) {
		if i.disks, err = settled(ctx, i.disks, i.look); err != nil {
			return false, err
		}
	}
	disk, err := i.silentChoice(wanted, d.record.Fallback)
	if err != nil {
		return false, err
	}
	d.tellInstall("installing to " + disk.String())
	if err := i.run(ctx, newTeller(consoleLines{})); err != nil {
		return i.wrote, err
	}
	return i.wrote, d.installed(ctx)
}

// settled returns the disks once two looks in a row saw the same.
func settled(ctx context.Context, disks []install.Disk, look func() ([]install.Disk, error)) ([]install.Disk, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(disksPause):
		}
		again, err := look()
		if err != nil || install.SameDisks(disks, again) {
			return again, err
		}
		disks = again
	}
}

// silentChoice returns the disk that is installed to without a person. In a
// fallback this is a machine of which no state was found in time, which may well
// have been installed. The error wraps errInstalled when nothing is left to do.
func (i *installer) silentChoice(wanted config.Install, fallback bool) (install.Disk, error) {
	late := slices.IndexFunc(i.disks, func(d install.Disk) bool { return d.Ours && !d.Medium })
	if fallback && late >= 0 {
		return install.Disk{}, fmt.Errorf("%s holds an installed system, and was not there in time: restart this machine to run it; kedge.fallback_mode=install does not install it anew", i.disks[late])
	}
	disk, err := install.Choose(i.disks, wanted, i.need())
	switch {
	case errors.Is(err, install.ErrData) && disk.Ours:
		return disk, fmt.Errorf("%w, or set install.wipe to install once more", errInstalled)
	case err != nil:
		return disk, err
	case disk.Ours && disk.Has(i.image): // by a medium that was left in
		return disk, fmt.Errorf("%w, or say \"sudo kedge install\" to install the same once more", errInstalled)
	case fallback && len(disk.Holds) > 0 && wanted.Device == "" && wanted.Disk.Match == (config.DiskMatch{}):
		return disk, fmt.Errorf("%s has %s, and may be the rest of an installed system: after kedge.fallback_mode=install, install.wipe wants install.device or install.disk.match",
			disk, strings.Join(disk.Holds, ", "))
	}
	return disk, nil
}

// installed ends a boot whose installation is done.
func (d *daemon) installed(ctx context.Context) error {
	action, what := power.Reboot, "restarting"
	if d.config.Kedge.Install.PowerOff {
		action, what = power.PowerOff, "powering off"
	}
	d.tellInstall("installed; " + what)
	return d.init.Power(ctx, action)
}

// tellInstall keeps the state for the status and says it on the console.
func (d *daemon) tellInstall(text string) {
	d.mu.Lock()
	same := d.install == text
	d.install = text
	d.mu.Unlock()
	if !same {
		d.log.Info("install: ", text)
		consoleLines{}.Write([]byte("kedge: install: " + text + "\n"))
	}
}

// consoleLines writes to the main console.
type consoleLines struct{}

func (consoleLines) Write(b []byte) (int, error) { return len(b), console.Write(string(b)) }

// installAt lets the person at a terminal install the system. The error is
// install.ErrQuit when that person would rather do something else.
func installAt(ctx context.Context, t *console.Terminal) error {
	err := func() error {
		i, err := newInstaller(ctx, installOptions{}, t)
		if err != nil {
			return err
		}
		defer i.close()
		if err := i.ask(ctx, t); err != nil {
			return err
		}
		if err := i.run(ctx, newTeller(t)); err != nil {
			return err
		}
		action := power.Reboot
		if i.config.Kedge.Install.PowerOff {
			action = power.PowerOff
		}
		fmt.Fprintf(t, "\nInstalled. Take the medium out now. The machine goes on by itself: %s\n", action)
		pause(ctx, wrongDelay)
		_, init := sockets()
		return init.Power(ctx, action)
	}()
	if err != nil {
		fmt.Fprintf(t, "\n%v\n", err)
		pause(ctx, wrongDelay)
	}
	return err
}
