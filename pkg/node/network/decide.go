package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/link"
)

// The anchor is a link that always has an address, so that a machine with no
// network at all still has a node address and a route for its Services.
const (
	Anchor       = "kedge0"
	anchorMetric = 4294967
)

var anchorAddress = netip.MustParsePrefix("198.18.0.1/32") // RFC 2544: never routed

// metric of the default route of a link: cables first, in the order in which
// the kernel found them.
func metric(l link.Link) int { return 100 + l.Index }

// ours are the IPv4 addresses that other machines may know us by.
func ours(l link.Link) []netip.Addr {
	var out []netip.Addr
	for _, p := range l.Addresses {
		if a := p.Addr(); a.Is4() && a.IsGlobalUnicast() && !a.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	return out
}

// nodeAddress chooses the address of the Kubernetes node: the one it had if
// that is still there, else that of the link with the best default route, else
// the first of any wired link, else the anchor's.
func nodeAddress(before netip.Addr, wired []link.Link, routes []link.Route) netip.Addr {
	var all []netip.Addr
	byLink := map[string][]netip.Addr{}
	for _, l := range wired {
		byLink[l.Name] = ours(l)
		all = append(all, byLink[l.Name]...)
	}
	if slices.Contains(all, before) {
		return before
	}
	routes = slices.Clone(routes)
	slices.SortStableFunc(routes, func(a, b link.Route) int { return a.Metric - b.Metric })
	for _, r := range routes {
		if addresses := byLink[r.Link]; len(addresses) > 0 {
			return addresses[0]
		}
	}
	if len(all) > 0 {
		return all[0]
	}
	return anchorAddress.Addr()
}

// online tells whether packets to elsewhere have a way out.
func online(routes []link.Route) bool {
	return slices.ContainsFunc(routes, func(r link.Route) bool { return r.Link != Anchor })
}

// resolvers are as many as the C library asks.
const resolvers = 3

// resolvConf writes the name servers: those of the configuration first, then
// those of the leases. With none it names the anchor, which refuses at once:
// programs that insist on a name server start, and lookups fail fast.
func resolvConf(configured []string, leases []link.Lease) string {
	servers := slices.Clone(configured)
	var search []string
	for _, l := range leases {
		for _, a := range l.DNS {
			servers = append(servers, a.String())
		}
		search = append(search, l.Search...)
		if len(l.Search) == 0 && l.Domain != "" {
			search = append(search, l.Domain)
		}
	}
	servers, search = unique(servers), unique(search)
	if len(servers) == 0 {
		servers = []string{anchorAddress.Addr().String()}
	}
	var b strings.Builder
	b.WriteString("# Written by the Kedge agent; kedge.dns_nameservers changes it.\n")
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	for _, s := range servers[:min(len(servers), resolvers)] {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return b.String()
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// A move is what to do about a lease next.
type move int

const (
	wait   move = iota // nothing yet
	extend             // ask its server for more time
	rebind             // ask any server
	drop               // it is over
)

// next says what to do about a lease at a moment, and how long to wait before
// looking again (RFC 2131, section 4.4.5).
func next(l link.Lease, now time.Time) (move, time.Duration) {
	const least = time.Minute
	age := now.Sub(l.Obtained)
	again := func(until time.Duration) time.Duration {
		return min(max((until-age)/2, least), max(until-age, time.Second))
	}
	switch {
	case age >= l.Duration:
		return drop, 0
	case age >= l.Rebind:
		return rebind, again(l.Duration)
	case age >= l.Renew:
		return extend, again(l.Rebind)
	}
	return wait, l.Renew - age
}
