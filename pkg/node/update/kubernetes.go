package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// KubeFile is where the state of Kubernetes is kept.
const KubeFile = "/var/lib/kedge/kubernetes.json"

// A Kube is what this machine knows of Kubernetes releases beside the one that
// its system brings. Each start of kube asks it what to start (Prepare): what
// is armed gets its trial at the next one. Versions are those of Kubernetes,
// such as v1.36.3.
//
// A release that somebody chose stays until a system comes whose own Kubernetes
// is newer. The datastore notes the version that it was last committed with;
// an older minor version is never started on it.
type Kube struct {
	State
	Current   Release `json:"current"`             // committed; without ID it is the system's own
	Before    Release `json:"before"`              // what ran before Current; without version there is no way back
	Own       string  `json:"own,omitempty"`       // the system's own when Current was committed
	Tries     int     `json:"tries,omitempty"`     // starts that the trial has left
	Snapshot  string  `json:"snapshot,omitempty"`  // of the datastore, taken before the switch to To
	Restore   string  `json:"restore,omitempty"`   // snapshot that To starts with
	Unsaved   string  `json:"unsaved,omitempty"`   // why the switch had no snapshot
	Datastore string  `json:"datastore,omitempty"` // version that the datastore was last committed with
	Held      string  `json:"held,omitempty"`      // snapshot from before a system that brings another minor version
	HeldFor   string  `json:"held_for,omitempty"`  // and that version

	// Asked is the last request for a snapshot that was answered, and Saved the
	// snapshot that answers it.
	Asked time.Time `json:"asked,omitzero"`
	Saved string    `json:"saved,omitempty"`
}

// LoadKube is Load for Kubernetes.
func LoadKube(path string) (Kube, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Kube{}, nil
	}
	if err != nil {
		return Kube{}, err
	}
	var k Kube
	if err := json.Unmarshal(b, &k); err != nil {
		return Kube{}, fmt.Errorf("read %s: %w", path, err)
	}
	return k, nil
}

// Save writes the state, whole or not at all.
func (k Kube) Save(path string) error {
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(path, append(b, '\n'), 0o644)
}

// Chosen returns what is started when nothing is on trial, on a system that has
// this version of its own.
func (k Kube) Chosen(own string) Release {
	if k.Current.ID == "" || own != k.Own && older(k.Current.Version, own) {
		return Release{Version: own}
	}
	return k.Current
}

// Reasons to refuse a Kubernetes, beside those for a system.
var (
	ErrVersion    = errors.New("it has no version of Kubernetes")
	ErrSkew       = errors.New("it goes up one minor version at a time, servers first")
	ErrNoSnapshot = errors.New("the datastore was used by a newer minor version, and there is no snapshot from before")
	ErrSpace      = errors.New("there is no room for it")
	ErrOlder      = errors.New("it is older than its datastore")
)

// KubeFacts is what a machine knows of itself when it is asked to take another
// Kubernetes.
type KubeFacts struct {
	Arch      string
	Own       string     // version of the system's own
	Server    bool       // it keeps the datastore; else it is a worker
	Cluster   string     // version of the API server that a worker asks; "" when it does not answer
	Database  int64      // bytes of the datastore, 0 for none that is copied
	Snapshots []Snapshot // that are whole, oldest first
	Free      int64      // bytes
	Here      int64      // bytes of the image that lie there already, and are moved into their place
	Busy      string     // what of an upgrade of the system is under way; "" for nothing
}

// kubeMargin is the room that is left on the disk, in bytes.
const kubeMargin = 64 << 20

