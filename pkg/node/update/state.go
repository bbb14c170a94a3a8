// Package update puts another release into the idle slot, on trial, and decides
// what becomes of it: committed when the node is healthy with it, else taken
// back, and never armed again by itself.
//
// The state is one file that both slots read. Each step has one point at which
// it counts: the write of that file, or that of the boot record. A power cut
// anywhere leaves the committed slot, or the one on trial.
package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// StateFile is where the state is kept, on the machine's state file system.
const StateFile = "/var/lib/kedge/upgrade.json" // an installation that keeps the state empties it

// A Phase is how far an upgrade is.
type Phase string

// The phases. Idle is the one of a machine that was never upgraded.
const (
	Idle       Phase = ""
	Staged     Phase = "staged"      // it lies in the idle slot, whole
	Armed      Phase = "armed"       // the next start is its trial
	Trial      Phase = "trial"       // it runs, and has to show its health
	Committed  Phase = "committed"   // it is what this machine starts
	RolledBack Phase = "rolled back" // its trial failed; the release before it runs
)

// A Release is one release, as the state names it.
type Release struct {
	Version string `json:"version"`
	ID      string `json:"id"`
}

func (r Release) String() string { return r.Version + " (" + r.ID + ")" }

// A State is what this machine knows of its upgrades.
type State struct {
	Phase   Phase     `json:"phase"`
	Slot    string    `json:"slot,omitempty"` // that To lies in
	To      Release   `json:"to"`             // the last release that was staged
	From    Release   `json:"from"`           // what ran when To was staged
	Reason  string    `json:"reason,omitempty"`
	Failing []string  `json:"failing,omitempty"` // checks that failed before the upgrade
	Changed time.Time `json:"changed"`
	Bad     []Bad     `json:"bad,omitempty"`
	Boot    string    `json:"boot,omitempty"` // in which this was noted; "" when it is not known
	Last    bool      `json:"last,omitempty"` // on trial again, after it was given up: the committed slot has not started twice

	// Digests are those of the OCI images that releases came in, by the ID of the
	// release. One that came otherwise has none.
	Digests map[string]string `json:"digests,omitempty"`
	Terms
}

// Terms are what a cluster asks of a trial beside the machine's own
// configuration.
type Terms struct {
	Probes []Probe       `json:"probes,omitempty"`
	Limit  time.Duration `json:"limit,omitempty"` // nanoseconds; 0 for the configuration's
	Hold   bool          `json:"hold,omitempty"`  // it is not kept before the cluster says so
}

// A Probe must answer while a release is on trial.
type Probe struct {
	Name string `json:"name"`
	URL  string `json:"url,omitempty"` // answers a GET with 200 to 399
	TCP  string `json:"tcp,omitempty"` // host:port, takes a connection
}

// Came notes in which OCI image a release came, and forgets what it knew of
// those that the state no longer names, running aside. Without a digest it came
// otherwise.
func (s State) Came(id, digest, running string) State {
	digests := map[string]string{}
	for known, d := range s.Digests {
		if known == s.To.ID || known == s.From.ID || known == running || s.IsBad(known) != "" {
			digests[known] = d
		}
	}
	delete(digests, id)
	if id != "" && digest != "" {
		digests[id] = digest
	}
	s.Digests = digests
	return s
}

