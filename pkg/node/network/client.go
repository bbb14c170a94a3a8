package network

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/link"
)

// client keeps one link addressed until ctx ends or the link is gone.
func (m *Manager) client(ctx context.Context, l link.Link) {
	log := m.o.Log.WithField("link", l.Name)
	if err := link.Up(l.Name); err != nil {
		log.Warn("network: ", err)
		return
	}
	delay := time.Second
	for ctx.Err() == nil {
		if err := link.WaitCarrier(ctx, l.Name); err != nil {
			return // the link or the agent is going
		}
		lease, err := link.Acquire(ctx, l.Name, m.request())
		if err == nil {
			err = lease.Apply(metric(l))
		}
		if err != nil {
			if ctx.Err() == nil {
				log.Warn("network: ", err)
			}
			sleep(ctx, delay)
			delay = min(2*delay, 30*time.Second)
			continue
		}
		delay = time.Second
		log.Infof("network: address %s for %s from %s, routes %v", lease.Address, lease.Duration, lease.Server, lease.Table(metric(l)))
		m.remember(lease)
		m.hold(ctx, lease, metric(l))
	}
}

func (m *Manager) request() link.Request {
	name, err := os.Hostname()
	if err != nil || name == "(none)" {
		name = ""
	}
	return link.Request{Hostname: name}
}

// hold renews a lease for as long as it can be had, then takes the address off
// the link.
func (m *Manager) hold(ctx context.Context, l link.Lease, metric int) {
	log := m.o.Log.WithField("link", l.Link)
	for {
		what, delay := next(l, time.Now())
		var fresh link.Lease
		var err error
		switch what {
		case wait:
			if m.pause(ctx, l.Link, delay) {
				fresh, err = link.Acquire(ctx, l.Link, m.request()) // perhaps another network
			} else if ctx.Err() != nil {
				return
			} else {
				continue
			}
		case extend:
			fresh, err = l.Extend(ctx, m.request())
		case rebind:
			fresh, err = link.Acquire(ctx, l.Link, m.request())
		case drop:
			err = link.ErrRefused
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, link.ErrRefused):
			log.Warnf("network: address %s is lost: %v", l.Address, err)
			m.giveUp(l)
			return
		case err != nil:
			log.Warn("network: ", err)
			m.pause(ctx, l.Link, max(delay, time.Second))
		default:
			if l, err = m.replace(l, fresh, metric); err != nil {
				log.Warn("network: ", err)
			}
		}
	}
}

// replace puts a fresh lease in the place of the old one.
func (m *Manager) replace(old, fresh link.Lease, metric int) (link.Lease, error) {
	err := fresh.Apply(metric)
	if old.Address != fresh.Address {
		err = errors.Join(err, old.Withdraw())
	}
	m.remember(fresh)
	return fresh, err
}

func (m *Manager) giveUp(l link.Lease) {
	if err := l.Withdraw(); err != nil {
		m.o.Log.Warn("network: ", err)
	}
	m.forget(l.Link)
}

// pause waits for the time to pass and reports at once when the link got its
// carrier back after it was lost.
func (m *Manager) pause(ctx context.Context, name string, d time.Duration) (replugged bool) {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	lost := false
	for {
		select {
		case <-ctx.Done():
			return false
		case <-end.C:
			return false
		case <-tick.C:
			l, err := link.Get(name)
			if err == nil && l.Carrier && lost {
				return true
			}
			lost = lost || err == nil && !l.Carrier
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