// AdmitKube says why a release may not be put on this machine, or which
// snapshot it has to start with, "" for what is there. Size is the image's, in
// bytes.
func AdmitKube(m release.Manifest, size int64, k Kube, f KubeFacts, p Policy) (restore string, err error) {
	if err := m.Of(release.Kubernetes); err != nil {
		return "", err
	}
	refuse := func(err error, format string, args ...any) (string, error) {
		return "", fmt.Errorf("refuse Kubernetes %s (%s): %w%s", m.Kubernetes, m.ID, err, fmt.Sprintf(format, args...))
	}
	running, need := k.Chosen(f.Own), max(size-f.Here, 0)+kubeMargin
	if f.Server && step(running.Version, m.Kubernetes) != 0 {
		need += 2 * f.Database // a snapshot, and what is written when it comes back
	}
	switch {
	case f.Busy != "":
		return refuse(ErrBusy, ": %s", f.Busy)
	case k.Phase == Armed || k.Phase == Trial:
		return refuse(ErrBusy, ": Kubernetes %s is on trial", k.To)
	case m.Arch != f.Arch:
		return refuse(ErrArch, ": %s, this machine is %s", m.Arch, f.Arch)
	case m.ID == running.ID && !p.Same:
		return refuse(ErrSame, "")
	case k.IsBad(m.ID) != "" && !p.Bad:
		return refuse(ErrBad, ": %s", k.IsBad(m.ID))
	case need > f.Free:
		return refuse(ErrSpace, ": %d MiB are needed, %d MiB are free", need>>20, f.Free>>20)
	}
	if p.Early {
		f.Cluster = ""
	}
	restore, err = k.may(m.Kubernetes, f, p)
	if err != nil {
		return refuse(err, "")
	}
	return restore, nil
}

// may says whether a version may follow the one that runs, and on which
// snapshot.
func (k Kube) may(version string, f KubeFacts, p Policy) (restore string, err error) {
	running := k.Chosen(f.Own).Version
	switch {
	case !semver.IsValid(version):
		return "", fmt.Errorf("%w: %q", ErrVersion, version)
	case older(version, running) && !p.Downgrade:
		return "", fmt.Errorf("%w: %s", ErrDowngrade, running)
	case semver.IsValid(running) && step(running, version) > 1:
		return "", fmt.Errorf("%w: %s runs", ErrSkew, running)
	case !f.Server && semver.IsValid(f.Cluster) && step(f.Cluster, version) > 0:
		return "", fmt.Errorf("%w: the API server is %s", ErrSkew, f.Cluster)
	case !f.Server || step(running, version) >= 0 && step(k.Datastore, version) >= 0:
		return "", nil
	}
	for _, s := range slices.Backward(f.Snapshots) {
		if step(s.From, version) == 0 {
			return s.Name, nil
		}
	}
	return "", ErrNoSnapshot
}

// step returns how many minor versions it is from a to b, less than 0 for a way
// back; another major version is far away. What is no version is no step away.
func step(a, b string) int {
	parts := func(v string) (major, minor int, ok bool) {
		v = semver.MajorMinor(v)
		x, y, ok := strings.Cut(strings.TrimPrefix(v, "v"), ".")
		if !ok {
			return 0, 0, false
		}
		major, err1 := strconv.Atoi(x)
		minor, err2 := strconv.Atoi(y)
		return major, minor, err1 == nil && err2 == nil
	}
	major, minor, ok := parts(a)
	toMajor, toMinor, toOK := parts(b)
	if !ok || !toOK {
		return 0
	}
	const far = 1000
	return (toMajor-major)*far + toMinor - minor
}

// A KubeStore keeps the images of Kubernetes.
type KubeStore interface {
	// Put writes an image, whole or not at all, and reads it back; one that lies in
	// a file of its own may be moved instead. Others than those to keep go.
	Put(ctx context.Context, i *release.Image, keep ...string) error
}

// StageKube keeps an image beside what runs. The caller has admitted and
// verified it; restore is what AdmitKube said.
func StageKube(ctx context.Context, m KubeStore, i *release.Image, k Kube, own, restore string, save func(Kube) error) error {
	from := k.Chosen(own)
	k.Phase, k.Reason, k.Terms = Idle, "", Terms{}
	k.Snapshot, k.Restore, k.Unsaved, k.Tries = "", "", "", 0
	if k.Before.ID != "" {
		k.Before = Release{} // its image makes room
	}
	if err := save(k); err != nil {
		return err
	}
	if err := m.Put(ctx, i, from.ID, k.Current.ID); err != nil {
		return fmt.Errorf("keep Kubernetes %s: %w", i.Manifest.Kubernetes, err)
	}
	k.Phase, k.To, k.From, k.Restore = Staged, Release{i.Manifest.Kubernetes, i.Manifest.ID}, from, restore
	return save(k)
}

