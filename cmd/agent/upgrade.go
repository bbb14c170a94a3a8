package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/datasource"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/source"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/filelock"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// Files of an upgrade.
const (
	upgradeLock  = "/run/kedge/upgrade.lock"
	upgradeImage = "/var/lib/kedge/upgrade.iso" // of one that was fetched
	espMount     = "/run/kedge/esp"
	damagedState = update.StateFile + ".damaged"
)

// An upgrader changes the slots of this machine; one at a time does.
type upgrader struct {
	lock     *filelock.Lock // nil for one that only reads
	slots    update.System
	running  update.Running
	record   slot.Record
	notes    []string // what of the record was mended
	state    update.State
	policy   config.Upgrade
	keyFiles string // pattern of the system's own public keys; "" for those of the running one
	verb     string // what is done with an image, for who watches; "" means upgrade
	digest   string // of the OCI image that the present one came in
	damage   string // of the file system for state; "" when it is sound
	report   func(step string, done, total int64)
}

// openUpgrader reads how this machine's upgrade stands. Lock says how to meet
// another upgrader that is at work: wait for it, or fail. Without a lock this
// one only reads.
func openUpgrader(record boot.Record, lock func(path string) (*filelock.Lock, error)) (*upgrader, error) {
	u := &upgrader{
		slots:   update.System{Medium: record.Medium, MountPoint: espMount},
		running: update.Running{Release: update.Release{Version: release.Version, ID: record.ID}, Slot: record.Slot, Trial: record.Trial, Boot: bootID()},
		damage:  record.StateDamage,
	}
	if record.Slot == "" || record.Mode != boot.ModeDisk {
		return nil, update.ErrNotInstalled
	}
	var err error
	if lock != nil {
		if u.lock, err = lock(upgradeLock); errors.Is(err, filelock.ErrLocked) {
			return nil, update.ErrBusy
		} else if err != nil {
			return nil, err
		}
	}
	if u.state, err = update.Load(update.StateFile); err != nil && lock != nil {
		// What it said is lost; a trial must still come to its end.
		logrus.Warnf("%v; it is kept as %s", err, damagedState)
		err = os.Rename(update.StateFile, damagedState)
	}
	if err == nil {
		err = u.readRecord()
	}
	if err != nil {
		u.lock.Unlock()
		return nil, err
	}
	return u, nil
}

// readRecord reads the boot record, which knows better than the kernel command
// line whether this slot is still on trial.
func (u *upgrader) readRecord() (err error) {
	if u.record, u.notes, err = u.slots.Record(); err == nil {
		u.running.Trial = u.running.Trial && u.record.Good != u.running.Slot
		u.running.Good, u.running.Unarmed = u.record.Good, u.record.Trial == ""
	}
	return err
}

func (u *upgrader) close() { u.lock.Unlock() }

// save keeps the state on the disk, and here.
func (u *upgrader) save(s update.State) error {
	s.Changed, s.Boot = time.Now().UTC(), u.running.Boot
	if err := s.Save(update.StateFile); err != nil {
		return err
	}
	u.state = s
	return nil
}

// upgradeOptions is what the verbs of "kedge upgrade" were asked for.
type upgradeOptions struct {
	policy    update.Policy
	limit     string // of a transfer; "" is the configuration's
	tries     int
	noRestart bool

	kubernetes bool // Kubernetes alone, not the system
	noWait     bool // do not wait for the end of its trial
	keep       bool // go back without the datastore's snapshot
	forward    bool // refuse whatever needs an older datastore
}

