package boot

import (
	"path/filepath"
	"testing"
)

// TestWithoutState: the agent reads from the record that the mode is a fallback.
func TestWithoutState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot.json")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &System{Journal: j, Mode: ModeDisk, fallback: ModeInstall}
	s.withoutState()
	read, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if r := read.Record(); r.Mode != ModeInstall || !r.Fallback || s.Mode != ModeInstall {
		t.Errorf("record %+v, mode %s", r, s.Mode)
	}
}