// BackKube stages what ran before what is committed; the system's own as it is
// now, when it was that.
func (k Kube) BackKube(f KubeFacts, p Policy) (Kube, error) {
	switch {
	case k.Before.Version == "" && k.Before.ID == "":
		return k, errors.New("there is no Kubernetes to go back to: none was upgraded from on this machine, or its image has made room")
	case k.Phase == Armed || k.Phase == Trial:
		return k, fmt.Errorf("%w: Kubernetes %s is on trial", ErrBusy, k.To)
	case f.Busy != "":
		return k, fmt.Errorf("%w: %s", ErrBusy, f.Busy)
	}
	to := k.Before
	if to.ID == "" {
		to.Version = f.Own
	}
	restore, err := k.may(to.Version, f, p)
	if err != nil {
		return k, fmt.Errorf("go back to Kubernetes %s: %w", to.Version, err)
	}
	k.From, k.To = k.Chosen(f.Own), to
	k.Phase, k.Reason, k.Snapshot, k.Restore, k.Unsaved, k.Failing = Staged, "", "", restore, "", nil
	k.Terms = Terms{}
	return k, nil
}

// StillMay says why what is staged may not follow what runs now, which may be
// another than when it was staged, and returns the state to arm.
func (k Kube) StillMay(f KubeFacts) (Kube, error) {
	if k.Phase != Staged {
		return k, errors.New("no Kubernetes is staged")
	}
	restore, err := k.may(k.To.Version, f, Policy{Downgrade: true}) // it was allowed, or would not be staged
	if err != nil {
		return k, fmt.Errorf("activate Kubernetes %s: %w", k.To, err)
	}
	k.Restore, k.From = restore, k.Chosen(f.Own)
	return k, nil
}

// ArmKube makes the next start of kube the trial of what is staged.
func ArmKube(k Kube, tries int, save func(Kube) error) error {
	if k.Phase != Staged {
		return errors.New("no Kubernetes is staged")
	}
	if tries < 1 || tries > slot.MaxTries {
		return fmt.Errorf("arm Kubernetes %s: %d tries, want 1 to %d", k.To.Version, tries, slot.MaxTries)
	}
	k.Phase, k.Tries = Armed, tries
	return save(k)
}

// CommitKube makes the Kubernetes on trial the one that is started. Server says
// that this machine keeps a datastore.
func CommitKube(k Kube, own string, server bool, save func(Kube) error) error {
	if k.Phase != Trial {
		return errors.New("no Kubernetes is on trial")
	}
	if !k.Undecided() {
		return fmt.Errorf("the trial is given up already: %s", k.Reason)
	}
	k.Phase, k.Current, k.Before, k.Own, k.Tries = Committed, k.To, k.From, own, 0
	if server {
		k.Datastore = k.To.Version
	}
	return save(k)
}

// ForgetKube takes away what is staged; its image makes room when the next comes.
func ForgetKube(k Kube, save func(Kube) error) error {
	if k.Phase != Staged {
		return nil
	}
	k.Phase, k.To, k.Restore = Idle, Release{}, ""
	return save(k)
}

// GiveUpKube ends the trial of Kubernetes; Prepare, once kube has stopped, goes
// back.
func GiveUpKube(k Kube, reason string, save func(Kube) error) error {
	if k.Phase != Trial {
		return errors.New("no Kubernetes is on trial")
	}
	k.Reason = reason
	return save(k)
}

// KeepDatastore lets a trial that is given up, or cannot begin, end without its
// snapshot, which may be damaged or find no room: what ran before finds what the
// newer one has left.
func KeepDatastore(k Kube, save func(Kube) error) error {
	over := k.Phase == Trial && !k.Undecided() && k.Snapshot != ""
	stuck := k.Phase == Armed && k.Snapshot+k.Restore != ""
	if !over && !stuck {
		return errors.New("no trial waits for its datastore")
	}
	if stuck && k.Reason == "" {
		k.Reason = "its datastore could not be made ready"
	}
	k.Snapshot, k.Restore, k.Unsaved = "", "", "not brought back: somebody kept what is there"
	return save(k)
}