func upgradeCommand() *cli.Command {
	var o upgradeOptions
	flags := func(fs *flag.FlagSet) {
		fs.BoolVar(&o.policy.Downgrade, "allow-downgrade", false, "take an older version too")
		fs.BoolVar(&o.policy.Bad, "again", false, "take a release that failed on this machine before")
		fs.BoolVar(&o.policy.From, "allow-jump", false, "take a release that is not meant to follow this one")
		fs.StringVar(&o.limit, "limit", "", "greatest `speed` of a transfer, such as 500KB per second; 0 for none (default: upgrade.bandwidth)")
		kubernetesFlag(fs, &o)
	}
	verb := func(name, usage, short string, lock func(string) (*filelock.Lock, error), flags func(*flag.FlagSet), run func(context.Context, cli.Env, *upgrader) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, Short: short, Flags: flags, Run: func(ctx context.Context, env cli.Env) error {
			if err := rootOnly("upgrade " + name); err != nil {
				return err
			}
			_, init := sockets()
			record, err := init.Boot(ctx)
			if err != nil {
				return initHint(err)
			}
			if o.kubernetes {
				return upgradeHint(upgradeKubernetes(ctx, env, name, record, o))
			}
			u, err := openUpgrader(record, lock)
			if err != nil {
				return upgradeHint(err)
			}
			defer u.close()
			if err := kubernetesIdle(); err != nil && lock != nil && name != "confirm" {
				return upgradeHint(err)
			}
			layers, _ := datasource.Layers(datasource.Gather(ctx, datasource.System{MountPoint: installMount}, true))
			o.policy.Same = record.Damage != ""
			u.policy = config.Merge(layers...).Config.Kedge.Upgrade
			return upgradeHint(run(ctx, env, u))
		}}
	}
	return &cli.Command{Name: "upgrade", Short: "put another release on this machine", Sub: []*cli.Command{
		verb("check", "IMAGE", "say whether an image may be put on this machine: "+source.Forms, filelock.Try, flags, func(ctx context.Context, env cli.Env, u *upgrader) error {
			if err := u.idle(); err != nil {
				return err
			}
			i, closer, err := u.admit(ctx, env, o)
			if err != nil {
				return err
			}
			defer closer.Close()
			_, err = fmt.Fprintf(env.Stdout, "Kedge %s (%s) may follow %s\n", i.Manifest.Version, i.Manifest.ID, u.running.Release)
			return err
		}),
		verb("stage", "IMAGE", "write an image to the idle slot", filelock.Try, flags, func(ctx context.Context, env cli.Env, u *upgrader) error {
			return u.stage(ctx, env, o)
		}),
		verb("apply", "IMAGE", "stage an image, restart into it, and keep it if the node becomes healthy", filelock.Try, func(fs *flag.FlagSet) {
			flags(fs)
			fs.IntVar(&o.tries, "tries", slot.MaxTries, "`number` of starts that the trial has")
			fs.BoolVar(&o.noRestart, "no-reboot", false, "leave the restart to somebody else")
			noWaitFlag(fs, &o)
		}, func(ctx context.Context, env cli.Env, u *upgrader) error {
			if err := u.stage(ctx, env, o); err != nil {
				return err
			}
			if err := update.Arm(u.slots, u.state, o.tries, u.save); err != nil {
				return err
			}
			fmt.Fprintln(env.Stdout, u.state.Text())
			if o.noRestart {
				return nil
			}
			_, init := sockets()
			return initHint(init.Power(ctx, power.Reboot))
		}),
		verb("status", "", "say how the last upgrade stands", nil, func(fs *flag.FlagSet) { kubernetesFlag(fs, &o) }, func(_ context.Context, env cli.Env, u *upgrader) error {
			return u.status(env.Stdout)
		}),
		verb("keys", "[FILE|URL]", "take a signed list of keys, and tell whose releases this machine trusts", filelock.Try, nil, func(ctx context.Context, env cli.Env, u *upgrader) error {
			return u.keys(ctx, env)
		}),
		verb("confirm", "", "commit what is on trial now, without waiting for its health", filelock.Try, func(fs *flag.FlagSet) { kubernetesFlag(fs, &o) }, func(_ context.Context, env cli.Env, u *upgrader) error {
			if err := update.Commit(u.slots, u.state, u.save); err != nil {
				return err
			}
			_, err := fmt.Fprintln(env.Stdout, u.state.Text())
			return err
		}),
		verb("rollback", "", "restart into the release before this one", filelock.Try, func(fs *flag.FlagSet) {
			kubernetesFlag(fs, &o)
			noWaitFlag(fs, &o)
			fs.BoolVar(&o.keep, "keep-datastore", false, "with --kubernetes: go back without the datastore's snapshot, when that cannot be read")
			fs.BoolVar(&o.policy.Downgrade, "allow-downgrade", false, "with --kubernetes: go back to an older version, with the datastore from before when it is another minor version")
		}, func(ctx context.Context, env cli.Env, u *upgrader) error {
			return u.rollback(ctx, env)
		}),
		jobCommand(),
	}}
}

