package power

import (
	"math"
	"slices"
	"testing"
)

func TestBetween(t *testing.T) {
	for _, c := range []struct {
		name  string
		spans []span
		all   span
		gaps  []span
	}{
		{"none", nil, span{}, nil},
		{"one, from the beginning", []span{{0, 10}}, span{0, 10}, []span{{10, math.MaxUint64}}},
		{"touching", []span{{4, 10}, {10, 12}}, span{4, 12}, []span{{0, 4}, {12, math.MaxUint64}}},
		{"in any order", []span{{20, 30}, {4, 10}}, span{4, 30}, []span{{0, 4}, {10, 20}, {30, math.MaxUint64}}},
	} {
		all, gaps := between(c.spans)
		if all != c.all || !slices.Equal(gaps, c.gaps) {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, all, gaps, c.all, c.gaps)
		}
	}
}
