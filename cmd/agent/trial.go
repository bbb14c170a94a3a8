package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/console"
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
			if err := os.WriteFile(boot.TrialOver, nil, 0o644); err != nil {
				d.log.Error(err)
			}
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
	u, err := openUpgrader(d.record, true)
	if err != nil {
		return err
	}
	defer u.close()
	for _, n := range u.notes {
		d.log.Warn("boot record mended: ", n)
	}
	before := u.state
	if now := before.Booted(u.running, time.Now().UTC()); now.Phase != before.Phase {
		if err := u.save(now); err != nil {
			return err
		}
		if err := console.Write("kedge: upgrade: " + now.Text() + "\n"); err != nil {
			d.log.Warn(err)
		}
	}
	d.setUpgrade(u.state.Text())
	d.setTrial(u.running.Trial)
	if u.running.Trial && u.state.Phase != update.Trial {
		// The state is lost, the record is not: the trial still has to end.
		if err := u.save(update.State{Phase: update.Trial, Slot: u.running.Slot, To: u.running.Release}); err != nil {
			return err
		}
	}
	if u.state.Phase != update.Trial {
		return nil
	}
	return d.trial(ctx, u)
}

// trial waits until the node is healthy and stays so, and commits; or gives the
// release up when that takes too long.
func (d *daemon) trial(ctx context.Context, u *upgrader) error {
	begun, steady, limit := time.Now(), time.Time{}, d.trialLimit()
	for {
		why := d.unhealthy()
		if why == "" {
			why = u.state.Judge(runChecks(ctx, d.config.Kedge.Upgrade.Health))
		}
		switch now := time.Now(); {
		case why == "" && steady.IsZero():
			steady = now
		case why != "":
			steady = time.Time{}
		}
		if !steady.IsZero() && time.Since(steady) >= trialSteady {
			if err := update.Commit(u.slots, u.state, u.save); err != nil {
				return err
			}
			d.setUpgrade(u.state.Text())
			d.setTrial(false)
			return console.Write("kedge: upgrade: " + u.state.Text() + "\n")
		}
		if time.Since(begun) > limit {
			reason := fmt.Sprintf("not healthy within %v: %s", limit, why)
			if err := update.GiveUp(u.slots, u.state, reason, u.save); err != nil {
				return err
			}
			if err := console.Write("kedge: upgrade: " + reason + "; going back\n"); err != nil {
				d.log.Warn(err)
			}
			return d.init.Power(ctx, power.Reboot)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(trialLook):
		}
	}
}

// trialLimit is how long the node has to become healthy.
func (d *daemon) trialLimit() time.Duration {
	if limit, err := time.ParseDuration(d.config.Kedge.Upgrade.HealthTimeout); err == nil {
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

// checkLimit is how long one health check may take.
const checkLimit = 30 * time.Second

// runChecks runs the user's checks and returns those that failed.
func runChecks(ctx context.Context, checks []string) map[string]error {
	failed := map[string]error{}
	for _, check := range checks {
		ctx, cancel := context.WithTimeout(ctx, checkLimit)
		err := process.Tool{Path: "sh", Args: []string{"-c", check}}.Run(ctx)
		cancel()
		if err != nil {
			failed[check] = err
		}
	}
	return failed
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