// upgradeHint tells the way out of a refusal.
func upgradeHint(err error) error {
	switch {
	case errors.Is(err, update.ErrDowngrade):
		return cli.Hint(err, "--allow-downgrade takes it")
	case errors.Is(err, update.ErrNoSnapshot):
		return cli.Hint(err, "only a snapshot from before that upgrade brings an older Kubernetes back; "+update.SnapshotFolder+" has none")
	case errors.Is(err, release.ErrKind):
		return cli.Hint(err, "--kubernetes is for Kubernetes alone, and only for that")
	case errors.Is(err, update.ErrOlder):
		return cli.Hint(err, "\"kedge upgrade rollback --kubernetes --allow-downgrade\" first brings an older Kubernetes with its datastore back, where that is possible")
	case errors.Is(err, update.ErrSkew):
		return cli.Hint(err, "go through a release of the minor version between them, servers first")
	case errors.Is(err, update.ErrBad):
		return cli.Hint(err, "--again takes it")
	case errors.Is(err, update.ErrFrom):
		return cli.Hint(err, "go through a release that may follow this one; --allow-jump takes it as it is")
	case errors.Is(err, update.ErrRevoked):
		return cli.Hint(err, "sign it with a key that \"kedge upgrade keys\" lists")
	case errors.Is(err, release.ErrUnsigned), errors.Is(err, release.ErrPartial), errors.Is(err, minisign.ErrUnknownKey):
		return cli.Hint(err, "sign it with \"kedge sign\" and a key in upgrade.keys, or set upgrade.allow_unsigned")
	case errors.Is(err, update.ErrState):
		return cli.Hint(err, "no trial of a release could end well; "+boot.StateAdvice)
	case errors.Is(err, update.ErrNotInstalled):
		return cli.Hint(err, "\"kedge install\" installs this system")
	case errors.Is(err, update.ErrBusy):
		return cli.Hint(err, "\"kedge upgrade status\" says what; a trial ends with \"kedge upgrade confirm\" or \"rollback\", that of Kubernetes alone with the same and --kubernetes")
	}
	return err
}

// idle refuses a transfer while a trial runs: it would keep the lock that whoever
// decides about the trial waits for.
func (u *upgrader) idle() error {
	if u.running.Trial {
		return fmt.Errorf("%w: %s is on trial", update.ErrBusy, u.running.Release)
	}
	return nil
}

func (u *upgrader) stage(ctx context.Context, env cli.Env, o upgradeOptions) error {
	if err := u.idle(); err != nil {
		return err
	}
	i, closer, err := u.admit(ctx, env, o)
	noteFailure(failureFile, env.Args, err, time.Now())
	if err != nil {
		return err
	}
	defer closer.Close()
	if err := u.carry(i); err != nil {
		return err
	}
	u.state.Failing = slices.Sorted(maps.Keys(runChecks(ctx, u.policy.Health)))
	for _, check := range u.state.Failing {
		fmt.Fprintf(env.Stderr, "kedge: upgrade: health check %q fails already and will not count\n", check)
	}
	fmt.Fprintf(env.Stderr, "kedge: upgrade: write Kedge %s to slot %s\n", i.Manifest.Version, slot.Other(u.running.Slot))
	report, done := newShare(env.Stderr, "upgrade", 2*i.Size), int64(0)
	u.state = u.state.Came(i.Manifest.ID, u.digest, u.running.ID)
	err = update.Stage(ctx, u.slots, i, u.running, u.state, func(n int64) {
		done += n
		report(done)
		u.tell("write", done, 2*i.Size)
	}, u.save)
	if err != nil {
		return err
	}
	if err := forget(upgradeImage); err != nil { // it lies in the slot now
		fmt.Fprintf(env.Stderr, "kedge: upgrade: %v\n", err)
	}
	fmt.Fprintln(env.Stdout, u.state.Text())
	return nil
}

// tell lets whoever wants to know how far a step is, in bytes.
func (u *upgrader) tell(step string, done, total int64) {
	if u.report != nil {
		u.report(step, done, total)
	}
}

// carry makes the image bring the configuration that is embedded in the running
// slot, in the place of its own: an upgrade changes the system, not the site.
func (u *upgrader) carry(i *release.Image) error {
	area, err := u.embedded()
	if err != nil {
		return err
	}
	return i.SetEmbedded(area)
}

