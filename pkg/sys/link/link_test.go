package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

func TestWired(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	port := Link{Name: "eth0", Type: "device", MAC: mac, Physical: true}
	for _, c := range []struct {
		name   string
		change func(*Link)
		want   bool
	}{
		{"a port", func(*Link) {}, true},
		{"veth", func(l *Link) { l.Type, l.Physical = "veth", false }, false},
		{"bridge", func(l *Link) { l.Type, l.Physical = "bridge", false }, false},
		{"loopback", func(l *Link) { l.Loopback = true }, false},
		{"wireless", func(l *Link) { l.Wireless = true }, false},
		{"in a bond", func(l *Link) { l.Enslaved = true }, false},
		{"no Ethernet", func(l *Link) { l.MAC = nil }, false},
		{"not on a bus", func(l *Link) { l.Physical = false }, false},
	} {
		l := port
		c.change(&l)
		if got := l.Wired(); got != c.want {
			t.Errorf("%s: Wired = %v", c.name, got)
		}
	}
}

func TestTable(t *testing.T) {
	gw, net10 := netip.MustParseAddr("192.0.2.1"), netip.MustParsePrefix("10.0.0.0/8")
	address := netip.MustParsePrefix("192.0.2.9/24")
	for _, c := range []struct {
		name  string
		lease Lease
		want  []string
		gw    netip.Addr
	}{
		{"no router", Lease{}, nil, netip.Addr{}},
		{"first router only", Lease{Routers: []netip.Addr{gw, gw.Next()}}, []string{"default via 192.0.2.1 dev eth0 metric 7"}, gw},
		{"classless routes win", Lease{Routers: []netip.Addr{gw}, Routes: []Route{{Destination: net10}, {Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: gw.Next()}}},
			[]string{"10.0.0.0/8 dev eth0 metric 7", "default via 192.0.2.2 dev eth0 metric 7"}, gw.Next()},
	} {
		c.lease.Link, c.lease.Address = "eth0", address
		var got []string
		for _, r := range c.lease.Table(7) {
			got = append(got, r.String())
		}
		if !slices.Equal(got, c.want) || c.lease.Gateway() != c.gw {
			t.Errorf("%s: Table = %q, gateway %v; want %q, %v", c.name, got, c.lease.Gateway(), c.want, c.gw)
		}
	}
}

// pair makes two network namespaces joined by a cable; the test's thread stays
// in the client's, whose end is called eth0.
func pair(t *testing.T) (client, server netns.NsHandle) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	var err error
	if server, err = netns.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	if client, err = netns.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "port", PeerNamespace: netlink.NsFd(int(server))}); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// serve answers DHCP in the server's namespace with what reply makes of each
// request.
func serve(t *testing.T, client, server netns.NsHandle, reply func(*dhcpv4.DHCPv4) []dhcpv4.Modifier) <-chan *dhcpv4.DHCPv4 {
	t.Helper()
	seen := make(chan *dhcpv4.DHCPv4, 16)
	if err := netns.Set(server); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := netns.Set(client); err != nil {
			t.Fatal(err)
		}
	}()
	if err := Up("port"); err != nil {
		t.Fatal(err)
	}
	if err := SetAddress("port", netip.MustParsePrefix("192.0.2.1/24"), 0); err != nil {
		t.Fatal(err)
	}
	s, err := server4.NewServer("port", nil, func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		seen <- m
		if m.MessageType() == dhcpv4.MessageTypeRelease {
			return
		}
		answer, err := dhcpv4.NewReplyFromRequest(m, reply(m)...)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.WriteTo(answer.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort})
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve() }()
	t.Cleanup(func() { s.Close() })
	return seen
}

