package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/request"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/filelock"
	"github.com/kedgeos/kedge/pkg/sys/power"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// Times of a trial.
const (
	trialSteady = 20 * time.Second // for which it must stay so
	trialLook   = time.Second
	trialAgain  = 10 * time.Second // until a record that could not be written is tried again
)

// upgrades brings what is known of upgrades up to date with this boot, and
// sees a trial through to its end.
func (d *daemon) upgrades(ctx context.Context) {
	for ctx.Err() == nil {
		err := d.upgrade(ctx)
		if err == nil || errors.Is(err, update.ErrNotInstalled) {
			if ctx.Err() != nil { // the agent ends, the trial does not
				return
			}
			if err := atomicfile.WriteFile(boot.TrialOver, []byte(d.trialEnd()), 0o644); err != nil {
				d.log.Error(err)
			}
			d.kube.settle()
			d.knowBoot() // of one that is not installed, too
			return
		}
		d.log.Error("upgrade: ", err)
		d.setUpgrade(err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(trialAgain):
		}
	}
}

func (d *daemon) upgrade(ctx context.Context) error {
	running, onTrial, err := d.bootedUpgrade()
	if err != nil || !onTrial {
		return err
	}
	return d.trial(ctx, running)
}

// bootedUpgrade notes what this boot says of the last upgrade, and tells
// whether a trial runs. That a full disk does not take a note of the trial is no
// reason to leave it without its end.
func (d *daemon) bootedUpgrade() (running update.Running, onTrial bool, err error) {
	u, err := openUpgrader(d.record, filelock.Wait)
	if err != nil {
		return running, false, err
	}
	defer u.close()
	for _, n := range u.notes {
		d.log.Warn("boot record mended: ", n)
	}
	before := u.state
	if now := before.Booted(u.running, time.Now().UTC()); now.Phase != before.Phase || now.Last != before.Last {
		// GRUB may have starts left of a trial that is over by this.
		if now.Phase == update.RolledBack && !u.running.Unarmed {
			if err := u.slots.Disarm(); err != nil {
				return u.running, false, err
			}
		}
		if err := u.save(now); err != nil && now.Phase != update.Trial {
			return u.running, false, err
		} else if err != nil {
			d.log.Error("upgrade: ", err)
			u.state = now
		}
		d.tellUpgrade(now.Text())
	}
	d.setUpgrade(u.state.Text())
	d.setTrial(u.running.Trial)
	d.knowBoot()
	return u.running, u.state.Phase == update.Trial, nil
}

// trial waits until the node is healthy and stays so, and commits; or gives the
// release up when that takes too long. Whoever is quicker, by "kedge upgrade
// confirm" or "rollback", has decided.
func (d *daemon) trial(ctx context.Context, running update.Running) error {
	var probation update.Probation
	for {
		state, err := update.Load(update.StateFile)
		if err != nil {
			return err
		}
		state = state.Booted(running, time.Now().UTC()) // if that could not be saved
		if !state.Undecided() {
			return d.endTrial(ctx, "")
		}
		if damage := rootDamage(); damage != "" { // it does not heal
			return d.endTrial(ctx, damage)
		}
		why := d.unhealthy()
		if why == "" {
			why = state.Judge(trialChecks(ctx, d.config.Kedge.Upgrade, state))
		}
		if over, reason := probation.Look(time.Now(), why, trialSteady, trialLimit(d.config.Kedge.Upgrade, state)); over {
			return d.endTrial(ctx, reason)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(trialLook):
		}
	}
}

// endTrial commits what is on trial, or gives it up for a reason. What somebody
// else has decided stands.
func (d *daemon) endTrial(ctx context.Context, reason string) error {
	u, err := openUpgrader(d.record, filelock.Wait)
	if err != nil {
		return err
	}
	defer u.close()
	u.state = u.state.Booted(u.running, time.Now().UTC())
	switch {
	case u.state.Phase != update.Trial && u.running.Trial:
		return fmt.Errorf("%s no longer knows of the trial that runs", update.StateFile)
	case u.state.Phase != update.Trial: // it was confirmed
	case reason == "" && u.state.Undecided():
		if err := update.Commit(u.slots, u.state, u.save); err != nil {
			return err
		}
		d.tellUpgrade(u.state.Text())
	case u.state.Undecided() && u.state.Last:
		if err := update.Keep(u.slots, u.state, reason, u.save); err != nil {
			return err
		}
		d.tellUpgrade(u.state.Text())
	default:
		if u.state.Undecided() {
			d.tellUpgrade(reason + "; going back")
		} else {
			reason = u.state.Reason
		}
		if err := update.GiveUp(u.slots, u.state, reason, u.save); err != nil {
			return err
		}
		return d.init.Power(ctx, power.Reboot)
	}
	d.setUpgrade(u.state.Text())
	d.setTrial(false)
	return nil
}

// tellUpgrade says on the console how an upgrade goes on.
func (d *daemon) tellUpgrade(text string) {
	if err := console.Write("kedge: upgrade: " + text + "\n"); err != nil {
		d.log.Warn(err)
	}
}

// trialLimit is how long the node has to become healthy: what a cluster asked
// for, as far as a configuration could, or what the configuration says.
func trialLimit(c config.Upgrade, s update.State) time.Duration {
	if s.Limit > 0 {
		return min(s.Limit, config.MaxHealthTimeout)
	}
	if limit, err := time.ParseDuration(c.HealthTimeout); err == nil {
		return limit
	}
	return config.DefaultHealthTimeout
}

// unhealthy says what is wrong with this node, "" when nothing is.
func (d *daemon) unhealthy() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.node.Ready {
		return "the node is not Ready: " + d.node.Reason
	}
	return ""
}

// checkLimit is how long a health check that is a command may take.
const checkLimit = 30 * time.Second

// trialChecks runs the user's checks, and the probes that a cluster asked for.
func trialChecks(ctx context.Context, c config.Upgrade, s update.State) map[string]error {
	failed := runChecks(ctx, c.Health)
	maps.Copy(failed, request.Probes(ctx, s.Probes))
	return failed
}

// runChecks runs the user's checks and returns those that failed.
func runChecks(ctx context.Context, checks []string) map[string]error {
	failed := map[string]error{}
	for _, check := range checks {
		if err := runCheck(ctx, check); err != nil {
			failed[check] = err
		}
	}
	return failed
}

// runCheck asks a check that is a URL, and runs any other.
func runCheck(ctx context.Context, check string) error {
	if !config.IsProbe(check) {
		ctx, cancel := context.WithTimeout(ctx, checkLimit)
		defer cancel()
		return process.Tool{Path: "sh", Args: []string{"-c", check}}.Run(ctx)
	}
	if address, ok := strings.CutPrefix(check, "tcp://"); ok {
		return request.Probe(ctx, update.Probe{TCP: address})
	}
	return request.Probe(ctx, update.Probe{URL: check})
}

// trialEnd is what process 1 is told of a trial's end.
func (d *daemon) trialEnd() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.onTrial {
		return boot.GivenUp
	}
	return ""
}

func (d *daemon) setTrial(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onTrial = on
}

func (d *daemon) setUpgrade(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.upgradeText = text
}