// Settled returns the state of a machine whose system is committed: an extra
// Kubernetes that the system's own has overtaken is forgotten, and the datastore
// is that of what runs now.
func (k Kube) Settled(own string, server bool) Kube {
	if k.Phase == Armed || k.Phase == Trial {
		return k
	}
	runs := k.Chosen(own)
	if runs.ID == "" && k.Current.ID != "" {
		k.State = State{Bad: k.Bad, Digests: k.Digests}
		k.Current, k.Before, k.Own, k.Snapshot, k.Restore, k.Unsaved = Release{}, Release{}, "", "", "", ""
	}
	if server && semver.IsValid(runs.Version) && step(k.Datastore, runs.Version) >= 0 {
		k.Datastore = runs.Version
	}
	return k
}

// ErrNoDatastore means that there is no datastore that a snapshot could be of.
var ErrNoDatastore = errors.New("not saved")

// A KubeMachine does what has to be done between the end of one kube and the
// start of the next.
type KubeMachine interface {
	// Check says that an image is not there or not whole.
	Check(id string) error
	// Save makes a snapshot; the error wraps ErrNoDatastore when there is
	// nothing to save.
	Save(ctx context.Context, from, to string) (name string, err error)
	// Load puts a snapshot in the place of the datastore; done twice, it does
	// the same.
	Load(ctx context.Context, name string) error
}

// Prepare returns which Kubernetes to start, while none runs, and the state as
// it then is; note tells what happened to one that was not whole. All that counts
// is saved before it is relied on: when the power goes anywhere in here, the
// next call goes on. An error means that kube must not be started; it wraps
// ErrOlder when what could be started would find a datastore of a newer one.
func (k Kube) Prepare(ctx context.Context, m KubeMachine, own string, now time.Time, save func(Kube) error) (_ Kube, run Release, note string, err error) {
	for k.Phase == Armed || k.Phase == Trial {
		starts := k.advance(ctx, m, now)
		if err := k.back(ctx, m, now); err != nil {
			return k, Release{}, "", err
		}
		k.Changed = now
		if err := save(k); err != nil {
			return k, Release{}, "", err
		}
		if starts {
			return k, k.To, "", nil
		}
	}
	run = k.Chosen(own)
	if run.ID != "" {
		if err := m.Check(run.ID); err != nil {
			note = fmt.Sprintf("Kubernetes %s cannot be used, the system's own has to do: %v", run, err)
			run = Release{Version: own}
		}
	}
	if step(k.Datastore, run.Version) < 0 {
		return k, Release{}, note, fmt.Errorf("start Kubernetes %s: %w, which was last used by %s; \"kedge upgrade apply --kubernetes\" puts one of that version beside the system", run.Version, ErrOlder, k.Datastore)
	}
	return k, run, note, nil
}

// AdmitSystem says why a system that brings this version of Kubernetes may not
// follow, or come back.
func (k Kube) AdmitSystem(own string) error {
	runs := k.Chosen(own).Version
	switch steps := step(k.Datastore, runs); {
	case steps < 0:
		return fmt.Errorf("it brings Kubernetes %s: %w, which was last used by %s", own, ErrOlder, k.Datastore)
	case steps > 1:
		return fmt.Errorf("it brings Kubernetes %s: %w: %s runs", own, ErrSkew, k.Datastore)
	}
	return nil
}

// Guard keeps the datastore as it is before the trial of a system that brings
// another minor version of Kubernetes, and brings it back when that system was
// taken back; note says so. It is called while no kube runs, before Prepare.
// What counts is saved before it is relied on.
func (k Kube) Guard(ctx context.Context, m KubeMachine, own string, trial bool, save func(Kube) error) (_ Kube, note string, err error) {
	runs := k.Chosen(own).Version
	switch {
	// What is held may be from an upgrade before, if no start has come since.
	case trial && (k.Held == "" || k.HeldFor != runs) && step(k.Datastore, runs) > 0:
		name, err := m.Save(ctx, k.Datastore, runs)
		if errors.Is(err, ErrNoDatastore) {
			return k, "", nil
		}
		if err != nil {
			return k, "", fmt.Errorf("take a snapshot of the datastore before Kubernetes %s: %w", runs, err)
		}
		k.Held, k.HeldFor = name, runs
		note = fmt.Sprintf("the datastore from before Kubernetes %s is kept as %s", runs, name)
	case !trial && k.Held != "":
		if step(k.HeldFor, runs) < 0 {
			if err := m.Load(ctx, k.Held); err != nil {
				return k, "", fmt.Errorf("bring back the datastore of %s: %w", k.Held, err)
			}
			note = fmt.Sprintf("the system with Kubernetes %s was taken back, and the datastore is that of %s again", k.HeldFor, k.Held)
		}
		k.Held, k.HeldFor = "", ""
	default:
		return k, "", nil
	}
	return k, note, save(k)
}

