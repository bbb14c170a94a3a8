// Package upgradesocket is the language in which a pod of the cluster asks the
// agent of its machine for upgrades.
//
// It is HTTP with JSON bodies over a Unix socket, and these verbs only:
//
//	GET  /v1/status    Status
//	POST /v1/stage     Stage: bring a release and put it aside; goes on in the background
//	POST /v1/activate  Activate: restart into what is staged, or switch Kubernetes, on trial
//	POST /v1/confirm   Confirm: let a trial that was held come to its end
//	POST /v1/rollback  Rollback: go back to what ran before
//	POST /v1/snapshot  Snapshot: save the datastore; goes on in the background
//	POST /v1/cancel    end what goes on in the background, and forget what is staged
//
// Each may be asked again: what is under way or done already is no error. An
// answer of 202 has the Status after it; one that is not 2xx is an Error.
//
// Who may ask is a matter of the file: the socket and its folder belong to root
// and to Group, an ID that no account of ours or of a distribution has (65000 to
// 65533 are reserved by Debian's policy, section 9.2.2). A pod that has it as
// its only privilege mounts Folder; the folder stays when the agent starts anew,
// which makes another socket. What a caller may not do is decided here, on the
// machine: images must be signed by keys that the machine trusts, unless its own
// configuration says otherwise.
package upgradesocket

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Places of the socket, and the group that may ask.
const (
	Folder = "/run/kedge/upgrade"
	Path   = Folder + "/agent.sock"
	Group  = 65430
)

// A Part of a machine that is upgraded by itself.
type Part string

// The parts.
const (
	OS         Part = "os"
	Kubernetes Part = "kubernetes"
)

// A Phase is how far the last upgrade of a part is.
type Phase string

// The phases.
const (
	Idle       Phase = ""
	Staged     Phase = "staged"
	Armed      Phase = "armed" // the next start is the trial
	Trial      Phase = "trial"
	Committed  Phase = "committed"
	RolledBack Phase = "rolled back"
)

// A Release is one of a part.
type Release struct {
	Version string `json:"version,omitempty"`
	ID      string `json:"id,omitempty"`     // of the manifest; "" for the system's own Kubernetes
	Digest  string `json:"digest,omitempty"` // of the OCI image it came in, sha256:…; "" when it came otherwise
}

// A State is how one part stands.
type State struct {
	Running  Release   `json:"running"`
	Phase    Phase     `json:"phase,omitempty"`
	To       Release   `json:"to"`                 // that the phase is about
	Previous *Release  `json:"previous,omitempty"` // that the part can go back to
	Held     bool      `json:"held,omitempty"`     // the trial is not kept before Confirm
	Reason   string    `json:"reason,omitempty"`   // why it was taken back
	Text     string    `json:"text,omitempty"`     // the phase in a sentence
	Changed  time.Time `json:"changed"`
	Bad      []Bad     `json:"bad,omitempty"`
}

