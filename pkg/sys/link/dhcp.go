package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// ErrRefused means the server does not know the lease any more: ask anew.
var ErrRefused = errors.New("the DHCP server refuses the address")

// Request says how to ask a DHCP server. The zero value is safe.
type Request struct {
	Hostname string        // name the server may put into its DNS; "" sends none
	Timeout  time.Duration // wait for each answer; 0 means 3 s
	Tries    int           // times each message is sent; 0 means 3
	Class    string        // vendor class; "" means "kedge"
}

// A Lease is what a DHCP server gave.
type Lease struct {
	Link     string
	Server   netip.Addr
	Address  netip.Prefix
	Routers  []netip.Addr
	Routes   []Route // classless routes; when there are any, Routers does not count (RFC 3442)
	DNS, NTP []netip.Addr
	Domain   string
	Search   []string
	Hostname string
	MTU      int // bytes; 0: the server did not say
	Obtained time.Time
	Duration time.Duration // validity, from Obtained on
	Renew    time.Duration // ask this server again after this time
	Rebind   time.Duration // ask any server after this time

	raw *nclient4.Lease
}

// Acquire asks for an address on a link that is up. It tries a bounded number
// of times; the caller decides whether to ask again.
func Acquire(ctx context.Context, name string, r Request) (Lease, error) {
	c, err := r.client(name)
	if err != nil {
		return Lease{}, err
	}
	defer c.Close()
	raw, err := c.Request(ctx, r.modifiers()...)
	if err != nil {
		return Lease{}, fmt.Errorf("ask for an address on %s: %w", name, err)
	}
	return lease(name, raw)
}

// Extend asks for more time. The error wraps ErrRefused when the server says
// no; the address must then be given up.
func (l Lease) Extend(ctx context.Context, r Request) (Lease, error) {
	if l.raw == nil {
		return Lease{}, fmt.Errorf("renew lease of %s: it was not taken by this process", l.Link)
	}
	c, err := r.client(l.Link)
	if err != nil {
		return Lease{}, err
	}
	defer c.Close()
	raw, err := c.Renew(ctx, l.raw, r.modifiers()...)
	var nak *nclient4.ErrNak
	if errors.As(err, &nak) {
		return Lease{}, fmt.Errorf("renew lease of %s: %w", l.Link, ErrRefused)
	}
	if err != nil {
		return Lease{}, fmt.Errorf("renew lease of %s: %w", l.Link, err)
	}
	return lease(l.Link, raw)
}

// Release gives the address back. The server does not answer; the caller
// takes the address off the link.
func (l Lease) Release() error {
	if l.raw == nil {
		return nil
	}
	c, err := Request{}.client(l.Link)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Release(l.raw); err != nil {
		return fmt.Errorf("release lease of %s: %w", l.Link, err)
	}
	return nil
}

// Apply sets address, MTU and routes of the lease on its link.
func (l Lease) Apply(metric int) error {
	if l.MTU >= 576 {
		if err := SetMTU(l.Link, l.MTU); err != nil {
			return err
		}
	}
	if err := SetAddress(l.Link, l.Address, l.Duration); err != nil {
		return err
	}
	var errs []error
	for _, r := range l.Table(metric) {
		errs = append(errs, SetRoute(r))
	}
	return errors.Join(errs...)
}

// Withdraw takes the address off the link; its routes go with it.
func (l Lease) Withdraw() error { return RemoveAddress(l.Link, l.Address) }

// Table returns the routes that follow from the lease, routes to routers
// outside its network first.
func (l Lease) Table(metric int) []Route {
	if len(l.Routes) == 0 {
		for _, router := range l.Routers[:min(1, len(l.Routers))] {
			return []Route{{Link: l.Link, Gateway: router, Source: l.Address.Addr(), Metric: metric}}
		}
	}
	var table []Route
	for _, r := range l.Routes {
		r.Link, r.Metric, r.Source = l.Link, metric, l.Address.Addr()
		table = append(table, r)
	}
	return table
}

// Gateway returns the router of the default route, zero when there is none.
func (l Lease) Gateway() netip.Addr {
	for _, r := range l.Table(0) {
		if !r.Destination.IsValid() || r.Destination.Bits() == 0 {
			return r.Gateway
		}
	}
	return netip.Addr{}
}

func (r Request) client(name string) (*nclient4.Client, error) {
	timeout, tries := r.Timeout, r.Tries
	if timeout == 0 {
		timeout = 3 * time.Second
	}
	if tries == 0 {
		tries = 3
	}
	c, err := nclient4.New(name, nclient4.WithTimeout(timeout), nclient4.WithRetry(tries))
	if err != nil {
		return nil, fmt.Errorf("open DHCP socket on %s: %w", name, err)
	}
	return c, nil
}

func (r Request) modifiers() []dhcpv4.Modifier {
	class := r.Class
	if class == "" {
		class = "kedge"
	}
	m := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithRequestedOptions(
			dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName,
			dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionHostName, dhcpv4.OptionNTPServers, dhcpv4.OptionInterfaceMTU,
			dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue),
	}
	if r.Hostname != "" {
		m = append(m, dhcpv4.WithOption(dhcpv4.OptHostName(r.Hostname)))
	}
	return m
}

// lease reads the server's answer. Missing times are those of RFC 2131,
// section 4.4.5: renew at one half, rebind at seven eighths.
func lease(name string, raw *nclient4.Lease) (Lease, error) {
	ack := raw.ACK
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || ip.IsUnspecified() {
		return Lease{}, fmt.Errorf("ask for an address on %s: the answer holds none", name)
	}
	bits := ip.BitLen()
	if mask := ack.SubnetMask(); mask != nil {
		bits, _ = mask.Size()
	} else if mask := net.IP(ip.AsSlice()).DefaultMask(); mask != nil {
		bits, _ = mask.Size()
	}
	duration := ack.IPAddressLeaseTime(time.Hour)
	l := Lease{
		Link: name, Address: netip.PrefixFrom(ip, bits),
		Routers: addresses(ack.Router()), DNS: addresses(ack.DNS()), NTP: addresses(ack.NTPServers()),
		Domain: ack.DomainName(), Hostname: ack.HostName(),
		Obtained: raw.CreationTime, Duration: duration,
		Renew: ack.IPAddressRenewalTime(duration / 2), Rebind: ack.IPAddressRebindingTime(duration / 8 * 7),
		raw: raw,
	}
	l.Server, _ = netip.AddrFromSlice(ack.ServerIdentifier().To4())
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil {
		l.MTU = int(mtu)
	}
	if search := ack.DomainSearch(); search != nil {
		l.Search = search.Labels
	}
	for _, r := range ack.ClasslessStaticRoute() {
		if d, ok := prefix(r.Dest); ok {
			l.Routes = append(l.Routes, classless(d, r.Router))
		}
	}
	return l, nil
}

// classless reads one route of option 121, where router 0.0.0.0 means: on the
// link.
func classless(destination netip.Prefix, router net.IP) Route {
	r := Route{Destination: destination.Masked()}
	if gw, ok := netip.AddrFromSlice(router.To4()); ok && !gw.IsUnspecified() {
		r.Gateway = gw
	}
	return r
}

func addresses(ips []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap())
		}
	}
	return out
}
