// Package slot is the boot record of a machine with two slots, a and b: which
// one is committed, which one is on trial, and how many starts the trial has
// left. GRUB reads and writes it before Linux runs. The package decides what
// is written in which order; it does not know what lies in a slot, nor whether
// a node is healthy.
//
// The record is three environment blocks (see pkg/format/bootenv) in the
// folder Folder of the ESP:
//
//	good1.env, good2.env   begin=good:a  good=a            check=good:a
//	trial.env              begin=b:3     trial=b  tries=3  check=b:3
//	trial.env, no trial    begin=:0      trial=   tries=0  check=:0
//
// GRUB cannot compute a sum, but it can compare strings: a block counts, it is
// sound, only if begin and check equal the values joined by a colon. begin is
// the first variable and check the last, so a half written sector does not
// match. The blocks lie in files that are made once and then written in place:
// a write changes one sector, and GRUB touches nothing else of the file system.
//
// At each start GRUB follows these rules, which Next is the model of and
// Script the text of:
//
//  1. The committed slot is that of good1.env if it is sound, else that of
//     good2.env if it is sound, else a.
//  2. If trial.env is sound, names a slot and has tries left, GRUB writes it
//     with one try less and reads it back. If that is what it wrote, it boots
//     that slot with kedge.slot=<slot> kedge.trial=1.
//  3. Otherwise it boots the committed slot with kedge.slot=<slot>.
//
// So a medium that cannot be written never boots a trial, rather than one
// without end. The order of the writes of Arm, Commit and Disarm is such that
// a power cut before, between or within them leaves GRUB to pick the committed
// slot, or the one on trial.
package slot

import (
	"fmt"
	"strconv"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/bootenv"
)

// The two slots.
const (
	A = layout.SlotA
	B = layout.SlotB
)

// Where the record lies.
const (
	Folder    = "kedge" // on the ESP
	Good1File = "good1.env"
	Good2File = "good2.env"
	TrialFile = "trial.env"
)

// MaxTries is the most starts that a trial can have; GRUB cannot count, its
// script has a line for each number.
const MaxTries = 3

// Record is what the three blocks say.
type Record struct {
	Good  string // the committed slot, A or B
	Trial string // the slot on trial, "" for none
	Tries int    // starts that the trial has left, 0 to MaxTries
}

// Other returns the slot that s is not.
func Other(s string) string {
	if s == A {
		return B
	}
	return A
}

// Next says what GRUB does at the next start: the slot it boots, whether as a
// trial, and the record that it leaves.
func Next(r Record) (slot string, trial bool, after Record) {
	if r.Trial == "" || r.Tries == 0 {
		return r.Good, false, r
	}
	after = r
	after.Tries--
	return r.Trial, true, after
}

// Parse reads the record from the contents of its three files, nil for one
// that is missing. It takes blocks of bootenv.Size bytes as GRUB does; a file
// of another length, which only a damaged file system has, is not sound here,
// while GRUB may still read it. What is damaged, or was left half done by a
// power cut, is named in notes and is never an error; Repair mends it.
func Parse(good1, good2, trial []byte) (r Record, notes []string) {
	first, err1 := parseGood(good1)
	if err1 != nil {
		notes = append(notes, fmt.Sprintf("%s: %v", Good1File, err1))
	}
	second, err2 := parseGood(good2)
	if err2 != nil {
		notes = append(notes, fmt.Sprintf("%s: %v", Good2File, err2))
	}
	switch {
	case err1 == nil && err2 == nil && first != second:
		notes = append(notes, fmt.Sprintf("%s: names slot %s, %s slot %s", Good2File, second, Good1File, first))
		fallthrough
	case err1 == nil:
		r.Good = first
	case err2 == nil:
		r.Good = second
	default:
		r.Good = A
	}
	var err error
	if r.Trial, r.Tries, err = parseTrial(trial); err != nil {
		notes = append(notes, fmt.Sprintf("%s: %v", TrialFile, err))
	}
	return r, notes
}

// parseGood returns the slot that a good block names. The error says why the
// block is not sound.
func parseGood(block []byte) (string, error) {
	e, err := bootenv.Parse(block)
	if err != nil {
		return "", err
	}
	good := e.Get("good")
	if good != A && good != B {
		return "", fmt.Errorf("good is %q, want a or b", good)
	}
	return good, checked(e, "good:"+good)
}

// parseTrial returns what a sound trial block says; one that GRUB could not
// count down is not sound.
func parseTrial(block []byte) (trial string, tries int, err error) {
	trial, tries, err = readTrial(block)
	if err != nil || trial == "" || tries == 0 {
		return trial, tries, err
	}
	less, err := countDown(block, trial, tries-1)
	if err != nil {
		return "", 0, err
	}
	if t, n, err := readTrial(less); err != nil || t != trial || n != tries-1 {
		return "", 0, fmt.Errorf("tries do not count down from %d", tries)
	}
	return trial, tries, nil
}

func readTrial(block []byte) (trial string, tries int, err error) {
	e, err := bootenv.Parse(block)
	if err != nil {
		return "", 0, err
	}
	trial = e.Get("trial")
	if trial != A && trial != B && trial != "" {
		return "", 0, fmt.Errorf("trial is %q, want a, b or nothing", trial)
	}
	for tries = range MaxTries + 1 {
		if e.Get("tries") == strconv.Itoa(tries) {
			if err := checked(e, fmt.Sprintf("%s:%d", trial, tries)); err != nil {
				return "", 0, err
			}
			if trial == "" {
				tries = 0
			}
			return trial, tries, nil
		}
	}
	return "", 0, fmt.Errorf("tries is %q, want 0 to %d", e.Get("tries"), MaxTries)
}

// checked says whether begin and check hold the sum.
func checked(e bootenv.Env, sum string) error {
	for _, name := range []string{"begin", "check"} {
		if got := e.Get(name); got != sum {
			return fmt.Errorf("%s is %q, want %q", name, got, sum)
		}
	}
	return nil
}

// countDown returns the trial block as GRUB's save_env writes it.
func countDown(block []byte, trial string, tries int) ([]byte, error) {
	sum := fmt.Sprintf("%s:%d", trial, tries)
	var err error
	for _, v := range []bootenv.Var{{Name: "begin", Value: sum}, {Name: "tries", Value: strconv.Itoa(tries)}, {Name: "check", Value: sum}} {
		if block, err = bootenv.Set(block, v.Name, v.Value); err != nil {
			return nil, err
		}
	}
	return block, nil
}

// goodBlock returns the block that commits a slot.
func goodBlock(slot string) []byte {
	return block(bootenv.Env{{Name: "begin", Value: "good:" + slot}, {Name: "good", Value: slot}, {Name: "check", Value: "good:" + slot}})
}

// trialBlock returns the block of a trial; slot "" and no tries are none.
func trialBlock(slot string, tries int) []byte {
	sum := fmt.Sprintf("%s:%d", slot, tries)
	return block(bootenv.Env{{Name: "begin", Value: sum}, {Name: "trial", Value: slot}, {Name: "tries", Value: strconv.Itoa(tries)}, {Name: "check", Value: sum}})
}

func block(e bootenv.Env) []byte {
	b, err := e.Bytes()
	if err != nil {
		panic(err) // values of one letter or digit always fit
	}
	return b
}