func answers(m *dhcpv4.DHCPv4) []dhcpv4.Modifier {
	kind := dhcpv4.MessageTypeAck
	if m.MessageType() == dhcpv4.MessageTypeDiscover {
		kind = dhcpv4.MessageTypeOffer
	}
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	_, ten, _ := net.ParseCIDR("10.0.0.0/8")
	return []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 77)), dhcpv4.WithLeaseTime(600),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithOption(dhcpv4.OptDNS(net.IPv4(192, 0, 2, 53))),
		dhcpv4.WithOption(dhcpv4.OptNTPServers(net.IPv4(192, 0, 2, 123))),
		dhcpv4.WithOption(dhcpv4.OptDomainName("edge.example")),
		dhcpv4.WithOption(dhcpv4.OptHostName("till-7")),
		dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x05, 0x78}),
		dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: all, Router: net.IPv4(192, 0, 2, 1)}, &dhcpv4.Route{Dest: ten, Router: net.IPv4(192, 0, 2, 2)})),
	}
}

func TestLease(t *testing.T) {
	client, server := pair(t)
	seen := serve(t, client, server, answers)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := Up("eth0"); err != nil {
		t.Fatal(err)
	}
	if err := WaitCarrier(ctx, "eth0"); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(ctx, "eth0", Request{Hostname: "me"})
	if err != nil {
		t.Fatal(err)
	}
	if asked := (<-seen).HostName(); asked != "me" {
		t.Errorf("request carries host name %q, want me", asked)
	}
	if l.Address.String() != "192.0.2.77/24" || l.MTU != 1400 || l.Domain != "edge.example" || l.Hostname != "till-7" ||
		len(l.DNS) != 1 || len(l.NTP) != 1 || l.Duration != 10*time.Minute || l.Renew != 5*time.Minute || l.Server.String() != "192.0.2.1" {
		t.Errorf("lease = %+v", l)
	}
	if err := l.Apply(100); err != nil {
		t.Fatal(err)
	}
	checkApplied(t)
	more, err := l.Extend(ctx, Request{})
	if err != nil || more.Address != l.Address {
		t.Fatalf("Extend = %+v, %v", more, err)
	}
	if err := more.Release(); err != nil {
		t.Error(err)
	}
	if err := more.Withdraw(); err != nil {
		t.Error(err)
	}
	if routes, err := DefaultRoutes(); err != nil || len(routes) != 0 {
		t.Errorf("after Withdraw: default routes %v, %v", routes, err)
	}
}

func checkApplied(t *testing.T) {
	t.Helper()
	got, err := Get("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if got.MTU != 1400 || !slices.Contains(got.Addresses, netip.MustParsePrefix("192.0.2.77/24")) || got.Wired() {
		t.Errorf("link = %+v", got)
	}
	routes, err := DefaultRoutes()
	if err != nil || len(routes) != 1 || routes[0].String() != "default via 192.0.2.1 dev eth0 metric 100" {
		t.Errorf("default routes = %v, %v", routes, err)
	}
}

func TestRefusedLease(t *testing.T) {
	client, server := pair(t)
	serve(t, client, server, func(m *dhcpv4.DHCPv4) []dhcpv4.Modifier {
		if !m.ClientIPAddr.IsUnspecified() { // a renewal
			return []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeNak), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1)))}
		}
		return answers(m)
	})
	if err := Up("eth0"); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(context.Background(), "eth0", Request{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Extend(context.Background(), Request{}); !errors.Is(err, ErrRefused) {
		t.Errorf("Extend = %v, want ErrRefused", err)
	}
}

func TestDummyAndWatch(t *testing.T) {
	pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	changed, err := Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := AddDummy("kedge0"); err != nil {
		t.Fatal(err)
	}
	if err := AddDummy("kedge0"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	<-changed
	address := netip.MustParsePrefix("198.18.0.1/32")
	if err := SetAddress("kedge0", address, 0); err != nil {
		t.Fatal(err)
	}
	if err := SetRoute(Route{Link: "kedge0", Metric: 4294967}); err != nil {
		t.Fatal(err)
	}
	if routes, err := DefaultRoutes(); err != nil || len(routes) != 1 || routes[0].Link != "kedge0" {
		t.Errorf("default routes = %v, %v", routes, err)
	}
	if wired, err := Wired(); err != nil || len(wired) != 0 {
		t.Errorf("Wired = %v, %v, want none", wired, err)
	}
	if err := Remove("kedge0"); err != nil {
		t.Error(err)
	}
	if err := Remove("kedge0"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	cancel()
	for range changed { // ends only when Watch closes the channel
	}
}
