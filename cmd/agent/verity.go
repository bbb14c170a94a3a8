package main

import (
	"encoding/json"
	"os"

	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/status"
)

// bootRecord reads what PID 1 knows of this boot by now.
func bootRecord() (boot.Record, error) {
	r := boot.Record{Mode: boot.ModeLive}
	text, err := os.ReadFile(boot.RecordPath)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

// rootDamage says what is damaged in the root by now, "" for nothing.
func rootDamage() string {
	r, err := bootRecord()
	if err != nil {
		return "" // it is about the record, which the start has told
	}
	return r.Damage
}

// addRoot says what vouches for the root, and its damage with the way out; a
// slot on trial is given up without anybody's doing.
func addRoot(s *status.Status) {
	r, err := bootRecord()
	if err != nil {
		return
	}
	switch {
	case r.Verity:
		s.Root = "verified as it is read (dm-verity)"
	case r.Root != "":
		s.Root = "verified when it was fetched (SHA-256)"
	default:
		s.Root = "not verified: this release has no hash tree"
	}
	if s.Damage = r.Damage; !s.Trial {
		s.Mend = r.Mend()
	}
}
