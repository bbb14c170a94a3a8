package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a decision must not depend on the files of a machine

	"github.com/robfig/cron/v3"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// maxWindow bounds the duration of a window.
const maxWindow = 168 * time.Hour

// A window begins at the times of a schedule, which reads the wall clock of a
// zone, and lasts for a time that really passes.
type window struct {
	schedule cron.Schedule // on a clock that never changes
	zone     *time.Location
	duration time.Duration
}

var fields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// parseWindow reads a window; an error says what of it cannot be followed.
func parseWindow(w v1alpha1.Window) (window, error) {
	line := w.Cron
	if line == "" {
		start, err := time.Parse("15:04", w.Start)
		if err != nil {
			return window{}, fmt.Errorf("start %q: a time of day such as 02:00 is meant", w.Start)
		}
		days := "*"
		if len(w.Days) > 0 {
			names := make([]string, len(w.Days))
			for i, d := range w.Days {
				names[i] = string(d)
			}
			days = strings.Join(names, ",")
		}
		line = fmt.Sprintf("%d %d * * %s", start.Minute(), start.Hour(), days)
	} else if w.Start != "" || len(w.Days) > 0 {
		return window{}, fmt.Errorf("cron %q: days and start do not go with it", w.Cron)
	}
	if strings.Contains(line, "TZ=") {
		return window{}, fmt.Errorf("cron %q: the zone belongs in timeZone", w.Cron)
	}
	schedule, err := fields.Parse(line)
	if err != nil {
		return window{}, fmt.Errorf("cron %q: %w", line, err)
	}
	// A schedule without a zone of its own takes that of the times it is asked for.
	schedule.(*cron.SpecSchedule).Location = time.UTC
	if schedule.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return window{}, fmt.Errorf("cron %q: there is no such day", line)
	}
	if w.TimeZone == "Local" {
		return window{}, fmt.Errorf("time zone %q: a name such as Europe/Berlin is meant", w.TimeZone)
	}
	zone, err := time.LoadLocation(w.TimeZone)
	if err != nil {
		return window{}, fmt.Errorf("time zone %q: a name such as Europe/Berlin is meant", w.TimeZone)
	}
	if d := w.Duration.Duration; d < time.Minute || d > maxWindow {
		return window{}, fmt.Errorf("duration %s: it must be from 1m to 168h", d)
	}
	return window{schedule, zone, w.Duration.Duration}, nil
}

// wall returns what the clock on the wall of the zone shows, as a UTC time.
func (w window) wall(t time.Time) time.Time {
	t = t.In(w.zone)
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// instant returns when the clock on the wall shows a time: the first time if it
// does twice, and if it never does, the time after the gap that is as far from
// its beginning.
func (w window) instant(wall time.Time) time.Time {
	at := func(offset int) (time.Time, bool) {
		t := wall.Add(-time.Duration(offset) * time.Second)
		return t, w.wall(t).Equal(wall)
	}
	// The offsets of the day before and after: a change lies between them, or they
	// are the same.
	_, before := wall.Add(-26 * time.Hour).In(w.zone).Zone()
	_, after := wall.Add(26 * time.Hour).In(w.zone).Zone()
	first, ok := at(max(before, after)) // the greater offset is the earlier time
	if ok {
		return first
	}
	last, ok := at(min(before, after))
	if ok {
		return last
	}
	t, _ := at(before)
	return t
}

// at returns the end of the window that is open at a time, if one is, and when
// the next begins.
func (w window) at(now time.Time) (end, next time.Time) {
	const shift = 3 * time.Hour // more than clocks are ever changed by
	last := w.wall(now.Add(shift))
	for wall := w.wall(now.Add(-w.duration - shift)); ; {
		// What stands later on the wall can be earlier, when clocks go forward.
		wall = w.schedule.Next(wall)
		if wall.IsZero() || wall.After(last) && !next.IsZero() {
			return end, next
		}
		start := w.instant(wall)
		if start.After(now) {
			if next.IsZero() || start.Before(next) {
				next = start
			}
		} else if e := start.Add(w.duration); e.After(now) && e.After(end) {
			end = e
		}
	}
}

// windows are those of a plan; without one it is always open.
type windows []window

// at returns whether a window is open, when that ends, and when the next one
// begins, in its own zone; zero for never.
func (ws windows) at(now time.Time) (open bool, end, next time.Time) {
	if len(ws) == 0 {
		return true, time.Time{}, time.Time{}
	}
	for _, w := range ws {
		e, n := w.at(now)
		if e.After(end) {
			end = e
		}
		if !n.IsZero() && (next.IsZero() || n.Before(next)) {
			next = n.In(w.zone)
		}
	}
	return !end.IsZero(), end, next
}

// parseWindows reads the windows of a plan.
func parseWindows(specs []v1alpha1.Window) (windows, error) {
	var out windows
	for i, spec := range specs {
		w, err := parseWindow(spec)
		if err != nil {
			return nil, fmt.Errorf("windows[%d]: %w", i, err)
		}
		out = append(out, w)
	}
	return slices.Clip(out), nil
}

// roughly says a duration so that the text of a long wait seldom changes.
func roughly(d time.Duration) string {
	up := func(unit time.Duration) int { return int((d + unit - 1) / unit) }
	switch {
	case d > 48*time.Hour:
		return fmt.Sprintf("%dd", up(24*time.Hour))
	case d > 6*time.Hour:
		return fmt.Sprintf("%dh", up(time.Hour))
	case d > time.Hour:
		h, m := up(30*time.Minute)/2, up(30*time.Minute)%2*30
		if m == 0 {
			return fmt.Sprintf("%dh", h)
		}
		return fmt.Sprintf("%dh%dm", h, m)
	case d > 10*time.Minute:
		return fmt.Sprintf("%dm", up(10*time.Minute)*10)
	}
	return fmt.Sprintf("%dm", max(1, up(time.Minute)))
}

// clock says a time for people, in the zone that it has.
func clock(t time.Time) string { return t.Format("Mon 15:04 ") + t.Location().String() }
