package upgrade

import (
	"fmt"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// big is a fleet in the middle of a rollout.
func big(n int) *fleet {
	f := newFleet()
	p := f.plan("p", saturday("11:00", 4*60*60*1e9, "Europe/Berlin"), saturday("11:00", 4*60*60*1e9, ""), canary, zones, checks, failing("1%", 2), func(p *planSpec) { p.MaxUnavailable = percent("5%") })
	for i := range n {
		standing := []string{"done=9h", "staged", "staged", "fetching", "notready=1h", "done=8h", "trial", "staged"}[i%8]
		if i%8 == 6 && i > 200 {
			standing = "staged"
		}
		if i%8 == 4 && i > 800 {
			standing = "done=7h"
		}
		f.nodes(fmt.Sprintf("w%05d:%s,zone=z%d", i, standing, i%7))
	}
	p.Status = Decide(f.Input).Statuses["p"]
	return f
}

// BenchmarkDecide decides about 10,000 nodes in the middle of a rollout; one
// decision may take 0.05 s.
func BenchmarkDecide(b *testing.B) {
	f := big(10000)
	d := Decide(f.Input)
	b.Logf("%d goals; %s: %s", len(d.Goals), d.Statuses["p"].Phase, d.Statuses["p"].Message)
	b.ReportAllocs()
	for b.Loop() {
		Decide(f.Input)
	}
}

// BenchmarkDecideFirst tells 10,000 nodes what to download.
func BenchmarkDecideFirst(b *testing.B) {
	f := newFleet()
	f.plan("p")
	for i := range 10000 {
		f.nodes(fmt.Sprintf("w%05d", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(f.Input); len(d.Goals) != 10000 || d.Statuses["p"].Phase != v1alpha1.PlanStaging {
			b.Fatalf("%d goals, %s", len(d.Goals), d.Statuses["p"].Phase)
		}
	}
}
