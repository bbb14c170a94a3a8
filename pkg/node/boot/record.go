// Package boot brings a machine from the kernel's hand-over to its services,
// twice: in the initial RAM file system it finds the root file system and
// switches to it (Initrd), in the root it sets up what services need (Root).
//
// What is done stands in slices of steps; one loop does them and tells of each.
// Decisions (is this the medium? what to say when none is found?) are functions
// without side effects.
package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
)

// Names of the stages, in order. The console gets one line for each, printed by
// whoever reaches it.
const (
	StageInitrd     = "initrd"     // stage 1 begins
	StageMedium     = "medium"     // the root file system was found
	StageRoot       = "root"       // stage 2 begins
	StageServices   = "services"   // services begin
	StageAgent      = "agent"      // the agent is up
	StageConfigured = "configured" // configuration applied, network up or given up
	StageKube       = "kube"       // Kubernetes started
	StageReady      = "ready"      // the node is Ready
)

// Modes of the boot, as in kedge.mode= on the kernel command line.
const (
	ModeLive    = "live"
	ModeDisk    = "disk"
	ModeInstall = "install"
	ModeRescue  = "rescue"
)

// RecordPath is where the boot record lies, in memory.
const RecordPath = "/run/kedge/boot.json"

// A Record says how this boot went so far.
type Record struct {
	Mode        string  `json:"mode"`
	Fallback    bool    `json:"fallback,omitempty"` // the mode is that of kedge.fallback_mode: no state was found in time
	ID          string  `json:"id"`
	Medium      string  `json:"medium"`                 // device that the system was started from; "" when there is none
	Root        string  `json:"root"`                   // URL that the root came from; "" when it was a medium
	Takeover    bool    `json:"takeover,omitempty"`     // from within another system, which is still on its disk
	Slot        string  `json:"slot,omitempty"`         // a or b, of an installed system
	Trial       bool    `json:"trial,omitempty"`        // the slot is on trial
	Verity      bool    `json:"verity,omitempty"`       // the kernel checks each block of the root that it reads
	Damage      string  `json:"damage,omitempty"`       // what such a check found
	StateDevice string  `json:"state_device,omitempty"` // the state, when it cannot be used: all is in memory then
	StateDamage string  `json:"state_damage,omitempty"` // and why
	Stages      []Mark  `json:"stages"`
	Messages    []Event `json:"messages"`
}

// A Mark is a stage with the time it was reached.
type Mark struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"` // since the kernel started
}

// An Event is a message worth keeping: a step that failed, a decision that
// may surprise.
type Event = string

// Stage prints the marker of a stage on the console and returns the mark.
func Stage(name string) Mark {
	m := Mark{Name: name, Seconds: seconds(kernel.Uptime())}
	console.Write(m.String() + "\n")
	return m
}

// String is the line that the console shows.
func (m Mark) String() string { return fmt.Sprintf("kedge: stage %s at %.2fs", m.Name, m.Seconds) }

// seconds rounds to hundredths.
func seconds(d time.Duration) float64 { return d.Round(10 * time.Millisecond).Seconds() }

// Stopped prints on the console why the boot does not go on.
func Stopped(stage string, reason error) {
	console.Write(fmt.Sprintf("kedge: stopped at %s: %v\n", stage, reason))
}

// A Journal is a Record that grows while several parts of the boot write to it.
// Each change is written to its file, where the agent reads it.
type Journal struct {
	mu     sync.Mutex
	path   string
	record Record
}

// OpenJournal goes on with the record at path, or begins it when there is none.
func OpenJournal(path string) (*Journal, error) {
	j := &Journal{path: path, record: Record{Stages: []Mark{}, Messages: []Event{}}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return j, err
	}
	if err := json.Unmarshal(b, &j.record); err != nil {
		return j, fmt.Errorf("read boot record %s: %w", path, err)
	}
	return j, nil
}

// Record returns the record as it is now.
func (j *Journal) Record() Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record
	r.Stages = append([]Mark{}, r.Stages...)
	r.Messages = append([]Event{}, r.Messages...)
	return r
}

// Update changes the record and writes it. A failure to write is not an error
// of the boot; the record in memory is right.
func (j *Journal) Update(change func(*Record)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.record)
	if b, err := json.Marshal(j.record); err == nil {
		atomicfile.WriteFile(j.path, append(b, '\n'), 0o644)
	}
}

// Stage prints and records that a stage is reached.
func (j *Journal) Stage(name string) {
	m := Stage(name)
	j.Update(func(r *Record) { r.Stages = append(r.Stages, m) })
}

// maxMessages bounds the record: a device that fails again and again must not
// fill the memory.
const maxMessages = 200

// Note records a message.
func (j *Journal) Note(message string) {
	j.Update(func(r *Record) {
		if len(r.Messages) < maxMessages {
			r.Messages = append(r.Messages, message)
		}
	})
}
