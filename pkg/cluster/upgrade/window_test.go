package upgrade

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

func TestWindow(t *testing.T) {
	const form = "2006-01-02 15:04:05"
	nightly := v1alpha1.Window{Cron: "30 2 * * *", TimeZone: "Europe/Berlin", Duration: metav1.Duration{Duration: 2 * time.Hour}}
	hour := metav1.Duration{Duration: time.Hour}
	for _, c := range []struct {
		name           string
		window         v1alpha1.Window
		now, end, next string // UTC; "" for no end
	}{
		{"winter", nightly, "2026-01-10 01:00:00", "", "2026-01-10 01:30:00"},
		{"its first second", nightly, "2026-01-10 01:30:00", "2026-01-10 03:30:00", "2026-01-11 01:30:00"},
		{"its last second", nightly, "2026-01-10 03:29:59", "2026-01-10 03:30:00", "2026-01-11 01:30:00"},
		{"over", nightly, "2026-01-10 03:30:00", "", "2026-01-11 01:30:00"},
		{"summer", nightly, "2026-07-10 00:29:59", "", "2026-07-10 00:30:00"},
		// Clocks go forward on 2026-03-29 at 01:00 UTC: there is no 02:30.
		{"a beginning that does not exist is an hour later", nightly, "2026-03-29 00:45:00", "", "2026-03-29 01:30:00"},
		{"the window of that night is open", nightly, "2026-03-29 03:29:00", "2026-03-29 03:30:00", "2026-03-30 00:30:00"},
		{"a window over the change keeps its length", v1alpha1.Window{Cron: "30 1 * * *", TimeZone: "Europe/Berlin", Duration: metav1.Duration{Duration: 2 * time.Hour}}, "2026-03-29 02:29:00", "2026-03-29 02:30:00", "2026-03-29 23:30:00"},
		{"a later line can be earlier", v1alpha1.Window{Cron: "30 2,3 * * *", TimeZone: "Europe/Berlin", Duration: hour}, "2026-03-29 01:10:00", "", "2026-03-29 01:30:00"},
		{"a start in the gap and one after it", v1alpha1.Window{Cron: "0,45 2,3 * * *", TimeZone: "Europe/Berlin", Duration: metav1.Duration{Duration: 10 * time.Minute}}, "2026-03-29 01:05:00", "2026-03-29 01:10:00", "2026-03-29 01:45:00"},
		// Clocks go back on 2026-10-25 at 01:00 UTC: 02:30 comes at 00:30 and 01:30.
		{"of a beginning that comes twice, the first counts", nightly, "2026-10-25 00:31:00", "2026-10-25 02:30:00", "2026-10-26 01:30:00"},
		{"the second is none", v1alpha1.Window{Cron: "30 2 * * *", TimeZone: "Europe/Berlin", Duration: metav1.Duration{Duration: 30 * time.Minute}}, "2026-10-25 01:35:00", "", "2026-10-26 01:30:00"},
		{"midnight that does not exist", v1alpha1.Window{Start: "00:00", TimeZone: "America/Santiago", Duration: hour}, "2026-09-06 04:30:00", "2026-09-06 05:00:00", "2026-09-07 03:00:00"},
		{"a zone of half hours", v1alpha1.Window{Start: "02:00", TimeZone: "Australia/Lord_Howe", Duration: hour}, "2026-10-03 15:40:00", "2026-10-03 16:30:00", "2026-10-04 15:00:00"},
		{"days", v1alpha1.Window{Days: []v1alpha1.Weekday{"Sat", "Sun"}, Start: "02:00", Duration: hour}, "2026-11-20 12:00:00", "", "2026-11-21 02:00:00"},
		{"days of a window that ends on another day", v1alpha1.Window{Days: []v1alpha1.Weekday{"Sat"}, Start: "23:30", Duration: metav1.Duration{Duration: 4 * time.Hour}}, "2026-11-22 03:00:00", "2026-11-22 03:30:00", "2026-11-28 23:30:00"},
		{"windows that overlap are one", v1alpha1.Window{Cron: "0 * * * *", Duration: metav1.Duration{Duration: 90 * time.Minute}}, "2026-11-21 12:10:00", "2026-11-21 13:30:00", "2026-11-21 13:00:00"},
		{"a leap day", v1alpha1.Window{Cron: "0 0 29 2 *", Duration: hour}, "2026-11-21 12:00:00", "", "2028-02-29 00:00:00"},
		{"a week is open for a week", v1alpha1.Window{Cron: "0 0 * * 1", Duration: metav1.Duration{Duration: 168 * time.Hour}}, "2026-11-21 12:00:00", "2026-11-23 00:00:00", "2026-11-23 00:00:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := parseWindow(c.window)
			if err != nil {
				t.Fatal(err)
			}
			now, err := time.Parse(form, c.now)
			if err != nil {
				t.Fatal(err)
			}
			end, next := w.at(now)
			got := ""
			if !end.IsZero() {
				got = end.UTC().Format(form)
			}
			if got != c.end || next.UTC().Format(form) != c.next {
				t.Errorf("at %s: end %q, next %s; want %q, %s", c.now, got, next.UTC().Format(form), c.end, c.next)
			}
		})
	}
}

// TestWindowFollowsTheWall compares windows with the wall clock, every five minutes,
// over both changes of a year.
func TestWindowFollowsTheWall(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"} {
		w, err := parseWindow(v1alpha1.Window{Start: "02:15", TimeZone: zone, Duration: metav1.Duration{Duration: 95 * time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range []time.Time{time.Date(2026, 3, 6, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 2, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 31, 0, 0, 0, 0, time.UTC)} {
			open, opened := 0, 0
			was := false
			for now := from; now.Before(from.Add(72 * time.Hour)); now = now.Add(5 * time.Minute) {
				end, next := w.at(now)
				is := !end.IsZero()
				if is && !was {
					opened++
					// It opens at 02:15, or where there is none, before 04:00.
					if l := now.In(w.zone); now != from && (l.Hour()*60+l.Minute() < 2*60+15 || l.Hour() > 3) {
						t.Errorf("%s: opens at %s", zone, l)
					}
				}
				if is {
					open += 5
				}
				if !next.After(now) {
					t.Fatalf("%s: at %s the next window is %s", zone, now, next)
				}
				was = is
			}
			if open != 3*95 && from.Month() != 3 || opened < 3 || opened > 4 {
				t.Errorf("%s from %s: open for %d minutes, %d times, in three days", zone, from, open, opened)
			}
		}
	}
}

func TestRoughly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "1m", 9*time.Minute + time.Second: "10m", 11 * time.Minute: "20m", time.Hour: "60m",
		61 * time.Minute: "1h30m", 2 * time.Hour: "2h", 7*time.Hour + time.Minute: "8h", 48 * time.Hour: "48h", 49 * time.Hour: "3d", -time.Hour: "1m",
	} {
		if got := roughly(d); got != want {
			t.Errorf("roughly(%s) = %s, want %s", d, got, want)
		}
	}
}
