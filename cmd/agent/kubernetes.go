package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/node/supervise"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/filelock"
)

// kubeService is the name under which PID 1 knows Kubernetes.
const kubeService = "kube"

// A kubeKeeper keeps Kubernetes going: it puts in its place what is to run,
// switches, and sees trials through to their end.
type kubeKeeper struct {
	init   kubeInit
	state  string                        // file
	lock   string                        // file, of whoever decides about upgrades
	own    func() (string, error)        // version that the system brings
	files  func(args []string) kubeStore // of a node with these arguments of kube
	node   func() status.Node            // as it was last seen
	forget func()                        // what was seen of it
	policy func() config.Upgrade
	steady time.Duration // for which a node must be healthy
	tell   func(text string)
	log    *logrus.Logger
	trial  func() bool // the system is on trial

	change sync.Mutex // held while kube is stopped, changed or started

	mu    sync.Mutex
	args  []string  // that kube is given
	held  string    // why it is not started; "" when it is
	since time.Time // when the one on trial was started
	text  string    // how the last upgrade of it alone stands

	probation update.Probation // of the one on trial
}

// kubeInit is as much of PID 1 as it takes.
type kubeInit interface {
	Services(context.Context) ([]supervise.Status, error)
	Start(ctx context.Context, service string) error
	Stop(ctx context.Context, service string) error
}

// kubeStore are the images and snapshots of a node.
type kubeStore interface {
	update.KubeMachine
	Use(id string) error
	Prune(keep ...string) error
	Newest() string
}

// newKubeKeeper returns the keeper of this machine, nil when it keeps nothing
// over a restart: then the system's own Kubernetes is all there is.
func (d *daemon) newKubeKeeper() *kubeKeeper {
	if d.record.Mode != boot.ModeDisk {
		return nil
	}
	return &kubeKeeper{
		init: d.init, state: update.KubeFile, lock: upgradeLock, own: ownKubernetes,
		files: func(args []string) kubeStore { return kubeFiles(args) },
		node: func() status.Node {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.node
		},
		forget: func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.node = status.Node{Name: d.node.Name, Role: d.node.Role, Address: d.node.Address, Reason: "Kubernetes was switched"}
		},
		policy: func() config.Upgrade { return d.config.Kedge.Upgrade },
		steady: trialSteady, tell: d.tellUpgrade, log: d.log,
		trial: func() bool {
			// The state says so later than the boot.
			system, err := update.Load(update.StateFile)
			committed := err == nil && system.Phase == update.Committed && system.Slot == d.record.Slot
			return d.record.Trial && !committed
		},
	}
}

// ownKubernetes is the version that this system brings, "" when it does not say.
func ownKubernetes() (string, error) {
	b, err := os.ReadFile(release.KubeVersionFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// kubeFiles are the images and snapshots of a node with these arguments of kube.
func kubeFiles(args []string) update.KubeFiles {
	file, why := update.KubeDatabase(args, exists)
	return update.KubeFiles{Dir: update.KubeFolder, Seen: update.KubeMount, Mounts: update.KernelMounts{}, Snapshots: update.Snapshots{Folder: update.SnapshotFolder, Database: file, Why: why}}
}

// setArgs notes what kube is given.
func (u *kubeKeeper) setArgs(args []string) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.args = args
}

func (u *kubeKeeper) store() kubeStore {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.files(u.args)
}

func (u *kubeKeeper) isServer() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.args) > 0 && u.args[0] == "server"
}

func (u *kubeKeeper) save(k update.Kube) error { return k.Save(u.state) }

// start starts kube for the first time in a boot, if it may run; an agent before
// this one may have done so.
func (u *kubeKeeper) start(ctx context.Context, start func()) {
	if u == nil {
		start()
		return
	}
	u.change.Lock()
	defer u.change.Unlock()
	if u.runs(ctx) || u.ready(ctx) {
		start()
	}
}

// runs tells whether PID 1 has started kube, by an agent before this one.
func (u *kubeKeeper) runs(ctx context.Context) bool {
	services, err := u.init.Services(ctx)
	if err != nil {
		u.log.Error(err)
	}
	for _, s := range services {
		if s.Name == kubeService {
			return s.State == supervise.Running || s.State == supervise.Waiting
		}
	}
	return false
}

