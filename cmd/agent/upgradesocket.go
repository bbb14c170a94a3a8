package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/request"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/source"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/filelock"
	"github.com/kedgeos/kedge/pkg/sys/mount"
	"github.com/kedgeos/kedge/pkg/sys/power"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// restartDelay is what whoever asked for a restart has to note that it comes.
const restartDelay = 5 * time.Second

// serveUpgrades answers what the cluster asks, once it is known what this boot
// means: before that, what is armed may be what runs.
func (d *daemon) serveUpgrades(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-d.booted:
	}
	desk := &request.Desk{Machine: &asked{daemon: d}}
	if err := request.Serve(ctx, request.Socket{Path: ask.Path, Group: ask.Group}, desk); err != nil {
		d.log.Error(err)
	}
}

// An asked machine does what the cluster wants, with the code that "kedge
// upgrade" has for it.
type asked struct {
	*daemon
	restarting atomic.Bool
}

// Status implements request.Machine.
func (m *asked) Status(context.Context) (ask.Status, error) {
	s := ask.Status{BootID: bootID(), Arch: runtime.GOARCH, Slot: m.record.Slot}
	m.mu.Lock()
	node := m.node
	m.mu.Unlock()
	s.Server, s.Healthy, s.Unhealthy = node.Role == "server", node.Ready, node.Reason
	s.Free, _ = mount.Free("/var/lib/kedge") // 0 when it cannot be told
	system := update.State{}
	if m.record.Slot == "" || m.record.Mode != boot.ModeDisk {
		s.Fixed = update.ErrNotInstalled.Error()
	} else {
		var err error
		if system, err = update.Load(update.StateFile); err != nil {
			return s, err
		}
	}
	s.OS = systemState(system, update.Release{Version: release.Version, ID: m.record.ID})
	k, err := update.LoadKube(update.KubeFile)
	if err != nil {
		return s, err
	}
	if s.Own, err = ownKubernetes(); err != nil {
		return s, err
	}
	s.Kubernetes = kubernetesState(k, s.Own, node.Kubernetes)
	if !k.Asked.IsZero() {
		s.Saved = &ask.Saved{At: k.Asked, Name: k.Saved}
	}
	return s, nil
}

// stateOf is what a state says, in the words of the socket.
func stateOf(s update.State, text string) ask.State {
	named := func(r update.Release) ask.Release {
		return ask.Release{Version: r.Version, ID: r.ID, Digest: s.Digests[r.ID]}
	}
	out := ask.State{Phase: ask.Phase(s.Phase), To: named(s.To), Held: s.Held(), Reason: s.Reason, Text: text, Changed: s.Changed}
	for _, b := range s.Bad {
		out.Bad = append(out.Bad, ask.Bad{Release: named(b.Release), Reason: b.Reason, Time: b.Time})
	}
	return out
}

// systemState says how the system stands.
func systemState(s update.State, running update.Release) ask.State {
	out := stateOf(s, s.Text())
	out.Running = ask.Release{Version: running.Version, ID: running.ID, Digest: s.Digests[running.ID]}
	if s.Phase == update.Committed && s.From.ID != "" {
		out.Previous = &ask.Release{Version: s.From.Version, ID: s.From.ID, Digest: s.Digests[s.From.ID]}
	}
	return out
}

// kubernetesState says how Kubernetes alone stands. Node is the version that the
// kubelet tells, for a system that does not name its own.
func kubernetesState(k update.Kube, own, node string) ask.State {
	out := stateOf(k.State, k.Text())
	runs := k.Chosen(own)
	if k.Undecided() {
		runs = k.To
	}
	if runs.Version == "" {
		runs.Version = node
	}
	out.Running = ask.Release{Version: runs.Version, ID: runs.ID, Digest: k.Digests[runs.ID]}
	if k.Phase == update.Committed && k.Before.Version != "" {
		out.Previous = &ask.Release{Version: k.Before.Version, ID: k.Before.ID, Digest: k.Digests[k.Before.ID]}
	}
	return out
}

// upgrader opens that of the system, if nothing else is at it.
func (m *asked) upgrader() (*upgrader, error) {
	if err := kubernetesIdle(); err != nil {
		return nil, err
	}
	u, err := openUpgrader(m.record, filelock.Try)
	if err != nil {
		return nil, err
	}
	u.policy = m.config.Kedge.Upgrade
	return u, nil
}

