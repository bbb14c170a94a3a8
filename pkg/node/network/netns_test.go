package network

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"github.com/kedgeos/kedge/pkg/sys/link"
)

// inNamespace runs the calling test once more, in a process with a network
// namespace of its own, and reports whether this is that process.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "KEDGE_TEST_NAMESPACE"
	if os.Getenv(mark) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// A router is a DHCP server at the other end of a cable.
type router struct{ address, lease net.IP }

func (r router) handle(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
	kind := dhcpv4.MessageTypeAck
	if m.MessageType() == dhcpv4.MessageTypeDiscover {
		kind = dhcpv4.MessageTypeOffer
	}
	answer, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(r.lease), dhcpv4.WithLeaseTime(3600),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(r.address)),
		dhcpv4.WithOption(dhcpv4.OptRouter(r.address)), dhcpv4.WithOption(dhcpv4.OptDNS(r.address)),
		dhcpv4.WithOption(dhcpv4.OptHostName("till-7")))
	if err == nil {
		_, _ = conn.WriteTo(answer.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort})
	}
}

// plug adds a cable: name is the machine's end, the router has the other.
func plug(t *testing.T, name string, r router) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "r-" + name}); err != nil {
		t.Fatal(err)
	}
	if err := link.Up("r-" + name); err != nil {
		t.Fatal(err)
	}
	s, err := server4.NewServer("r-"+name, nil, r.handle)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve() }()
	t.Cleanup(func() { s.Close() })
}

// await waits for a state that fits.
func await(t *testing.T, states <-chan State, what string, fits func(State) bool) State {
	t.Helper()
	late := time.After(30 * time.Second)
	var last State
	for {
		select {
		case last = <-states:
			if fits(last) {
				return last
			}
		case <-late:
			t.Fatalf("%s: last state %+v", what, last)
		}
	}
}

// TestManager plugs cables into a machine with no network and takes one out.
func TestManager(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	states := make(chan State, 64)
	log := logrus.New()
	log.SetOutput(os.Stdout)
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	m := New(Options{ResolvConf: resolv, Changed: func(s State) { states <- s }, Log: log,
		Select: func(l link.Link) bool { return strings.HasPrefix(l.Name, "eth") }})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	s := await(t, states, "offline", func(s State) bool { return s.Node.IsValid() })
	if s.Node.String() != "198.18.0.1" || s.Online || s.Addressed() {
		t.Errorf("offline: %+v", s)
	}
	checkDefault(t, Anchor)

	plug(t, "eth0", router{net.IPv4(192, 0, 2, 1).To4(), net.IPv4(192, 0, 2, 77).To4()})
	s = await(t, states, "first cable", func(s State) bool { return s.Online && s.Hostname != "" })
	<-m.Settled()
	if s.Node.String() != "192.0.2.77" || s.Hostname != "till-7" {
		t.Errorf("first cable: %+v", s)
	}
	checkDefault(t, "eth0")
	if text, err := os.ReadFile(resolv); err != nil || !strings.Contains(string(text), "nameserver 192.0.2.1\n") {
		t.Errorf("resolv.conf = %q, %v", text, err)
	}

	plug(t, "eth1", router{net.IPv4(198, 51, 100, 1).To4(), net.IPv4(198, 51, 100, 7).To4()})
	s = await(t, states, "second cable", func(s State) bool { return len(s.Leases) == 2 })
	if s.Node.String() != "192.0.2.77" {
		t.Errorf("second cable: the node's address became %v", s.Node)
	}

	if err := link.Remove("eth0"); err != nil {
		t.Fatal(err)
	}
	s = await(t, states, "first port gone", func(s State) bool { return len(s.Links) == 1 && s.Node != netip.MustParseAddr("192.0.2.77") })
	if s.Node.String() != "198.51.100.7" || !s.Online {
		t.Errorf("first port gone: %+v", s)
	}
	if err := link.Remove("eth1"); err != nil {
		t.Fatal(err)
	}
	s = await(t, states, "all gone", func(s State) bool { return len(s.Links) == 0 })
	if s.Online || s.Node.String() != "198.18.0.1" {
		t.Errorf("all gone: %+v", s)
	}
	checkDefault(t, Anchor)
}

func checkDefault(t *testing.T, name string) {
	t.Helper()
	routes, err := link.DefaultRoutes()
	if err != nil || len(routes) != 1 || routes[0].Link != name {
		t.Errorf("default routes %v, %v, want one through %s", routes, err, name)
	}
}
