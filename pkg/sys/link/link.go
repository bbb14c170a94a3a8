// Package link works on the network links of the running kernel: it lists
// them, brings them up, sets addresses and routes, watches for changes and
// takes IPv4 addresses from DHCP servers.
//
// It holds no policy: which link is configured, when a lease is renewed and
// what to do with its name servers is decided by pkg/node/network. Metrics are
// the kernel's: the lower one wins.
//
// Sources: rtnetlink(7); RFC 2131, 2132 and 3442 for DHCP.
package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// A Link is one network interface as the kernel shows it now.
type Link struct {
	Index     int
	Name      string
	Type      string // the kernel's kind: "device" for hardware, else "veth", "bridge", …
	MAC       net.HardwareAddr
	MTU       int // bytes
	Up        bool
	Carrier   bool // a cable is plugged in and the other side answers
	Loopback  bool
	Enslaved  bool // part of a bridge or bond
	Physical  bool // stands for a device on a bus
	Wireless  bool
	Addresses []netip.Prefix
}

// Wired reports whether l is an Ethernet port of the machine, free to be
// configured: no loopback, veth, bridge, dummy, tunnel or wireless link.
func (l Link) Wired() bool {
	return l.Type == "device" && l.Physical && !l.Wireless && !l.Loopback && !l.Enslaved && len(l.MAC) == 6
}

// List returns all links in the order of their index.
func List() ([]Link, error) {
	found, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	links := make([]Link, 0, len(found))
	for _, f := range found {
		l, err := describe(f)
		if err != nil && !errors.Is(err, syscall.ENODEV) {
			return nil, err
		}
		if err == nil {
			links = append(links, l)
		}
	}
	return links, nil
}

// Wired returns the wired links; see Link.Wired.
func Wired() ([]Link, error) {
	all, err := List()
	if err != nil {
		return nil, err
	}
	var wired []Link
	for _, l := range all {
		if l.Wired() {
			wired = append(wired, l)
		}
	}
	return wired, nil
}

// Get returns the link of this name.
func Get(name string) (Link, error) {
	l, err := byName(name)
	if err != nil {
		return Link{}, err
	}
	return describe(l)
}

func byName(name string) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	return l, nil
}

func describe(f netlink.Link) (Link, error) {
	a := f.Attrs()
	addresses, err := netlink.AddrList(f, netlink.FAMILY_ALL)
	if err != nil {
		return Link{}, fmt.Errorf("list addresses of %s: %w", a.Name, err)
	}
	l := Link{
		Index: a.Index, Name: a.Name, Type: f.Type(), MAC: a.HardwareAddr, MTU: a.MTU,
		Up: a.Flags&net.FlagUp != 0, Carrier: a.RawFlags&syscall.IFF_RUNNING != 0,
		Loopback: a.Flags&net.FlagLoopback != 0, Enslaved: a.MasterIndex != 0,
		Physical: inSysfs(a.Name, "device"), Wireless: inSysfs(a.Name, "wireless") || inSysfs(a.Name, "phy80211"),
	}
	for _, addr := range addresses {
		if p, ok := prefix(addr.IPNet); ok {
			l.Addresses = append(l.Addresses, p)
		}
	}
	return l, nil
}

func inSysfs(name, attribute string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name, attribute))
	return err == nil
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones), ok
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Up switches the link on. It is no error when it is on already.
func Up(name string) error {
	l, err := byName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("switch on %s: %w", name, err)
	}
	return nil
}

// SetMTU sets the greatest packet size of the link in bytes.
func SetMTU(name string, bytes int) error {
	l, err := byName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(l, bytes); err != nil {
		return fmt.Errorf("set MTU of %s to %d: %w", name, bytes, err)
	}
	return nil
}

// AddDummy makes a link that leads nowhere and switches it on: a dummy link, or
// a bridge without ports where the kernel has no dummy driver. It is no error
// when a link of this name is there.
func AddDummy(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
	if errors.Is(err, syscall.EOPNOTSUPP) {
		err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	}
	if err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("add dummy link %s: %w", name, err)
	}
	return Up(name)
}

