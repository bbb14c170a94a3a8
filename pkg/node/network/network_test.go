package network

import (
	"net/netip"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/link"
)

func wired(name string, index int, prefixes ...string) link.Link {
	l := link.Link{Name: name, Index: index}
	for _, p := range prefixes {
		l.Addresses = append(l.Addresses, netip.MustParsePrefix(p))
	}
	return l
}

func TestNodeAddress(t *testing.T) {
	eth0, eth1 := wired("eth0", 2, "192.0.2.9/24", "2001:db8::9/64"), wired("eth1", 3, "198.51.100.7/24")
	linkLocal := wired("eth2", 4, "169.254.7.7/16")
	for _, c := range []struct {
		name   string
		before string
		links  []link.Link
		routes []link.Route
		want   string
	}{
		{"nothing: the anchor", "", nil, nil, "198.18.0.1"},
		{"link-local is nothing", "", []link.Link{linkLocal}, nil, "198.18.0.1"},
		{"the only one", "", []link.Link{eth0}, nil, "192.0.2.9"},
		{"the one with the route", "", []link.Link{eth0, eth1}, []link.Route{{Link: "eth1", Metric: 103}}, "198.51.100.7"},
		{"the one with the best route", "", []link.Link{eth0, eth1}, []link.Route{{Link: "eth1", Metric: 103}, {Link: "eth0", Metric: 102}}, "192.0.2.9"},
		{"a route without an address does not count", "", []link.Link{linkLocal, eth1}, []link.Route{{Link: "eth2"}, {Link: Anchor, Metric: 9}}, "198.51.100.7"},
		{"what it was is kept", "198.51.100.7", []link.Link{eth0, eth1}, []link.Route{{Link: "eth0", Metric: 102}}, "198.51.100.7"},
		{"what it was is gone", "198.51.100.99", []link.Link{eth0}, nil, "192.0.2.9"},
	} {
		before, _ := netip.ParseAddr(c.before)
		if got := nodeAddress(before, c.links, c.routes); got.String() != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

func TestResolvConf(t *testing.T) {
	const head = "# Written by the Kedge agent; kedge.dns_nameservers changes it.\n"
	a, b := netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("192.0.2.54")
	for _, c := range []struct {
		name       string
		configured []string
		leases     []link.Lease
		want       string
	}{
		{"none", nil, nil, "nameserver 198.18.0.1\n"},
		{"of a lease", nil, []link.Lease{{DNS: []netip.Addr{a}, Domain: "example"}}, "search example\nnameserver 192.0.2.53\n"},
		{"search beats domain", nil, []link.Lease{{DNS: []netip.Addr{a}, Domain: "x", Search: []string{"a", "b"}}}, "search a b\nnameserver 192.0.2.53\n"},
		{"configured first, none twice, at most three", []string{"9.9.9.9", "192.0.2.53"}, []link.Lease{{DNS: []netip.Addr{a, b}}, {DNS: []netip.Addr{b.Next()}}},
			"nameserver 9.9.9.9\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n"},
	} {
		if got := resolvConf(c.configured, c.leases); got != head+c.want {
			t.Errorf("%s:\n%swant:\n%s", c.name, got, head+c.want)
		}
	}
}

func TestNext(t *testing.T) {
	start := time.Now()
	lease := link.Lease{Obtained: start, Duration: 8 * time.Hour, Renew: 4 * time.Hour, Rebind: 7 * time.Hour}
	for _, c := range []struct {
		age   time.Duration
		what  move
		delay time.Duration
	}{
		{0, wait, 4 * time.Hour},
		{3 * time.Hour, wait, time.Hour},
		{4 * time.Hour, extend, 90 * time.Minute},
		{6*time.Hour + 59*time.Minute, extend, time.Minute},
		{7*time.Hour - time.Second, extend, time.Second},
		{7 * time.Hour, rebind, 30 * time.Minute},
		{8 * time.Hour, drop, 0},
		{9 * time.Hour, drop, 0},
	} {
		if what, delay := next(lease, start.Add(c.age)); what != c.what || delay != c.delay {
			t.Errorf("after %v: %v %v, want %v %v", c.age, what, delay, c.what, c.delay)
		}
	}
}