// ready puts the Kubernetes that is to run in its place, while none runs. It
// reports whether kube may be started.
func (u *kubeKeeper) ready(ctx context.Context) bool {
	err := u.prepare(ctx)
	held := ""
	if err != nil {
		held = err.Error()
	}
	u.mu.Lock()
	news := held != "" && held != u.held
	u.held = held
	u.mu.Unlock()
	if news {
		u.log.Error(held)
		u.tell(held)
	}
	return err == nil
}

func (u *kubeKeeper) prepare(ctx context.Context) error {
	lock, err := filelock.Wait(u.lock)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	own, err := u.own()
	if err != nil {
		return err
	}
	files := u.store()
	k, err := u.load(files)
	if err != nil {
		return err
	}
	k, kept, err := k.Guard(ctx, files, own, u.trial(), u.save)
	if err != nil {
		return err
	}
	if kept != "" {
		u.tell(kept)
	}
	for {
		before := k.Phase
		now, run, note, err := k.Prepare(ctx, files, own, time.Now().UTC(), u.save)
		k = now
		u.set(k)
		if note != "" {
			u.log.Error(note)
			u.tell(note)
		}
		if k.Phase != before {
			u.tell(k.Text())
		}
		if err != nil {
			return err
		}
		err = files.Use(run.ID)
		if err == nil {
			if err := files.Prune(k.Snapshot, k.Restore, k.Held, k.Saved); err != nil {
				u.log.Warn("delete old snapshots: ", err)
			}
			return nil
		}
		if k.Phase != update.Trial {
			return err
		}
		if err := update.GiveUpKube(k, err.Error(), u.save); err != nil {
			return err
		}
		k.Reason = err.Error()
	}
}

// load reads the state of Kubernetes. When it is damaged, what is known of
// the datastore is that it may be of the newest Kubernetes that lies here.
func (u *kubeKeeper) load(files kubeStore) (update.Kube, error) {
	k, err := update.LoadKube(u.state)
	if err == nil {
		return k, nil
	}
	damaged := u.state + ".damaged"
	u.log.Warnf("%v; it is kept as %s", err, damaged)
	if err := os.Rename(u.state, damaged); err != nil {
		return k, err
	}
	k = update.Kube{Datastore: files.Newest()}
	return k, u.save(k)
}

