package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/node/apply"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/datasource"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/source"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/filelock"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// Of an image of Kubernetes: where it is fetched to, and what is more than any
// has, in bytes.
const (
	kubeImage = "/var/lib/kedge/kubernetes.img"
	maxKube   = 1 << 30
)

func kubernetesFlag(fs *flag.FlagSet, o *upgradeOptions) {
	fs.BoolVar(&o.kubernetes, "kubernetes", false, "Kubernetes alone, beside the system and without a restart of the machine")
}

func noWaitFlag(fs *flag.FlagSet, o *upgradeOptions) {
	fs.BoolVar(&o.noWait, "no-wait", false, "with --kubernetes: do not wait for the end of the trial")
}

// A kubeUpgrader changes the Kubernetes of this machine; one at a time does, and
// none while the system is changed.
type kubeUpgrader struct {
	lock   *filelock.Lock
	k      update.Kube
	files  update.KubeFiles
	facts  update.KubeFacts
	policy config.Upgrade
	medium string // that this system runs from
	digest string // of the OCI image that the present one came in
	report func(step string, done, total int64)
}

func (u *kubeUpgrader) close() {
	u.lock.Unlock()
	u.lock = nil
}

func (u *kubeUpgrader) save(k update.Kube) error {
	k.Changed = time.Now().UTC()
	if err := k.Save(update.KubeFile); err != nil {
		return err
	}
	u.k = k
	return nil
}