// A Bad release failed its trial on this machine.
type Bad struct {
	Release
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// maxBad bounds the list of bad releases; the oldest are forgotten.
const maxBad = 20

// IsBad returns why a release is not to be armed again by itself, "" if it may.
func (s State) IsBad(id string) string {
	i := slices.IndexFunc(s.Bad, func(b Bad) bool { return b.ID == id })
	if i < 0 {
		return ""
	}
	return s.Bad[i].Reason
}

// markBad remembers that the release on trial failed.
func (s *State) markBad(reason string, now time.Time) {
	s.Bad = slices.DeleteFunc(s.Bad, func(b Bad) bool { return b.ID == s.To.ID })
	s.Bad = append(s.Bad, Bad{s.To, reason, now})
	if n := len(s.Bad); n > maxBad {
		s.Bad = s.Bad[n-maxBad:]
	}
}

// Load reads the state; a machine without the file is Idle. A damaged file is
// an error, and the state that can still be used is Idle.
func Load(path string) (State, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

// Save writes the state, whole or not at all.
func (s State) Save(path string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(path, append(b, '\n'), 0o644)
}

// Running is what a boot knows of itself.
type Running struct {
	Release
	Slot  string // a or b; "" for a system that is not installed
	Trial bool
	Boot  string // the kernel's name for it; "" when it is not known
	Good  string // the committed slot of the boot record; "" when it is not known

	Unarmed bool // the boot record has no trial, not even one without starts left
}

// Booted returns the state as a boot finds it: what was armed is on trial now,
// or its trial is over. A trial that nobody has armed is that of a machine whose
// committed slot no longer starts, or whose state was lost.
func (s State) Booted(r Running, now time.Time) State {
	was := s.Phase
	if was != Armed && was != Trial && r.Trial {
		s.From, s.To, s.Slot, s.Reason = Release{}, r.Release, r.Slot, ""
		s.Phase, s.Changed, s.Failing, s.Terms, s.Last = Trial, now, nil, Terms{}, false
		return s
	}
	if was != Armed && was != Trial {
		return s
	}
	switch {
	case was == Armed && r.Boot != "" && r.Boot == s.Boot: // the restart is still to come
	case r.Slot == s.Slot && r.Trial && s.From.ID == "" && s.Reason != "" && (s.Boot == "" || s.Boot != r.Boot):
		s.Phase, s.Reason, s.Last, s.Changed = Trial, "", true, now
	case r.Slot == s.Slot && r.Trial:
		s.Phase = Trial
	case r.Slot == s.Slot && (r.Good == "" || r.Good == s.Slot): // a commit that a power cut kept from being noted
		s.Phase, s.Reason = Committed, ""
	case r.Slot == s.Slot && !r.Unarmed: // somebody chose the slot in the menu: the trial is still to come
	case was == Armed && r.Unarmed: // a power cut came before the boot record was written
		s.Phase = Staged
	default:
		s.Phase = RolledBack
		if s.Reason == "" {
			s.Reason = map[Phase]string{
				Armed: "it never came up far enough to say why: its kernel or its first steps failed",
				Trial: "its trial ended before it became healthy: the machine restarted",
			}[was]
		}
		s.markBad(s.Reason, now)
	}
	if s.Phase != was {
		s.Changed = now
	}
	return s
}

// Strays tells whether a slot runs that is neither the committed one nor on trial:
// GRUB could not read the committed one, or somebody chose the other in its menu.
func (r Running) Strays() bool { return !r.Trial && r.Good != "" && r.Good != r.Slot }

// Undecided tells whether a trial runs of which nobody has said yet that it is
// given up.
func (s State) Undecided() bool { return s.Phase == Trial && s.Reason == "" }

// Judge says which checks make a release unhealthy, "" for none. Failed are the
// checks that failed now, with their errors; what failed before the upgrade does
// not count against it. One that is held is not healthy either.
func (s State) Judge(failed map[string]error) string {
	var worse []string
	for _, check := range slices.Sorted(maps.Keys(failed)) {
		if !slices.Contains(s.Failing, check) {
			worse = append(worse, fmt.Sprintf("health check %q: %v", check, failed[check]))
		}
	}
	if len(worse) == 0 && s.Held() {
		return "the cluster has not confirmed it: its hooks have not ended"
	}
	return strings.Join(worse, "; ")
}

// Held tells whether a trial waits for the cluster's word.
func (s State) Held() bool { return s.Hold && s.Undecided() }

// Text says how an upgrade stands, for a person; "" when there is nothing to
// say.
func (s State) Text() string {
	switch s.Phase {
	case Staged:
		return fmt.Sprintf("%s is staged in slot %s", s.To, s.Slot)
	case Armed:
		return fmt.Sprintf("%s is armed: the next start is its trial", s.To)
	case Trial:
		if s.From.ID == "" {
			return fmt.Sprintf("%s is on trial, since slot %s did not start", s.To, slot.Other(s.Slot))
		}
		return fmt.Sprintf("%s is on trial; %s comes back if it fails", s.To, s.From)
	case Committed:
		if s.From.ID == "" && s.Reason != "" {
			return fmt.Sprintf("%s is kept though it is not healthy, since slot %s does not start: %s", s.To, slot.Other(s.Slot), s.Reason)
		}
		if s.From.ID == "" {
			return fmt.Sprintf("%s is committed, since slot %s did not start", s.To, slot.Other(s.Slot))
		}
		return fmt.Sprintf("%s is committed; before it ran %s", s.To, s.From)
	case RolledBack:
		return fmt.Sprintf("%s was taken back: %s", s.To, s.Reason)
	}
	return ""
}
