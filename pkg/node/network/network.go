// Package network keeps the machine's wired links configured: every cable is
// asked for an address by DHCP at the same time, links that come later are
// taken in, leases are renewed, and what follows from all of them (name
// servers, the node's address, a route when there is none) is kept up to date.
//
// It never blocks a boot: Settled tells when an address is there, and the
// caller decides how long to wait.
package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/link"
)

// Options say how the network is run; the zero value is safe.
type Options struct {
	Nameservers []string             // asked before those of the leases
	ResolvConf  string               // file to write; "" means DefaultResolvConf
	Select      func(link.Link) bool // which links are configured; nil means link.Link.Wired
	Changed     func(State)          // called after every change, one call at a time
	Log         *logrus.Logger       // nil means the standard one
}

// DefaultResolvConf is what /etc/resolv.conf links to.
const DefaultResolvConf = "/run/kedge/resolv.conf"

// A State is what the network is like now.
type State struct {
	Links    []link.Link  // those that are configured
	Leases   []link.Lease // in the order of Links
	Node     netip.Addr   // address of the Kubernetes node
	Online   bool         // there is a default route that leads somewhere
	Hostname string       // as a DHCP server gave it
	NTP      []netip.Addr
}

// Addressed reports whether any link has an address.
func (s State) Addressed() bool {
	return slices.ContainsFunc(s.Links, func(l link.Link) bool { return len(ours(l)) > 0 })
}

// A Manager runs the network. Make one with New.
type Manager struct {
	o       Options
	settled chan struct{}
	refresh chan struct{}

	mu     sync.Mutex
	state  State
	leases map[string]link.Lease
	once   sync.Once
}

// New makes a manager; Run does the work.
func New(o Options) *Manager {
	if o.ResolvConf == "" {
		o.ResolvConf = DefaultResolvConf
	}
	if o.Select == nil {
		o.Select = link.Link.Wired
	}
	if o.Changed == nil {
		o.Changed = func(State) {}
	}
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
	return &Manager{o: o, settled: make(chan struct{}), refresh: make(chan struct{}, 1), leases: map[string]link.Lease{}}
}

// Settled is closed once a link has an address.
func (m *Manager) Settled() <-chan struct{} { return m.settled }

// State returns what the network is like now.
func (m *Manager) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Run configures links until ctx ends; it leaves addresses and leases as they
// are, so that the next agent finds the machine reachable.
func (m *Manager) Run(ctx context.Context) error {
	for _, err := range []error{link.Up("lo"), link.AddDummy(Anchor), link.SetAddress(Anchor, anchorAddress, 0)} {
		if err != nil {
			m.o.Log.Warn("network: ", err)
		}
	}
	changed, err := link.Watch(ctx)
	if err != nil {
		m.o.Log.Warn("network: ", err)
	}
	clients := map[string]context.CancelFunc{}
	defer func() {
		for _, stop := range clients {
			stop()
		}
	}()
	slow := time.NewTicker(30 * time.Second) // for what a watch may miss
	defer slow.Stop()
	for {
		if err := m.look(ctx, clients); err != nil {
			m.o.Log.Warn("network: ", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changed:
			if !ok {
				changed = nil
			}
		case <-m.refresh:
		case <-slow.C:
		}
	}
}

// look starts a client for every new link, stops those of links that are gone,
// and works out what follows.
func (m *Manager) look(ctx context.Context, clients map[string]context.CancelFunc) error {
	all, err := link.List()
	if err != nil {
		return err
	}
	present := map[string]bool{}
	var chosen []link.Link
	for _, l := range all {
		if !m.o.Select(l) {
			continue
		}
		chosen = append(chosen, l)
		present[l.Name] = true
		if clients[l.Name] == nil {
			m.o.Log.Infof("network: link %s %s", l.Name, l.MAC)
			sub, stop := context.WithCancel(ctx)
			clients[l.Name] = stop
			go m.client(sub, l)
		}
	}
	for name, stop := range clients {
		if !present[name] {
			m.o.Log.Infof("network: link %s is gone", name)
			stop()
			delete(clients, name)
			m.forget(name)
		}
	}
	return m.conclude(chosen)
}

// conclude writes down what follows from the links and leases.
func (m *Manager) conclude(chosen []link.Link) error {
	routes, err := link.DefaultRoutes()
	if err != nil {
		return err
	}
	anchor := link.Route{Link: Anchor, Metric: anchorMetric, Source: anchorAddress.Addr()}
	if online(routes) {
		err = link.RemoveRoute(anchor)
	} else if !slices.ContainsFunc(routes, func(r link.Route) bool { return r.Link == Anchor }) {
		err = link.SetRoute(anchor)
	}

	m.mu.Lock()
	before := m.state
	s := State{Links: chosen, Online: online(routes), Node: nodeAddress(before.Node, chosen, routes)}
	for _, l := range chosen {
		if lease, ok := m.leases[l.Name]; ok {
			s.Leases = append(s.Leases, lease)
			s.NTP = append(s.NTP, lease.NTP...)
			if s.Hostname == "" {
				s.Hostname = lease.Hostname
			}
		}
	}
	m.state = s
	m.mu.Unlock()

	err = errors.Join(err, m.resolve(s))
	if s.Addressed() {
		m.once.Do(func() { close(m.settled) })
	}
	if !same(before, s) {
		m.o.Changed(s)
	}
	return err
}

// same tells that nothing an observer cares for has changed.
func same(a, b State) bool {
	return a.Node == b.Node && len(a.Leases) == len(b.Leases) && a.Online == b.Online && a.Hostname == b.Hostname && slices.Equal(a.NTP, b.NTP) &&
		slices.EqualFunc(a.Links, b.Links, func(x, y link.Link) bool {
			return x.Name == y.Name && x.Carrier == y.Carrier && slices.Equal(x.Addresses, y.Addresses)
		})
}

func (m *Manager) resolve(s State) error {
	text := resolvConf(m.o.Nameservers, s.Leases)
	if old, err := os.ReadFile(m.o.ResolvConf); err == nil && string(old) == text {
		return nil
	}
	return atomicfile.WriteFile(m.o.ResolvConf, []byte(text), 0o644)
}

func (m *Manager) remember(l link.Lease) {
	m.mu.Lock()
	m.leases[l.Link] = l
	m.mu.Unlock()
	m.again()
}

func (m *Manager) forget(name string) {
	m.mu.Lock()
	delete(m.leases, name)
	m.mu.Unlock()
	m.again()
}

func (m *Manager) again() {
	select {
	case m.refresh <- struct{}{}:
	default:
	}
}