// openKubeUpgrader reads how this machine's Kubernetes stands.
func openKubeUpgrader(ctx context.Context, record boot.Record) (u *kubeUpgrader, err error) {
	if record.Mode != boot.ModeDisk {
		return nil, errors.New("this system keeps nothing over a restart: another Kubernetes needs one that is installed, or has a disk for its state")
	}
	if record.StateDamage != "" {
		return nil, fmt.Errorf("%w: %s", update.ErrState, record.StateDamage)
	}
	u = &kubeUpgrader{medium: record.Medium}
	if u.lock, err = filelock.Try(upgradeLock); errors.Is(err, filelock.ErrLocked) {
		return nil, update.ErrBusy
	} else if err != nil {
		return nil, err
	}
	if err = u.read(ctx, record); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

func (u *kubeUpgrader) read(ctx context.Context, record boot.Record) (err error) {
	if u.k, err = update.LoadKube(update.KubeFile); err != nil {
		return err
	}
	layers, _ := datasource.Layers(datasource.Gather(ctx, datasource.System{MountPoint: installMount}, true))
	c := config.Merge(layers...).Config
	kube := apply.KubeArgs(c, "", "")
	u.policy, u.files = c.Kedge.Upgrade, kubeFiles(kube.Args)
	f := update.KubeFacts{Arch: runtime.GOARCH, Server: kube.Role == "server", Database: u.files.Size()}
	if f.Own, err = ownKubernetes(); err != nil {
		return err
	}
	if f.Snapshots, err = u.files.List(); err != nil {
		return err
	}
	if f.Free, err = mount.Free("/var/lib/kedge"); err != nil {
		return err
	}
	if record.Slot != "" {
		system, err := update.Load(update.StateFile)
		if err != nil {
			return err
		}
		if system.Phase == update.Armed || system.Phase == update.Trial {
			f.Busy = system.Text()
		}
	}
	if !f.Server {
		f.Cluster, _ = (&status.Watcher{}).Version(ctx) // it may be away: the trial will tell
	}
	u.facts = f
	return nil
}

// errLosesData means that a cluster may not ask for it.
var errLosesData = errors.New("what the cluster has noted in its datastore would be lost")

// kubernetesIdle says that Kubernetes alone is being changed: the system waits
// for the end of that.
func kubernetesIdle() error {
	k, err := update.LoadKube(update.KubeFile)
	if err == nil && (k.Phase == update.Armed || k.Phase == update.Trial) {
		return fmt.Errorf("%w: %s", update.ErrBusy, k.Text())
	}
	return err
}

// upgradeKubernetes does what a verb of "kedge upgrade" means for Kubernetes
// alone.
func upgradeKubernetes(ctx context.Context, env cli.Env, verb string, record boot.Record, o upgradeOptions) error {
	if o.noRestart {
		return cli.Usagef("upgrade: --no-reboot does not go with --kubernetes, which never restarts the machine")
	}
	if verb == "status" {
		return kubernetesStatus(env.Stdout)
	}
	u, err := openKubeUpgrader(ctx, record)
	if err != nil {
		return err
	}
	defer u.close()
	switch verb {
	case "check":
		i, restore, closer, err := u.admit(ctx, env, o)
		if err != nil {
			return err
		}
		defer closer.Close()
		fmt.Fprintf(env.Stdout, "Kubernetes %s (%s) may follow %s\n", i.Manifest.Kubernetes, i.Manifest.ID, u.k.Chosen(u.facts.Own).Version)
		u.warn(env.Stdout, restore)
		return nil
	case "stage":
		return u.stage(ctx, env, o)
	case "apply":
		if err := u.stage(ctx, env, o); err != nil {
			return err
		}
		return u.arm(ctx, env, o)
	case "confirm":
		if err := update.CommitKube(u.k, u.facts.Own, u.facts.Server, u.save); err != nil {
			return err
		}
		_, err := fmt.Fprintln(env.Stdout, u.k.Text())
		return err
	case "rollback":
		return u.rollback(ctx, env, o)
	}
	return cli.Usagef("upgrade %s: --kubernetes does not go with it", verb)
}

// rollback goes back to the Kubernetes before this one, or ends its trial.
func (u *kubeUpgrader) rollback(ctx context.Context, env cli.Env, o upgradeOptions) error {
	if o.keep {
		if err := update.KeepDatastore(u.k, u.save); err != nil {
			return err
		}
		return u.follow(ctx, env, o, update.RolledBack)
	}
	if u.k.Phase == update.Trial {
		if err := update.GiveUpKube(u.k, "somebody took it back", u.save); err != nil {
			return err
		}
		return u.follow(ctx, env, o, update.RolledBack)
	}
	k, err := u.k.BackKube(u.facts, o.policy)
	if err != nil {
		return err
	}
	if err := u.files.Check(k.To.ID); k.To.ID != "" && err != nil {
		return fmt.Errorf("go back to Kubernetes %s: %w", k.To, err)
	}
	u.warn(env.Stderr, k.Restore)
	if err := u.save(k); err != nil {
		return err
	}
	o.tries = slot.MaxTries
	return u.arm(ctx, env, o)
}

// warn tells what an older Kubernetes costs.
func (u *kubeUpgrader) warn(w io.Writer, restore string) {
	if restore != "" {
		fmt.Fprintf(w, "kedge: upgrade: WARNING: it starts with the datastore of %s: what the cluster has noted since then is lost\n", restore)
	}
}

// idle refuses a transfer while a trial runs, of the system or of Kubernetes: it
// would keep the lock that whoever decides about the trial waits for.
func (u *kubeUpgrader) idle() error {
	switch {
	case u.facts.Busy != "":
		return fmt.Errorf("%w: %s", update.ErrBusy, u.facts.Busy)
	case u.k.Phase == update.Armed || u.k.Phase == update.Trial:
		return fmt.Errorf("%w: %s", update.ErrBusy, u.k.Text())
	}
	return nil
}

// admit opens the image that the command names, verifies it, and asks whether
// it may be put on this machine. Nothing is kept before that.
func (u *kubeUpgrader) admit(ctx context.Context, env cli.Env, o upgradeOptions) (_ *release.Image, restore string, _ io.Closer, err error) {
	if len(env.Args) != 2 {
		return nil, "", nil, cli.Usagef("upgrade: which Kubernetes? %s", source.Forms)
	}
	if err := u.idle(); err != nil {
		return nil, "", nil, err
	}
	if id := u.k.Current.ID; id != "" && u.files.Check(id) != nil { // the same once more mends it
		o.policy.Same = true
	}
	wish := wish{name: env.Args[1], policy: o.policy, fetched: kubeImage, slotSize: maxKube, report: u.report}
	by := &upgrader{policy: u.policy}
	if wish.rate, err = by.bandwidth(o.limit); err != nil {
		return nil, "", nil, err
	}
	if wish.keyring, err = by.keyring(ctx, env.Stderr); err != nil {
		return nil, "", nil, err
	}
	if err := u.weigh(wish, ""); err != nil {
		return nil, "", nil, err
	}
	file, err := wish.open(ctx, u.medium, func(i *release.Image) error {
		_, err := u.admissible(wish, i, io.Discard)
		return err
	}, env.Stderr)
	if err != nil {
		return nil, "", nil, wish.hint(err, time.Now())
	}
	u.digest = wish.digest
	if err := u.weigh(wish, file.Name()); err != nil {
		file.Close()
		return nil, "", nil, err
	}
	i, restore, err := u.judge(ctx, wish, file, env.Stderr)
	if err != nil {
		file.Close()
		if worthless(err) && file.Name() == wish.fetched {
			err = errors.Join(err, fetch.Forget(wish.fetched))
		}
		return nil, "", nil, wish.hint(err, time.Now())
	}
	return i, restore, file, nil
}

// weigh looks at the room there is for the image in a file, "" before there is
// one. One that was fetched is moved into its place; what was fetched at another
// time goes for one that comes otherwise. Neither counts against it.
func (u *kubeUpgrader) weigh(wish wish, file string) (err error) {
	if u.facts.Free, err = wish.freeBytes(); err != nil {
		return err
	}
	if u.files.Moves, u.facts.Here = "", 0; file != wish.fetched {
		u.facts.Free += fetch.Held(wish.fetched)
		return nil
	}
	u.files.Moves, u.facts.Here = wish.fetched, fetch.Allocated(wish.fetched)
	return nil
}

// admissible says why an image may not be put on this machine, as far as that
// can be told without reading all of it, and which snapshot it starts with.
func (u *kubeUpgrader) admissible(wish wish, i *release.Image, w io.Writer) (restore string, err error) {
	if restore, err = update.AdmitKube(i.Manifest, i.Size, u.k, u.facts, wish.policy); err != nil {
		return "", err
	}
	return restore, (&upgrader{policy: u.policy}).trust(wish.keyring, i, w)
}

func (u *kubeUpgrader) judge(ctx context.Context, wish wish, file *os.File, w io.Writer) (*release.Image, string, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, "", err
	}
	i, err := release.Open(file, size)
	if err != nil {
		return nil, "", fmt.Errorf("open image %s: %w", wish.name, err)
	}
	restore, err := u.admissible(wish, i, w)
	if err != nil {
		return nil, "", err
	}
	return i, restore, i.Verify(ctx, nil)
}