// A Bad release failed on this machine.
type Bad struct {
	Release
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// Verbs that go on in the background.
const (
	StageVerb    = "stage"
	SnapshotVerb = "snapshot"
)

// Work goes on in the background, or has ended last.
type Work struct {
	Verb  string    `json:"verb"`
	Stage *Stage    `json:"stage,omitempty"` // what was asked
	At    time.Time `json:"at,omitzero"`     // of a snapshot: what was asked
	Begun time.Time `json:"begun"`
	Step  string    `json:"step,omitempty"`  // what it is at, for people
	Done  int64     `json:"done,omitempty"`  // bytes of the step
	Total int64     `json:"total,omitempty"` // bytes of the step; 0 when it is not known
	Over  bool      `json:"over,omitempty"`
	Error *Error    `json:"error,omitempty"` // how it ended; nil for well
}

// A Saved datastore answers a request for a snapshot.
type Saved struct {
	At   time.Time `json:"at"` // the request
	Name string    `json:"name"`
}

// Status is how a machine's upgrades stand.
type Status struct {
	BootID     string `json:"boot_id"`
	Arch       string `json:"arch"`
	Slot       string `json:"slot,omitempty"`
	Server     bool   `json:"server"`              // a control-plane node
	Own        string `json:"own,omitempty"`       // version of the Kubernetes that the running system brings
	Fixed      string `json:"fixed,omitempty"`     // why its system cannot be upgraded; "" when it can
	Healthy    bool   `json:"healthy"`             // as the agent sees the node
	Unhealthy  string `json:"unhealthy,omitempty"` // why not
	Free       int64  `json:"free"`                // bytes of the disk that images are brought to
	OS         State  `json:"os"`
	Kubernetes State  `json:"kubernetes"`
	Work       *Work  `json:"work,omitempty"`
	Saved      *Saved `json:"saved,omitempty"`
}

// Part returns the state of one part.
func (s Status) Part(p Part) State {
	if p == Kubernetes {
		return s.Kubernetes
	}
	return s.OS
}

// Stage asks for releases: what they are, and what is allowed.
type Stage struct {
	OS             *Image `json:"os,omitempty"`
	Kubernetes     *Image `json:"kubernetes,omitempty"`
	AllowDowngrade bool   `json:"allow_downgrade,omitempty"`
	Again          bool   `json:"again,omitempty"` // one that failed here before, too
}

// An Image is one in a registry, by its digest.
type Image struct {
	Name   string `json:"name"`   // registry.example/kedge:v1.4.0; a tag is not looked at
	Digest string `json:"digest"` // sha256:…
}

// Reference is where the image is: its repository and digest.
func (i Image) Reference() string {
	name, _, _ := strings.Cut(i.Name, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	return name + "@" + i.Digest
}

// Check says what is wrong with the image of a request.
func (i Image) Check() error {
	hex, ok := strings.CutPrefix(i.Digest, "sha256:")
	host, rest, path := strings.Cut(i.Name, "/")
	switch {
	case !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "":
		return fmt.Errorf("image %q: its digest is %q, not sha256: and 64 digits", i.Name, i.Digest)
	case !path || rest == "" || !strings.ContainsAny(host, ".:") && host != "localhost",
		strings.HasPrefix(i.Name, "."), strings.Contains(i.Name, "://"),
		strings.HasPrefix(i.Name, "oci:"), strings.HasPrefix(i.Name, "oci-archive:"):
		return fmt.Errorf("image %q: not a reference of a registry, such as registry.example/kedge:v1.4.0", i.Name)
	}
	return nil
}

// Same tells whether two requests are for the same releases.
func (s Stage) Same(o Stage) bool {
	same := func(a, b *Image) bool { return a == nil && b == nil || a != nil && b != nil && a.Digest == b.Digest }
	return same(s.OS, o.OS) && same(s.Kubernetes, o.Kubernetes)
}

// Check says what is wrong with a request.
func (s Stage) Check() error {
	if s.OS == nil && s.Kubernetes == nil {
		return errors.New("stage: no image is named")
	}
	for _, i := range []*Image{s.OS, s.Kubernetes} {
		if i == nil {
			continue
		}
		if err := i.Check(); err != nil {
			return fmt.Errorf("stage: %w", err)
		}
	}
	return nil
}

// A Probe is something that must answer while a release is on trial.
type Probe struct {
	Name string `json:"name"`
	URL  string `json:"url,omitempty"` // answers a GET with 200 to 399
	TCP  string `json:"tcp,omitempty"` // host:port, takes a connection
}

// Activate asks for the trial of what is staged.
type Activate struct {
	Part     Part      `json:"part"`
	Digest   string    `json:"digest"`             // what must be staged, or its version when it has none
	NotAfter time.Time `json:"not_after,omitzero"` // by this machine's clock; zero for any time
	Again    bool      `json:"again,omitempty"`
	// Probes must answer before the release is kept, beside the checks of the
	// machine's own configuration; those that fail before do not count.
	Probes []Probe `json:"probes,omitempty"`
	// Limit is how long the trial may take, in seconds; 0 is the machine's own,
	// which is never exceeded by more than its configuration could.
	Limit int64 `json:"limit,omitempty"`
	// Hold lets the trial go on, and the time for it run, until Confirm.
	Hold bool `json:"hold,omitempty"`
}

// Confirm lets a trial that was held come to its end: what is healthy is kept.
type Confirm struct {
	Part   Part   `json:"part"`
	Digest string `json:"digest"` // what is on trial, or its version when it has none
}

// Rollback asks to leave what runs for what ran before.
type Rollback struct {
	Part     Part      `json:"part"`
	Digest   string    `json:"digest"` // what is to be left, or its version when it has none
	NotAfter time.Time `json:"not_after,omitzero"`
	Reason   string    `json:"reason,omitempty"` // why a trial is given up
}

// Snapshot asks for one of the datastore.
type Snapshot struct {
	At time.Time `json:"at"` // names the request
}

// Is tells whether a release is the one that a request names.
func (r Release) Is(digest string) bool {
	return digest != "" && (r.Digest == digest || r.Digest == "" && r.Version == digest)
}

// Reasons, in one word, why something is refused or has failed.
const (
	Invalid      = "Invalid"      // the request is not sound
	Busy         = "Busy"         // something else is under way: ask again later
	NotFound     = "NotFound"     // the registry has no such image
	Untrusted    = "Untrusted"    // nobody whom this machine trusts has signed it
	KnownBad     = "KnownBad"     // it failed on this machine before
	Downgrade    = "Downgrade"    // it is older than what runs
	Skew         = "Skew"         // versions of Kubernetes would be too far apart
	Space        = "Space"        // there is no room for it
	Damaged      = "Damaged"      // it is not what its digests say
	NotStaged    = "NotStaged"    // what is to be activated is not there
	Late         = "Late"         // the time for it is over
	NotPossible  = "NotPossible"  // this machine cannot do it
	Interrupted  = "Interrupted"  // it was called off, or the agent ended
	Failed       = "Failed"       // anything else
	Unauthorized = "Unauthorized" // the registry wants another name and password
)

// Lasting tells whether what is refused for a reason stays so for as long as
// nobody changes anything.
func Lasting(reason string) bool {
	switch reason {
	case Busy, NotFound, Interrupted, Failed, Unauthorized, Late, "":
		return false
	}
	return true
}

// An Error is why something is refused or has failed.
type Error struct {
	Reason  string `json:"reason"` // one word
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // the way out
}

func (e *Error) Error() string {
	if e.Hint != "" {
		return e.Message + "; " + e.Hint
	}
	return e.Message
}

// ReasonOf returns the reason of an error, "" for none.
func ReasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
