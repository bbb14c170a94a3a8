package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw" // --flannel-backend=host-gw
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"  // --flannel-backend=vxlan
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/cmd/kube/cri"
	"github.com/kedgeos/kedge/cmd/kube/say"
)

// ruleCheck is how often flannel looks whether its rules still stand, in seconds.
const ruleCheck = 60

// network runs flannel until ctx ends. It tries again while the node is not
// registered or has no pod network yet.
func network(ctx context.Context, c args.Config) error {
	file := filepath.Join(c.AgentDir(), "etc", "flannel.json")
	if err := os.WriteFile(file, flannelConfig(c), 0o644); err != nil {
		return err
	}
	// flannel learns from this who it is.
	if err := os.Setenv("NODE_NAME", c.NodeName); err != nil {
		return err
	}
	if err := firstCNI(c); err != nil {
		return err
	}
	for {
		err := flannel(ctx, c, file)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		say.Printf("pod network: %v; trying again", err)
		time.Sleep(time.Second)
	}
}

// flannelConfig is flannel's net-conf.json.
func flannelConfig(c args.Config) []byte {
	b, err := json.Marshal(map[string]any{
		"Network": c.ClusterCIDR, "EnableIPv4": true, "EnableNFTables": true,
		"Backend": map[string]any{"Type": c.FlannelBackend},
	})
	if err != nil {
		panic(err) // strings and booleans always marshal
	}
	return b
}

func flannel(ctx context.Context, c args.Config, file string) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	manager, err := kube.NewSubnetManager(ctx, "", c.KubeletKubeconfig(), "flannel.alpha.coreos.com", file, true)
	if err != nil {
		return err
	}
	conf, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return err
	}
	iface := c.FlannelIface
	if iface == "" {
		iface = c.NodeIP
	}
	family, err := ipmatch.GetIPFamily(true, false)
	if err != nil {
		return err
	}
	ext, err := ipmatch.LookupExtIface(iface, "", "", family, ipmatch.PublicIPOpts{PublicIP: c.NodeExternalIP})
	if err != nil {
		return fmt.Errorf("find interface %s: %w", iface, err)
	}
	be, err := backend.NewManager(ctx, manager, ext).GetBackend(conf.BackendType)
	if err != nil {
		return err
	}
	pods, err := register(ctx, be, &wg, conf)
	if err != nil {
		return err
	}
	rules := &nftables.NFTablesManager{}
	if err := rules.Init(ctx); err != nil {
		return err
	}
	none4, none6 := ip.IP4Net{}, ip.IP6Net{}
	if err := rules.SetupAndEnsureMasqRules(ctx, conf.Network, none4, none4, none6, none6, none6, pods.Lease(), ruleCheck, false); err != nil {
		return fmt.Errorf("set masquerading: %w", err)
	}
	rules.SetupAndEnsureForwardRules(ctx, conf.Network, none6, ruleCheck)
	if err := writeCNI(c, pods.Lease().Subnet.String(), pods.MTU()); err != nil {
		return err
	}
	wg.Go(func() { pods.Run(ctx) })
	if err := manager.CompleteLease(ctx, pods.Lease(), &wg); err != nil {
		return err
	}
	<-ctx.Done() // flannel works in the background
	return ctx.Err()
}

// register waits for the node's own pod network, which the controller-manager
// gives out after the kubelet has registered.
func register(ctx context.Context, be backend.Backend, wg *sync.WaitGroup, conf *subnet.Config) (backend.Network, error) {
	deadline := time.Now().Add(5 * time.Minute)
	for {
		pods, err := be.RegisterNetwork(ctx, wg, conf)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return pods, err
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// writeCNI tells containerd how pods are wired: a bridge with the node's pod
// network; flannel's rules do the masquerading.
func writeCNI(c args.Config, podCIDR string, mtu int) error {
	b, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0", "name": "cbr0",
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": "cni0", "mtu": mtu, "isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false,
				"ipam": map[string]any{
					"type": "host-local", "dataDir": "/run/cni/networks",
					"ranges": [][]any{{map[string]any{"subnet": podCIDR}}},
					"routes": []any{map[string]any{"dst": c.ClusterCIDR}},
				},
			},
			map[string]any{"type": "portmap", "backend": "nftables", "capabilities": map[string]any{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(cri.CNIDir(c), "10-flannel.conflist")
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return os.WriteFile(file, b, 0o644)
}

// firstCNI writes a network configuration before there is a lease: the kubelet
// looks only every five seconds whether there is one, and the first node of a
// cluster gets the first subnet. The lease then has the last word.
func firstCNI(c args.Config) error {
	old, err := filepath.Glob(filepath.Join(cri.CNIDir(c), "*.conflist"))
	if err != nil || len(old) > 0 || c.Role != args.Server {
		return err
	}
	_, network, err := net.ParseCIDR(c.ClusterCIDR)
	if err != nil {
		return err
	}
	const vxlanHeader = 50
	return writeCNI(c, (&net.IPNet{IP: network.IP, Mask: net.CIDRMask(24, 32)}).String(), 1500-vxlanHeader)
}