// idleUpgrader is upgrader for what no trial of a system may meet.
func (m *asked) idleUpgrader() (*upgrader, error) {
	u, err := m.upgrader()
	if err != nil {
		return nil, err
	}
	if err := u.idle(); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

// said is where the code of the command tells people how it goes on.
func (m *asked) said() *io.PipeWriter { return m.log.Writer() }

// Stage implements request.Machine.
func (m *asked) Stage(ctx context.Context, p ask.Part, i ask.Image, s ask.Stage, report request.Progress) error {
	said := m.said()
	defer said.Close()
	env := cli.Env{Stdout: io.Discard, Stderr: said, Args: []string{"stage", i.Reference()}}
	o := upgradeOptions{policy: update.Policy{Downgrade: s.AllowDowngrade, Bad: s.Again, Early: true}, forward: true}
	if p == ask.Kubernetes {
		u, err := openKubeUpgrader(ctx, m.record)
		if err != nil {
			return err
		}
		defer u.close()
		u.report = report
		return u.stage(ctx, env, o)
	}
	u, err := m.idleUpgrader()
	if err != nil {
		return err
	}
	defer u.close()
	o.policy.Same = m.record.Damage != ""
	u.report = report
	err = u.stage(ctx, env, o)
	if errors.Is(err, update.ErrSame) { // only its name was not known
		return u.save(u.state.Came(u.running.ID, u.digest, u.running.ID))
	}
	return err
}

// Snapshot implements request.Machine.
func (m *asked) Snapshot(ctx context.Context, s ask.Snapshot) error {
	if m.kube == nil {
		return errors.New("save the datastore: this system keeps nothing over a restart")
	}
	return m.kube.saveDatastore(ctx, s.At)
}

// Arm implements request.Machine.
func (m *asked) Arm(ctx context.Context, a ask.Activate) error {
	terms := update.Terms{Limit: time.Duration(a.Limit) * time.Second, Hold: a.Hold}
	for _, p := range a.Probes {
		terms.Probes = append(terms.Probes, update.Probe(p))
	}
	ready := func(s update.State) (update.State, error) {
		if s.Phase != update.Staged || !(ask.Release{Version: s.To.Version, Digest: s.Digests[s.To.ID]}).Is(a.Digest) {
			return s, &ask.Error{Reason: ask.NotStaged, Message: fmt.Sprintf("activate %s: %s is not staged", a.Part, a.Digest)}
		}
		s.Terms = terms
		s.Failing = slices.Sorted(maps.Keys(trialChecks(ctx, m.config.Kedge.Upgrade, s)))
		return s, nil
	}
	if a.Part == ask.Kubernetes {
		u, err := openKubeUpgrader(ctx, m.record)
		if err != nil {
			return err
		}
		defer u.close()
		if u.k.State, err = ready(u.k.State); err != nil {
			return err
		}
		if u.facts.Busy != "" {
			return fmt.Errorf("%w: %s", update.ErrBusy, u.facts.Busy)
		}
		k, err := u.k.StillMay(u.facts)
		if err != nil {
			return err
		}
		if k.Restore != "" {
			return fmt.Errorf("activate Kubernetes %s: %w", k.To, errLosesData)
		}
		return update.ArmKube(k, slot.MaxTries, u.save)
	}
	u, err := m.idleUpgrader()
	if err != nil {
		return err
	}
	defer u.close()
	s, err := ready(u.state)
	if err != nil {
		return err
	}
	return update.Arm(u.slots, s, slot.MaxTries, u.save)
}

// Confirm implements request.Machine.
func (m *asked) Confirm(ctx context.Context, c ask.Confirm) error {
	if c.Part == ask.Kubernetes {
		u, err := openKubeUpgrader(ctx, m.record)
		if err != nil {
			return err
		}
		defer u.close()
		k := u.k
		k.Hold = false
		return k.Save(update.KubeFile) // since when it runs stays: the node is heard since then
	}
	u, err := m.upgrader()
	if err != nil {
		return err
	}
	defer u.close()
	s := u.state
	s.Hold = false
	return u.save(s)
}

// Back implements request.Machine.
func (m *asked) Back(ctx context.Context, b ask.Rollback) (restart bool, err error) {
	if b.Part == ask.Kubernetes {
		return false, m.kubernetesBack(ctx, b)
	}
	u, err := m.upgrader()
	if err != nil {
		return false, err
	}
	defer u.close()
	return u.back(cmp.Or(b.Reason, "the cluster took it back"))
}

func (m *asked) kubernetesBack(ctx context.Context, b ask.Rollback) error {
	u, err := openKubeUpgrader(ctx, m.record)
	if err != nil {
		return err
	}
	defer u.close()
	if u.k.Phase == update.Trial {
		return update.GiveUpKube(u.k, cmp.Or(b.Reason, "the cluster took it back"), u.save)
	}
	k, err := u.k.BackKube(u.facts, update.Policy{Downgrade: true})
	if err != nil {
		return err
	}
	if k.Restore != "" {
		return fmt.Errorf("go back to Kubernetes %s: %w", k.To, errLosesData)
	}
	if err := u.files.Check(k.To.ID); k.To.ID != "" && err != nil {
		return fmt.Errorf("go back to Kubernetes %s: %w", k.To, err)
	}
	if err := u.save(k); err != nil {
		return err
	}
	return update.ArmKube(u.k, slot.MaxTries, u.save)
}

// Forget implements request.Machine.
func (m *asked) Forget(ctx context.Context) error {
	if m.record.Slot != "" && m.record.Mode == boot.ModeDisk {
		u, err := m.upgrader()
		if err != nil {
			return err
		}
		err = update.Forget(u.slots, u.state, u.save)
		u.close()
		if err != nil {
			return err
		}
	}
	u, err := openKubeUpgrader(ctx, m.record)
	if err != nil {
		return err
	}
	defer u.close()
	return update.ForgetKube(u.k, u.save)
}

// Restart implements request.Machine.
func (m *asked) Restart(ctx context.Context) {
	if m.restarting.Swap(true) {
		return
	}
	time.AfterFunc(restartDelay, func() {
		if err := m.init.Power(ctx, power.Reboot); err != nil {
			m.log.Error("restart for an upgrade: ", err)
			m.restarting.Store(false) // it may be asked for again
		}
	})
}

// reasons say, in the words of the socket, what an error means; the first that
// fits counts.
var reasons = []struct {
	err    error
	reason string
}{
	{update.ErrBusy, ask.Busy},
	{update.ErrNotInstalled, ask.NotPossible}, {update.ErrState, ask.NotPossible}, {update.ErrNoDatastore, ask.NotPossible}, {errLosesData, ask.NotPossible},
	{update.ErrFrom, ask.NotPossible}, {update.ErrArch, ask.NotPossible}, {registry.ErrArch, ask.NotPossible}, {release.ErrKind, ask.NotPossible}, {update.ErrNoSnapshot, ask.NotPossible},
	{update.ErrDowngrade, ask.Downgrade}, {update.ErrBad, ask.KnownBad},
	{update.ErrSkew, ask.Skew}, {update.ErrOlder, ask.Skew},
	{update.ErrSpace, ask.Space}, {source.ErrRoom, ask.Space}, {update.ErrTooLarge, ask.Space}, {fetch.ErrTooLarge, ask.Space},
	{release.ErrUnsigned, ask.Untrusted}, {release.ErrPartial, ask.Untrusted}, {minisign.ErrUnknownKey, ask.Untrusted}, {minisign.ErrSignature, ask.Untrusted}, {update.ErrRevoked, ask.Untrusted},
	{registry.ErrNotFound, ask.NotFound}, {registry.ErrUnauthorized, ask.Unauthorized},
	{registry.ErrDigest, ask.Damaged}, {release.ErrDamaged, ask.Damaged}, {release.ErrManifest, ask.Damaged},
}

// Explain implements request.Machine.
func (m *asked) Explain(err error) *ask.Error {
	out := &ask.Error{Reason: ask.Failed, Message: err.Error(), Hint: cli.HintOf(upgradeHint(err))}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			out.Reason = r.reason
			break
		}
	}
	return out
}