// embedded reads the embed area of the running slot.
func (u *upgrader) embedded() ([]byte, error) {
	f, err := os.Open(u.slots.Medium)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	running, err := release.Open(f, size)
	if err != nil {
		return nil, fmt.Errorf("read running slot: %w", err)
	}
	area, err := running.Embedded()
	if err != nil {
		return nil, fmt.Errorf("read configuration of the running slot: %w", err)
	}
	return area, nil
}

func (u *upgrader) status(w io.Writer) error {
	fmt.Fprintf(w, "Running     %s, slot %s\n", u.running.Release, u.running.Slot)
	fmt.Fprintf(w, "Committed   slot %s\n", u.record.Good)
	if u.record.Trial != "" {
		fmt.Fprintf(w, "On trial    slot %s, %d starts left\n", u.record.Trial, u.record.Tries)
	}
	if text := u.state.Text(); text != "" {
		fmt.Fprintf(w, "Upgrade     %s\n", text)
	}
	for _, b := range u.state.Bad {
		fmt.Fprintf(w, "Bad         %s, %s: %s\n", b.Release, b.Time.Format(time.DateTime), b.Reason)
	}
	for _, n := range u.notes {
		fmt.Fprintf(w, "Mended      %s\n", n)
	}
	return kubernetesStatus(w)
}

// rollback goes back, and starts the machine anew unless the release before runs.
func (u *upgrader) rollback(ctx context.Context, env cli.Env) error {
	restart, err := u.back("somebody took it back")
	if err != nil {
		return err
	}
	if !restart {
		_, err := fmt.Fprintln(env.Stdout, u.state.Text())
		return err
	}
	_, init := sockets()
	return initHint(init.Power(ctx, power.Reboot))
}

// back ends a trial, one that is to come too, or makes the other slot the one to
// start when that is the release before this one. It counts with the next start,
// if it wants one. Why is what is said of a trial.
func (u *upgrader) back(why string) (restart bool, err error) {
	switch {
	case u.state.Phase == update.Trial:
		return true, update.GiveUp(u.slots, u.state, why, u.save)
	case u.state.Phase == update.Armed:
		return false, update.Unarm(u.slots, u.state, u.save)
	case u.state.Phase == update.Committed && u.state.Slot != u.running.Slot:
		return false, update.Return(u.slots, u.state, u.running, why, u.save)
	case u.state.Phase == update.Committed:
		if u.state.From.ID == "" {
			return false, fmt.Errorf("slot %s did not start: there is no release to go back to", slot.Other(u.running.Slot))
		}
		if err := u.mayReturn(); err != nil {
			return false, err
		}
		s := u.state
		s.Phase, s.Slot = update.Staged, slot.Other(u.running.Slot)
		s.To, s.From = s.From, u.running.Release
		s.Terms = update.Terms{}
		if err := u.save(s); err != nil {
			return false, err
		}
		return true, update.Arm(u.slots, u.state, slot.MaxTries, u.save)
	}
	return false, errors.New("there is no release to go back to: none was upgraded from on this machine")
}

// mayReturn says why the release in the other slot may not come back.
func (u *upgrader) mayReturn() error {
	k, err := update.LoadKube(update.KubeFile)
	if err != nil {
		return err
	}
	m, err := u.slots.Manifest(slot.Other(u.running.Slot))
	if err != nil {
		return fmt.Errorf("go back to %s: %w", u.state.From, err)
	}
	if err := k.AdmitSystem(m.Kubernetes); err != nil {
		return fmt.Errorf("go back to %s: %w", u.state.From, err)
	}
	return nil
}

// newShare tells every tenth of a long way; one without a length is not told.
func newShare(w io.Writer, what string, total int64) func(done int64) {
	begun, told := time.Now(), int64(0)
	return func(done int64) {
		if total > 0 && done*10/total > told {
			told = done * 10 / total
			rate := float64(done) / time.Since(begun).Seconds()
			fmt.Fprintf(w, "kedge: %s: %d %%, %s/s\n", what, told*10, install.Bytes(int64(rate)))
		}
	}
}

// newTransfer tells how a download goes on.
func newTransfer(w io.Writer) func(done, size int64) {
	var report func(int64)
	return func(done, size int64) {
		if size <= 0 {
			return
		}
		if report == nil {
			report = newShare(w, "fetch", size)
		}
		report(done)
	}
}
