package update

import (
	"fmt"
	"time"
)

// A Probation follows what is on trial, look by look, to its end. The zero value
// begins with the first look.
type Probation struct {
	begun time.Time
	well  time.Time // since when; zero when it is not
}

// Look notes what is wrong at a time, "" when nothing is. It is over when all was
// well for as long as steady, then with no reason; or when something is wrong and
// limit has passed since it began.
func (p *Probation) Look(now time.Time, wrong string, steady, limit time.Duration) (over bool, reason string) {
	if p.begun.IsZero() {
		p.begun = now
	}
	switch {
	case wrong != "":
		p.well = time.Time{}
	case p.well.IsZero():
		p.well = now
	}
	switch {
	case !p.well.IsZero() && now.Sub(p.well) >= steady:
		return true, ""
	case wrong != "" && now.Sub(p.begun) > limit:
		return true, fmt.Sprintf("not healthy within %v: %s", limit, wrong)
	}
	return false, ""
}
