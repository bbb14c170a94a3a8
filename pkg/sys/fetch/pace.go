package fetch

import (
	"context"
	"sync"
	"time"
)

// A Pace spreads bytes over time. Several transfers may share one; the zero
// value holds nothing back.
type Pace struct {
	Rate int64 // bytes per second; 0 means no limit

	lock sync.Mutex
	next time.Time // when the bytes so far are paid for
}

// Cut shortens a buffer to what may come in an eighth of a second.
func (p *Pace) Cut(b []byte) []byte {
	if p.Rate <= 0 {
		return b
	}
	return b[:min(int64(len(b)), max(p.Rate/8, 1))]
}

// Wait returns when n more bytes may have come, or with the cause of ctx's end.
func (p *Pace) Wait(ctx context.Context, n int) error {
	if p.Rate <= 0 || n == 0 {
		return nil
	}
	p.lock.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.Rate) * float64(time.Second)))
	pause := p.next.Sub(now)
	p.lock.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