// Remove takes a link that we made away. It is no error when it is not there.
func Remove(name string) error {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

// SetAddress adds an address to a link, or renews the time it is valid for;
// 0 means for ever.
func SetAddress(name string, p netip.Prefix, valid time.Duration) error {
	l, err := byName(name)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: ipNet(p)}
	if valid > 0 {
		a.ValidLft, a.PreferedLft = int(valid.Seconds()), int(valid.Seconds())
	}
	if err := netlink.AddrReplace(l, a); err != nil {
		return fmt.Errorf("set address %s on %s: %w", p, name, err)
	}
	return nil
}

// RemoveAddress takes an address off a link. It is no error when it is not
// there.
func RemoveAddress(name string, p netip.Prefix) error {
	l, err := byName(name)
	if err != nil {
		return err
	}
	if err := netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from %s: %w", p, name, err)
	}
	return nil
}

// A Route says through which link and router packets to a destination go.
type Route struct {
	Link        string
	Destination netip.Prefix // zero: the default route, IPv4
	Gateway     netip.Addr   // zero: the destination is on the link
	Source      netip.Addr   // zero: the kernel chooses
	Metric      int
}

func (r Route) String() string {
	s := "default"
	if r.Destination.IsValid() && r.Destination.Bits() > 0 {
		s = r.Destination.String()
	}
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	return fmt.Sprintf("%s dev %s metric %d", s, r.Link, r.Metric)
}

func (r Route) kernel() (*netlink.Route, error) {
	l, err := byName(r.Link)
	if err != nil {
		return nil, err
	}
	if !r.Destination.IsValid() {
		r.Destination = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	k := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(r.Destination), Priority: r.Metric}
	if r.Source.IsValid() {
		k.Src = r.Source.AsSlice()
	}
	if r.Gateway.IsValid() {
		k.Gw = r.Gateway.AsSlice()
		k.Flags = int(netlink.FLAG_ONLINK) // a /32 lease has its router outside its own network
	} else {
		k.Scope = netlink.SCOPE_LINK
	}
	return k, nil
}

// SetRoute adds a route or replaces the one with the same destination and
// metric.
func SetRoute(r Route) error {
	k, err := r.kernel()
	if err == nil {
		err = netlink.RouteReplace(k)
	}
	if err != nil {
		return fmt.Errorf("set route %s: %w", r, err)
	}
	return nil
}

// RemoveRoute takes a route away. It is no error when it is not there.
func RemoveRoute(r Route) error {
	k, err := r.kernel()
	if err == nil {
		err = netlink.RouteDel(k)
	}
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("remove route %s: %w", r, err)
	}
	return nil
}

// DefaultRoutes returns the IPv4 default routes of the main table.
func DefaultRoutes() ([]Route, error) {
	found, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []Route
	for _, f := range found {
		if f.Dst != nil && !f.Dst.IP.IsUnspecified() {
			continue
		}
		r := Route{Metric: f.Priority}
		if l, err := netlink.LinkByIndex(f.LinkIndex); err == nil {
			r.Link = l.Attrs().Name
		}
		if gw, ok := netip.AddrFromSlice(f.Gw); ok {
			r.Gateway = gw.Unmap()
		}
		routes = append(routes, r)
	}
	return routes, nil
}

// Watch sends on the returned channel whenever links or IPv4 addresses change,
// until ctx ends; then the channel is closed. Several changes may come as one.
func Watch(ctx context.Context) (<-chan struct{}, error) {
	links, addresses := make(chan netlink.LinkUpdate, 16), make(chan netlink.AddrUpdate, 16)
	if err := netlink.LinkSubscribe(links, ctx.Done()); err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	if err := netlink.AddrSubscribe(addresses, ctx.Done()); err != nil {
		return nil, fmt.Errorf("watch addresses: %w", err)
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		for {
			var ok bool
			select {
			case <-ctx.Done():
				return
			case _, ok = <-links:
			case _, ok = <-addresses:
			}
			if !ok { // the subscription broke: the reader looks for itself from now on
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, nil
}

// WaitCarrier returns once the link has a carrier, or with the error of ctx.
// It looks often at first, then once a second.
func WaitCarrier(ctx context.Context, name string) error {
	for delay := 50 * time.Millisecond; ; delay = min(delay*5/4, time.Second) {
		l, err := Get(name)
		if err != nil {
			return err
		}
		if l.Carrier {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for carrier on %s: %w", name, ctx.Err())
		case <-time.After(delay):
		}
	}
}