func (u *kubeUpgrader) stage(ctx context.Context, env cli.Env, o upgradeOptions) error {
	i, restore, closer, err := u.admit(ctx, env, o)
	noteFailure(failureFile, env.Args, err, time.Now())
	if err != nil {
		return err
	}
	defer closer.Close()
	if restore != "" && o.forward {
		return fmt.Errorf("%w: it would start with that of %s", errLosesData, restore)
	}
	u.k.State = u.k.Came(i.Manifest.ID, u.digest, u.k.Chosen(u.facts.Own).ID)
	u.k.Failing = slices.Sorted(maps.Keys(runChecks(ctx, u.policy.Health)))
	for _, check := range u.k.Failing {
		fmt.Fprintf(env.Stderr, "kedge: upgrade: health check %q fails already and will not count\n", check)
	}
	u.warn(env.Stderr, restore)
	if u.files.Moves == "" { // of another try, it makes room
		if err := forget(kubeImage); err != nil {
			return err
		}
	}
	if err := update.StageKube(ctx, u.files, i, u.k, u.facts.Own, restore, u.save); err != nil {
		return err
	}
	if err := forget(kubeImage); err != nil { // it is kept now
		fmt.Fprintf(env.Stderr, "kedge: upgrade: %v\n", err)
	}
	_, err = fmt.Fprintln(env.Stdout, u.k.Text())
	return err
}

// arm lets the agent switch, and waits for what comes of it.
func (u *kubeUpgrader) arm(ctx context.Context, env cli.Env, o upgradeOptions) error {
	if err := update.ArmKube(u.k, o.tries, u.save); err != nil {
		return err
	}
	return u.follow(ctx, env, o, update.Committed)
}

// follow tells how a trial goes on until it has ended, which should be so. It
// goes on without this command.
func (u *kubeUpgrader) follow(ctx context.Context, env cli.Env, o upgradeOptions, wanted update.Phase) error {
	fmt.Fprintln(env.Stdout, u.k.Text())
	u.close()
	if o.noWait {
		return nil
	}
	for told := u.k.Text(); ; {
		k, err := update.LoadKube(update.KubeFile)
		if err != nil {
			return err
		}
		if text := k.Text(); text != told {
			told = text
			fmt.Fprintln(env.Stdout, text)
		}
		switch {
		case k.Phase == update.Armed, k.Phase == update.Trial:
		case k.Phase == update.RolledBack && wanted != k.Phase:
			return fmt.Errorf("upgrade: Kubernetes %s was taken back", k.To.Version)
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return cli.Hint(context.Cause(ctx), "the trial goes on: \"kedge upgrade status\" says how it ends")
		case <-time.After(trialLook):
		}
	}
}

// kubernetesStatus says how Kubernetes alone stands.
func kubernetesStatus(w io.Writer) error {
	k, err := update.LoadKube(update.KubeFile)
	if err != nil {
		return err
	}
	own, err := ownKubernetes()
	if err != nil {
		return err
	}
	switch chosen := k.Chosen(own); {
	case chosen.ID == "" && own == "":
	case chosen.ID == "":
		fmt.Fprintf(w, "Kubernetes  %s of the system\n", own)
	default:
		fmt.Fprintf(w, "Kubernetes  %s; the system's own is %s\n", chosen, own)
	}
	if text := k.Text(); text != "" {
		fmt.Fprintf(w, "Upgrade     %s\n", text)
	}
	if text := failureText(failureFile); text != "" {
		fmt.Fprintf(w, "Last try    %s\n", text)
	}
	for _, b := range k.Bad {
		fmt.Fprintf(w, "Bad         Kubernetes %s, %s: %s\n", b.Release, b.Time.Format(time.DateTime), b.Reason)
	}
	return nil
}
