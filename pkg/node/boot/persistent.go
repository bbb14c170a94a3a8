package boot

import (
	"io/fs"

	"github.com/kedgeos/kedge/pkg/api/layout"
)

// StateLabel is the label of the file system that keeps state in disk mode.
const StateLabel = layout.StateName

// Persistent lists all that outlives a restart when there is a disk for it:
// the folders of /var, which is memory in live mode, and the places in the
// root that are bound from there. Nothing else in the system is kept.
var Persistent = []struct {
	Path string // below /var
	Mode fs.FileMode
	Bind string // where it also shows; "" for nowhere
}{
	{"lib", 0o755, ""},
	{"lib/kedge", 0o755, ""},
	{"lib/kedge/config.d", 0o700, ""},
	{"log", 0o755, ""},
	{"log/kedge", 0o755, ""},
	{"cache", 0o755, ""},
	{"spool", 0o755, ""},
	{"tmp", 0o777 | fs.ModeSticky, ""},
	{"home", 0o755, "/home"},
	{"opt", 0o755, "/opt"},
	{"local", 0o755, "/usr/local"},
	{"root", 0o700, "/root"},
}

// Files below /var/lib/kedge that the boot itself keeps.
const (
	stateDir      = "/var/lib/kedge"
	machineIDFile = stateDir + "/machine-id"
	seedFile      = stateDir + "/random-seed"
	clockFile     = stateDir + "/clock" // its time of change is the last time seen
)
