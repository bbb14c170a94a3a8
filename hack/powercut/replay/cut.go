package replay

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// A Manner says what of the unflushed writes had arrived.
type Manner string

// The manners of a cut.
const (
	Boundary Manner = "boundary" // right after a flush: nothing is open
	Prefix   Manner = "prefix"   // all writes before a moment, in order
	Subset   Manner = "subset"   // some of them: reordered, or dropped
	Torn     Manner = "torn"     // some of them, and some of these in part
	Blind    Manner = "blind"    // negative control: as if nothing had been flushed for a while
)

// A Cut is a moment at which the power goes away. It is made from a seed and
// its number alone.
type Cut struct {
	Number int
	Manner Manner
	From   int // events before it are on the disk
	At     int // events from it on have not happened
	seed   uint64
}

func (c Cut) String() string {
	return fmt.Sprintf("cut %d: %s, events %d to %d", c.Number, c.Manner, c.From, c.At)
}

// A Phase is a part of a recording that gets its share of cuts: the events from
// From on and before To.
type Phase struct {
	Name     string
	From, To int
}

// A Cutter makes cuts. Every phase gets as many as the others.
type Cutter struct {
	Seed   uint64
	Blind  bool // only cuts that forget what was flushed
	log    *Log
	phases []Phase
	starts []int // index after each flush, with 0
}

// NewCutter returns the cutter of a log. Phases that are empty are left out;
// without any the whole log is one.
func NewCutter(l *Log, seed uint64, phases []Phase) *Cutter {
	c := &Cutter{Seed: seed, log: l, starts: []int{0}}
	for _, p := range phases {
		p.From, p.To = max(p.From, 0), min(p.To, len(l.Events))
		if p.From < p.To {
			c.phases = append(c.phases, p)
		}
	}
	if len(c.phases) == 0 {
		c.phases = []Phase{{"all", 0, len(l.Events)}}
	}
	for n, e := range l.Events {
		if e.Kind == Flush {
			c.starts = append(c.starts, n+1)
		}
	}
	return c
}

// Cuts returns n cuts in the order of From, which a Disk can follow. The first
// quarter of the numbers walks over the flushes in even steps.
func (c *Cutter) Cuts(n int) []Cut {
	cuts := make([]Cut, n)
	for i := range cuts {
		cuts[i] = c.cut(i, n)
	}
	slices.SortStableFunc(cuts, func(a, b Cut) int { return a.From - b.From })
	return cuts
}

// blindWindow is how many events a cut of the negative control forgets at most.
const blindWindow = 400

func (c *Cutter) cut(number, n int) Cut {
	r := rand.New(rand.NewPCG(c.Seed, uint64(number)))
	cut := Cut{Number: number, seed: r.Uint64()}
	phase := c.phases[number%len(c.phases)]
	switch quarter := n / 4; {
	case c.Blind:
		cut.Manner = Blind
		cut.At = phase.From + 1 + r.IntN(phase.To-phase.From)
		cut.From = max(0, cut.At-1-r.IntN(blindWindow))
		return cut
	case number < quarter:
		cut.Manner = Boundary
		cut.From = c.boundary(phase, number/len(c.phases), quarter/len(c.phases)+1)
		cut.At = cut.From
		return cut
	}
	cut.Manner = []Manner{Prefix, Subset, Torn}[r.IntN(3)]
	cut.At = c.moment(phase, r)
	cut.From = c.start(cut.At)
	return cut
}

// boundary returns the flush number i of n that are spread over a phase.
func (c *Cutter) boundary(p Phase, i, n int) int {
	from, _ := slices.BinarySearch(c.starts, p.From)
	to, _ := slices.BinarySearch(c.starts, p.To+1)
	if from == to { // no flush in it
		return c.starts[max(from-1, 0)]
	}
	if n > to-from {
		return c.starts[from+i%(to-from)]
	}
	return c.starts[from+i*(to-from)/n]
}

// moment returns the end of a random event of the phase: every second time of
// any, else of any epoch, so that a long one does not get all.
func (c *Cutter) moment(p Phase, r *rand.Rand) int {
	from, to := p.From, p.To
	if r.IntN(2) == 0 {
		first, _ := slices.BinarySearch(c.starts, from)
		last, _ := slices.BinarySearch(c.starts, to)
		if first < last {
			n := first + r.IntN(last-first)
			from = c.starts[n]
			if n+1 < len(c.starts) {
				to = min(to, c.starts[n+1]-1) // without the flush itself
			}
		}
	}
	if from >= to {
		return from
	}
	return from + 1 + r.IntN(to-from)
}

// start returns where the epoch begins in which event at is the next: after the
// last flush before it.
func (c *Cutter) start(at int) int {
	n, found := slices.BinarySearch(c.starts, at)
	if !found {
		n--
	}
	return c.starts[n]
}

// Apply returns what the cut leaves of a disk that is at its From.
func (c Cut) Apply(d *Disk) (*Image, error) {
	if d.at != c.From {
		return nil, fmt.Errorf("%s: the disk is at event %d", c, d.at)
	}
	r := rand.New(rand.NewPCG(c.seed, 1))
	i := d.Image()
	open := d.Log.Events[c.From:c.At]
	// How many are kept, and torn, differs from cut to cut; with one number for
	// all, long epochs would all look alike.
	keep := []float64{0, 0.1, 0.5, 0.9, 1}[r.IntN(5)]
	tear := []float64{0, 0.3, 1}[r.IntN(3)]
	for n, e := range open {
		last := n == len(open)-1
		sure := e.FUA && !last && c.Manner != Blind // the last one was not confirmed yet
		switch {
		case e.Kind == Flush:
		case c.Manner == Prefix || sure:
			i.put(e, nil)
		case c.Manner == Torn && (last || r.Float64() < tear):
			i.put(e, tornBy(r, e.Count))
		case r.Float64() < keep:
			i.put(e, nil)
		}
	}
	return i, nil
}

// tornBy returns which sectors of a torn write arrived: its first ones, its
// last ones, or any.
func tornBy(r *rand.Rand, count uint32) func(uint32) bool {
	edge := r.Uint32N(count + 1)
	switch r.IntN(3) {
	case 0:
		return func(n uint32) bool { return n < edge }
	case 1:
		return func(n uint32) bool { return n >= edge }
	}
	return func(uint32) bool { return r.IntN(2) == 0 }
}
