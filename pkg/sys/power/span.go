package power

import (
	"cmp"
	"math"
	"slices"
)

// A span is a range of physical addresses, in bytes; end is not in it.
type span struct{ start, end uint64 }

// between returns the span from the first to the last of some that do not
// overlap, and all that lies outside them.
func between(spans []span) (all span, gaps []span) {
	if len(spans) == 0 {
		return span{}, nil
	}
	spans = slices.SortedFunc(slices.Values(spans), func(a, b span) int { return cmp.Compare(a.start, b.start) })
	next := uint64(0)
	for _, s := range spans {
		if s.start > next {
			gaps = append(gaps, span{next, s.start})
		}
		next = s.end
	}
	return span{spans[0].start, next}, append(gaps, span{next, math.MaxUint64})
}