// advance takes an armed Kubernetes, or one on trial, a step further, and
// reports whether it starts now. What goes wrong is the Reason to go back.
func (k *Kube) advance(ctx context.Context, m KubeMachine, now time.Time) (starts bool) {
	switch {
	case k.Reason != "":
	case k.Phase == Armed && k.Snapshot == "" && k.Unsaved == "" && step(k.From.Version, k.To.Version) != 0:
		name, err := m.Save(ctx, k.From.Version, k.To.Version)
		switch {
		case errors.Is(err, ErrNoDatastore):
			k.Unsaved = err.Error()
		case err != nil:
			k.Reason = fmt.Sprintf("take a snapshot of the datastore: %v", err)
		default:
			k.Snapshot = name
		}
	case k.Phase == Armed && k.Restore != "":
		if err := m.Load(ctx, k.Restore); err != nil {
			k.Reason = fmt.Sprintf("bring back the datastore of %s: %v", k.Restore, err)
		}
		k.Restore = ""
	case k.Phase == Trial && k.Tries <= 0:
		k.Reason = "its trial ended before it became healthy: the machine restarted"
	default:
		if k.To.ID != "" {
			if err := m.Check(k.To.ID); err != nil {
				k.Reason = err.Error()
				return false
			}
		}
		k.Phase = Trial
		k.Tries--
		return true
	}
	return false
}

// back ends a trial that has a reason to end. One that never began leaves no
// mark on the release: it may have had no chance.
func (k *Kube) back(ctx context.Context, m KubeMachine, now time.Time) error {
	if k.Reason == "" {
		return nil
	}
	if k.Snapshot != "" {
		if err := m.Load(ctx, k.Snapshot); err != nil {
			return fmt.Errorf("go back to Kubernetes %s: bring back its datastore: %w; \"kedge upgrade rollback --kubernetes --keep-datastore\" does without", k.From.Version, err)
		}
	}
	if k.Phase == Trial && k.To.ID != "" {
		k.markBad(k.Reason, now)
	}
	k.Phase, k.Tries, k.Restore = RolledBack, 0, ""
	return nil
}

// Text says how Kubernetes stands, for a person; "" when there is nothing to
// say.
func (k Kube) Text() string {
	name := func(r Release) string {
		if r.ID == "" {
			return r.Version + " of the system"
		}
		return r.String()
	}
	text := ""
	switch k.Phase {
	case Staged:
		return fmt.Sprintf("Kubernetes %s is staged", name(k.To))
	case Armed:
		return fmt.Sprintf("Kubernetes %s is armed: the next start of kube is its trial", name(k.To))
	case Trial:
		text = fmt.Sprintf("Kubernetes %s is on trial, %d more starts; %s comes back if it fails", name(k.To), k.Tries, name(k.From))
		if k.Reason != "" {
			text = fmt.Sprintf("Kubernetes %s is given up: %s", name(k.To), k.Reason)
		}
	case Committed:
		text = fmt.Sprintf("Kubernetes %s is committed; before it ran %s", name(k.To), name(k.From))
	case RolledBack:
		text = fmt.Sprintf("Kubernetes %s was taken back: %s", name(k.To), k.Reason)
	}
	switch {
	case text == "":
	case k.Snapshot != "" && k.Phase == RolledBack:
		text += "; the datastore is that of " + k.Snapshot + " again"
	case k.Snapshot != "":
		text += "; the datastore from before is " + k.Snapshot
	case k.Unsaved != "":
		text += "; the datastore was " + k.Unsaved
	}
	return text
}