// keep looks after Kubernetes: it switches to what somebody has armed, and
// sees a trial through to its end. A command arms it in a file, which is looked
// at each second.
func (u *kubeKeeper) keep(ctx context.Context) {
	if u == nil {
		return
	}
	for ctx.Err() == nil {
		pause := trialLook
		if err := u.look(ctx); err != nil && ctx.Err() == nil {
			u.log.Error("kubernetes: ", err)
			pause = trialAgain
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (u *kubeKeeper) look(ctx context.Context) error {
	k, err := update.LoadKube(u.state)
	if err != nil {
		return err
	}
	u.set(k)
	switch {
	case u.isHeld() != "", k.Phase == update.Armed, k.Phase == update.Trial && !k.Undecided():
		return u.swap(ctx)
	case k.Phase == update.Trial:
		return u.judge(ctx, k)
	}
	return nil
}

// swap stops kube and starts what is to run now. Containers run on.
func (u *kubeKeeper) swap(ctx context.Context) error {
	u.change.Lock()
	defer u.change.Unlock()
	if err := u.init.Stop(ctx, kubeService); err != nil {
		return err
	}
	if !u.ready(ctx) {
		return errors.New(u.isHeld())
	}
	u.forget()
	return u.init.Start(ctx, kubeService)
}

// saveDatastore stops kube, keeps a copy of its datastore that answers a request
// of this time, and starts kube again. Containers run on.
func (u *kubeKeeper) saveDatastore(ctx context.Context, at time.Time) error {
	u.change.Lock()
	defer u.change.Unlock()
	u.mu.Lock()
	args := u.args
	u.mu.Unlock()
	if _, why := update.KubeDatabase(args, exists); why != "" {
		return fmt.Errorf("save the datastore: %w: %s", update.ErrNoDatastore, why)
	}
	lock, err := filelock.Try(u.lock)
	if errors.Is(err, filelock.ErrLocked) {
		return update.ErrBusy
	} else if err != nil {
		return err
	}
	if err := u.stopAndSave(ctx, at, lock); err != nil {
		return fmt.Errorf("save the datastore: %w", err)
	}
	return nil
}

// stopAndSave lets go of the lock, which whoever starts kube needs.
func (u *kubeKeeper) stopAndSave(ctx context.Context, at time.Time, lock *filelock.Lock) error {
	defer lock.Unlock()
	k, err := update.LoadKube(u.state)
	if err != nil {
		return err
	}
	if k.Phase == update.Armed || k.Phase == update.Trial {
		return fmt.Errorf("%w: %s", update.ErrBusy, k.Text())
	}
	own, err := u.own()
	if err != nil {
		return err
	}
	if err := u.init.Stop(ctx, kubeService); err != nil {
		return err
	}
	version := k.Chosen(own).Version
	name, err := u.store().Save(ctx, version, version)
	if err == nil {
		k.Asked, k.Saved = at, name
		err = u.save(k)
	}
	lock.Unlock()
	again := context.WithoutCancel(ctx)
	if !u.ready(again) {
		return errors.Join(err, errors.New(u.isHeld()))
	}
	u.forget()
	return errors.Join(err, u.init.Start(again, kubeService))
}

// restart starts kube anew, unless it is held back.
func (u *kubeKeeper) restart(ctx context.Context, restart func() error) error {
	if u == nil {
		return restart()
	}
	u.change.Lock()
	defer u.change.Unlock()
	if u.isHeld() != "" {
		return nil
	}
	return restart()
}

// judge commits the Kubernetes on trial when it has been healthy for long
// enough, or gives it up when that takes too long.
func (u *kubeKeeper) judge(ctx context.Context, k update.Kube) error {
	why := u.unhealthy(k.To.Version)
	if why == "" {
		why = k.Judge(trialChecks(ctx, u.policy(), k.State))
	}
	u.mu.Lock()
	over, reason := u.probation.Look(time.Now(), why, u.steady, trialLimit(u.policy(), k.State))
	u.mu.Unlock()
	if over {
		return u.end(reason)
	}
	return nil
}

// unhealthy says what is wrong with this node while a version is on trial.
func (u *kubeKeeper) unhealthy(version string) string {
	switch n := u.node(); {
	case !n.Ready:
		return "the node is not Ready: " + n.Reason
	case n.Kubernetes != version:
		return fmt.Sprintf("the kubelet says that it is %s, not %s", n.Kubernetes, version)
	}
	return ""
}

// end commits the Kubernetes on trial, or gives it up for a reason. What
// somebody else has decided stands.
func (u *kubeKeeper) end(reason string) error {
	lock, err := filelock.Wait(u.lock)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	k, err := update.LoadKube(u.state)
	if err != nil {
		return err
	}
	if !k.Undecided() {
		return nil
	}
	if reason != "" {
		u.tell(fmt.Sprintf("Kubernetes %s: %s; going back", k.To, reason))
		return update.GiveUpKube(k, reason, u.save)
	}
	own, err := u.own()
	if err != nil {
		return err
	}
	err = update.CommitKube(k, own, u.isServer(), func(now update.Kube) error {
		k = now
		return u.save(now)
	})
	if err == nil {
		u.set(k)
		u.tell(k.Text())
	}
	return err
}

// settle notes, once the system itself is committed, with which Kubernetes
// the datastore is used.
func (u *kubeKeeper) settle() {
	if u == nil {
		return
	}
	if err := u.trySettle(); err != nil {
		u.log.Error("kubernetes: ", err)
	}
}

func (u *kubeKeeper) trySettle() error {
	lock, err := filelock.Wait(u.lock)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if u.trial() {
		return nil
	}
	own, err := u.own()
	if err != nil {
		return err
	}
	k, err := update.LoadKube(u.state)
	if err != nil || u.isHeld() != "" {
		return err
	}
	now := k.Settled(own, u.isServer())
	if now.Current == k.Current && now.Datastore == k.Datastore {
		return nil
	}
	return u.save(now)
}

func (u *kubeKeeper) isHeld() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.held
}

// set keeps how Kubernetes stands, for the status and for the watch of the
// node: what it said before a trial does not count in it.
func (u *kubeKeeper) set(k update.Kube) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.text = k.Text()
	if k.Phase == update.Trial {
		u.since = k.Changed
		return
	}
	u.since, u.probation = time.Time{}, update.Probation{}
}

// watch is since when the node counts, and why it cannot be there at all.
func (u *kubeKeeper) watch() (since time.Time, held string) {
	if u == nil {
		return time.Time{}, ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.since, u.held
}

// status says how the last upgrade of Kubernetes alone stands.
func (u *kubeKeeper) status() string {
	if u == nil {
		return ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.text
}
