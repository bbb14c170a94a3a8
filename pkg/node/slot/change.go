package slot

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart.
var (
	ErrCommitted = errors.New("slot is the committed one")
	ErrTrial     = errors.New("another trial is running")
)

// A Write is one block to be written: all of Data to the start of the file.
// Writes are done in order; each must have reached the disk before the next.
type Write struct {
	File string // Good1File, Good2File or TrialFile
	Data []byte // bootenv.Size bytes
}

// Arm returns what puts a slot on trial for a number of starts, 1 to MaxTries.
// The error is ErrCommitted when that slot is the committed one, and ErrTrial
// when a trial is on record and replace is false. A trial without tries left
// is still one: the machine may be in its last start. Commit and Disarm end
// it.
func (r Record) Arm(slot string, tries int, replace bool) ([]Write, error) {
	switch {
	case slot != A && slot != B:
		return nil, fmt.Errorf("arm slot %q: want a or b", slot)
	case tries < 1 || tries > MaxTries:
		return nil, fmt.Errorf("arm slot %s: %d tries, want 1 to %d", slot, tries, MaxTries)
	case slot == r.Good:
		return nil, fmt.Errorf("arm slot %s: %w", slot, ErrCommitted)
	case r.Trial != "" && r.Trial != r.Good && !replace:
		return nil, fmt.Errorf("arm slot %s: %w", slot, ErrTrial)
	}
	return []Write{{TrialFile, trialBlock(slot, tries)}}, nil
}

// Commit returns what makes a slot the committed one and ends a trial. The
// caller must know the slot to be good, and must not have changed the one
// committed so far: a power cut may leave either.
func Commit(slot string) ([]Write, error) {
	if slot != A && slot != B {
		return nil, fmt.Errorf("commit slot %q: want a or b", slot)
	}
	return []Write{{Good1File, goodBlock(slot)}, {Good2File, goodBlock(slot)}, {TrialFile, trialBlock("", 0)}}, nil
}

// Disarm returns what ends a trial; the committed slot stays. Do it before the
// slot on trial is overwritten, else GRUB may try a half written one.
func Disarm() []Write {
	return []Write{{TrialFile, trialBlock("", 0)}}
}

// Repair returns what mends damaged blocks and finishes a Commit that a power
// cut has left half done; nothing when all is well. It changes neither the
// committed slot nor a running trial. Do it before a slot is overwritten: the
// older copy of an unfinished Commit names that slot.
func Repair(good1, good2, trial []byte) (writes []Write) {
	r, _ := Parse(good1, good2, trial)
	if slot, err := parseGood(good1); err != nil || slot != r.Good {
		writes = append(writes, Write{Good1File, goodBlock(r.Good)})
	}
	if slot, err := parseGood(good2); err != nil || slot != r.Good {
		writes = append(writes, Write{Good2File, goodBlock(r.Good)})
	}
	if _, _, err := parseTrial(trial); err != nil || r.Trial == r.Good {
		writes = append(writes, Write{TrialFile, trialBlock("", 0)})
	}
	return writes
}
