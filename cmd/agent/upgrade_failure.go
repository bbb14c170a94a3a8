package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// failureFile keeps why the last image that was to be staged was not taken. It is
// only told: nothing is decided by it.
const failureFile = "/var/lib/kedge/upgrade-failure.json"

// A failure is why an image was not taken.
type failure struct {
	Image  string    `json:"image"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// noteFailure keeps why the image that a command line names is not staged; one
// that may be staged ends the failure before. What says nothing about
// the image or the way to it leaves all as it is.
func noteFailure(path string, args []string, err error, now time.Time) {
	switch {
	case len(args) != 2, errors.As(err, new(cli.Usage)):
	case errors.Is(err, context.Canceled), errors.Is(err, update.ErrBusy), errors.Is(err, update.ErrSame):
	case err == nil:
		_ = os.Remove(path) // mostly there is none
	default:
		b, _ := json.Marshal(failure{args[1], err.Error(), now.UTC()}) // strings and a time always have a JSON form
		_ = atomicfile.WriteFile(path, append(b, '\n'), 0o600)         // the command tells the error itself
	}
}

// failureText says why the last image was not taken, "" when it was.
func failureText(path string) string {
	var f failure
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &f) != nil || f.Reason == "" {
		return ""
	}
	return fmt.Sprintf("%s was not taken, %s: %s", f.Image, f.Time.Format(time.DateTime), f.Reason)
}
