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

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/node/supervise"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/filelock"
)

// kubeService is the name under which PID 1 knows Kubernetes.
const kubeService = "kube"

// A kubeKeeper is what the daemon knows of its Kubernetes.
type kubeKeeper struct {
	change sync.Mutex // held while kube is stopped, changed or started

	mu    sync.Mutex
	args  []string  // that kube is given
	held  string    // why it is not started; "" when it is
	since time.Time // when the one on trial was started
	text  string    // how the last upgrade of it alone stands
	begun time.Time // when its trial was first seen
	well  time.Time // since when it is healthy; zero when it is not
}

// ownKubernetes is the version that this system brings, "" when it does not say.
func ownKubernetes() (string, error) {
	b, err := os.ReadFile(release.KubeVersionFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// kubeFiles are the images and snapshots of a node with these arguments of kube.
func kubeFiles(args []string) update.KubeFiles {
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	file, why := update.KubeDatabase(args, exists)
	return update.KubeFiles{Dir: update.KubeFolder, Seen: update.KubeMount, Mounts: update.KernelMounts{}, Snapshots: update.Snapshots{Folder: update.SnapshotFolder, Database: file, Why: why}}
}

func (d *daemon) kubeArgs() []string {
	d.kube.mu.Lock()
	defer d.kube.mu.Unlock()
	return d.kube.args
}

func (d *daemon) isServer() bool {
	args := d.kubeArgs()
	return len(args) > 0 && args[0] == "server"
}

// keepsKube tells whether this machine can have another Kubernetes than the
// system's own: what is in memory only does not outlive a start.
func (d *daemon) keepsKube() bool { return d.record.Mode == boot.ModeDisk }

// kubeRuns tells whether PID 1 has started kube, by an agent before this one.
func (d *daemon) kubeRuns(ctx context.Context) bool {
	services, err := d.init.Services(ctx)
	if err != nil {
		d.log.Error(err)
	}
	for _, s := range services {
		if s.Name == kubeService {
			return s.State == supervise.Running || s.State == supervise.Waiting
		}
	}
	return false
}

// readyKube puts the Kubernetes that is to run in its place, while none runs. It
// reports whether kube may be started.
func (d *daemon) readyKube(ctx context.Context) bool {
	err := d.prepareKube(ctx)
	held := ""
	if err != nil {
		held = err.Error()
	}
	d.kube.mu.Lock()
	news := held != "" && held != d.kube.held
	d.kube.held = held
	d.kube.mu.Unlock()
	if news {
		d.log.Error(held)
		d.tellKube(held)
	}
	return err == nil
}

func (d *daemon) prepareKube(ctx context.Context) error {
	if !d.keepsKube() {
		return nil
	}
	lock, err := filelock.Wait(upgradeLock)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	own, err := ownKubernetes()
	if err != nil {
		return err
	}
	files := kubeFiles(d.kubeArgs())
	k, err := d.loadKube(files)
	if err != nil {
		return err
	}
	for {
		before := k.Phase
		now, run, note, err := k.Prepare(ctx, files, own, time.Now().UTC(), saveKube)
		k = now
		d.setKube(k)
		if note != "" {
			d.log.Error(note)
			d.tellKube(note)
		}
		if k.Phase != before {
			d.tellKube(k.Text())
		}
		if err != nil {
			return err
		}
		err = files.Use(run.ID)
		if err == nil {
			if err := files.Prune(k.Snapshot, k.Restore); err != nil {
				d.log.Warn("delete old snapshots: ", err)
			}
			return nil
		}
		if k.Phase != update.Trial {
			return err
		}
		if err := update.GiveUpKube(k, err.Error(), saveKube); err != nil {
			return err
		}
		k.Reason = err.Error()
	}
}

func saveKube(k update.Kube) error { return k.Save(update.KubeFile) }

// loadKube reads the state of Kubernetes. When it is damaged, what is known of
// the datastore is that it may be of the newest Kubernetes that lies here.
func (d *daemon) loadKube(files update.KubeFiles) (update.Kube, error) {
	k, err := update.LoadKube(update.KubeFile)
	if err == nil {
		return k, nil
	}
	const damaged = update.KubeFile + ".damaged"
	d.log.Warnf("%v; it is kept as %s", err, damaged)
	if err := os.Rename(update.KubeFile, damaged); err != nil {
		return k, err
	}
	k = update.Kube{Datastore: files.Newest()}
	return k, saveKube(k)
}

// kubernetes looks after Kubernetes: it switches to what somebody has armed, and
// sees a trial through to its end. A command arms it in a file, which is looked
// at each second.
func (d *daemon) kubernetes(ctx context.Context) {
	if !d.keepsKube() {
		return
	}
	for ctx.Err() == nil {
		pause := trialLook
		if err := d.lookAfterKube(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("kubernetes: ", err)
			pause = trialAgain
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (d *daemon) lookAfterKube(ctx context.Context) error {
	k, err := update.LoadKube(update.KubeFile)
	if err != nil {
		return err
	}
	d.setKube(k)
	switch {
	case d.kubeHeld() != "", k.Phase == update.Armed, k.Phase == update.Trial && !k.Undecided():
		return d.switchKube(ctx)
	case k.Phase == update.Trial:
		return d.judgeKube(ctx, k)
	}
	return nil
}

// switchKube stops kube and starts what is to run now. Containers run on.
func (d *daemon) switchKube(ctx context.Context) error {
	d.kube.change.Lock()
	defer d.kube.change.Unlock()
	if err := d.init.Stop(ctx, kubeService); err != nil {
		return err
	}
	if !d.readyKube(ctx) {
		return errors.New(d.kubeHeld())
	}
	d.mu.Lock()
	d.node = status.Node{Name: d.node.Name, Role: d.node.Role, Address: d.node.Address, Reason: "Kubernetes was switched"}
	d.mu.Unlock()
	return d.init.Start(ctx, kubeService)
}

// restartKube starts kube anew, unless it is held back.
func (d *daemon) restartKube(ctx context.Context) error {
	d.kube.change.Lock()
	defer d.kube.change.Unlock()
	if d.kubeHeld() != "" {
		return nil
	}
	return d.init.Restart(ctx, kubeService)
}

// judgeKube commits the Kubernetes on trial when it has been healthy for long
// enough, or gives it up when that takes too long.
func (d *daemon) judgeKube(ctx context.Context, k update.Kube) error {
	why := d.unhealthyKube(k.To.Version)
	if why == "" {
		why = k.Judge(runChecks(ctx, d.config.Kedge.Upgrade.Health))
	}
	now, limit := time.Now(), d.trialLimit()
	d.kube.mu.Lock()
	if d.kube.begun.IsZero() {
		d.kube.begun = now
	}
	switch {
	case why != "":
		d.kube.well = time.Time{}
	case d.kube.well.IsZero():
		d.kube.well = now
	}
	begun, well := d.kube.begun, d.kube.well
	d.kube.mu.Unlock()
	switch {
	case !well.IsZero() && now.Sub(well) >= trialSteady:
		return d.endKube("")
	case now.Sub(begun) > limit:
		return d.endKube(fmt.Sprintf("not healthy within %v: %s", limit, why))
	}
	return nil
}

// unhealthyKube says what is wrong with this node while a version is on trial.
func (d *daemon) unhealthyKube(version string) string {
	if why := d.unhealthy(); why != "" {
		return why
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.node.Kubernetes != version {
		return fmt.Sprintf("the kubelet says that it is %s, not %s", d.node.Kubernetes, version)
	}
	return ""
}

// endKube commits the Kubernetes on trial, or gives it up for a reason. What
// somebody else has decided stands.
func (d *daemon) endKube(reason string) error {
	lock, err := filelock.Wait(upgradeLock)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	k, err := update.LoadKube(update.KubeFile)
	if err != nil {
		return err
	}
	if !k.Undecided() {
		return nil
	}
	if reason != "" {
		d.tellKube(fmt.Sprintf("Kubernetes %s: %s; going back", k.To, reason))
		return update.GiveUpKube(k, reason, saveKube)
	}
	own, err := ownKubernetes()
	if err != nil {
		return err
	}
	err = update.CommitKube(k, own, d.isServer(), func(now update.Kube) error {
		k = now
		return saveKube(now)
	})
	if err == nil {
		d.setKube(k)
		d.tellKube(k.Text())
	}
	return err
}

// settleKube notes, once the system itself is committed, with which Kubernetes
// the datastore is used.
func (d *daemon) settleKube() {
	if !d.keepsKube() {
		return
	}
	if err := d.settle(); err != nil {
		d.log.Error("kubernetes: ", err)
	}
}

func (d *daemon) settle() error {
	lock, err := filelock.Wait(upgradeLock)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	system, err := update.Load(update.StateFile)
	if err != nil || system.Phase == update.Trial {
		return err
	}
	own, err := ownKubernetes()
	if err != nil {
		return err
	}
	k, err := update.LoadKube(update.KubeFile)
	if err != nil || d.kubeHeld() != "" {
		return err
	}
	now := k.Settled(own, d.isServer())
	if now.Current == k.Current && now.Datastore == k.Datastore {
		return nil
	}
	return saveKube(now)
}

func (d *daemon) kubeHeld() string {
	d.kube.mu.Lock()
	defer d.kube.mu.Unlock()
	return d.kube.held
}

// setKube keeps how Kubernetes stands, for the status and for the watch of the
// node: what it said before a trial does not count in it.
func (d *daemon) setKube(k update.Kube) {
	d.kube.mu.Lock()
	defer d.kube.mu.Unlock()
	d.kube.text = k.Text()
	if k.Phase == update.Trial {
		d.kube.since = k.Changed
		return
	}
	d.kube.since, d.kube.begun, d.kube.well = time.Time{}, time.Time{}, time.Time{}
}

// kubeWatch is since when the node counts, and why it cannot be there at all.
func (d *daemon) kubeWatch() (since time.Time, held string) {
	d.kube.mu.Lock()
	defer d.kube.mu.Unlock()
	return d.kube.since, d.kube.held
}

// tellKube says on the console how Kubernetes goes on.
func (d *daemon) tellKube(text string) {
	if err := console.Write("kedge: upgrade: " + text + "\n"); err != nil {
		d.log.Warn(err)
	}
}
