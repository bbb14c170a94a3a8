// Package args turns what the user says (flags, /etc/rancher/k3s/config.yaml,
// K3S_* variables) into one Config, and a Config into the argument list of each
// Kubernetes component. It decides and touches nothing: callers pass file
// contents and the environment in.
//
// The names are those of k3s, because its users know them; see Flags.
package args

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Version is the Kubernetes version that is linked in.
const Version = "v1.36.3"

// Role says what a node does.
type Role string

const (
	Server Role = "server" // control plane, and a worker unless DisableAgent
	Agent  Role = "agent"  // worker only
)

// A Config is everything that kube can be told. The zero value plus Defaults
// is a single server with its own worker.
type Config struct {
	Role    Role
	DataDir string // default /var/lib/rancher/k3s

	// Cluster.
	Token           string
	ServerURL       string // of the server to join; agents only
	ClusterCIDR     string
	ServiceCIDR     string
	ClusterDNS      string
	ClusterDomain   string
	BindAddress     string
	HTTPSListenPort int
	AdvertiseIP     string
	TLSSANs         []string
	Disable         []string // add-ons that are not wanted
	WriteKubeconfig string
	KubeconfigMode  string // octal
	FlannelBackend  string // vxlan, host-gw or none
	FlannelIface    string

	// Parts that are left out.
	DisableAgent, DisableScheduler, DisableKubeProxy, DisableControllerManager bool

	// Node.
	NodeName, NodeIP, NodeExternalIP string
	NodeLabels, NodeTaints           []string
	PauseImage, Snapshotter          string
	ResolvConf                       string
	PrivateRegistry                  string // path of registries.yaml
	WithNodeID                       bool
	Debug                            bool
	Verbosity                        int

	// Extra arguments, "name=value", per component.
	APIServerArgs, ControllerManagerArgs, SchedulerArgs, KubeletArgs, KubeProxyArgs []string
}

// Paths under DataDir that the k3s contract names.
func (c Config) ServerDir() string    { return filepath.Join(c.DataDir, "server") }
func (c Config) TLSDir() string       { return filepath.Join(c.DataDir, "server", "tls") }
func (c Config) AgentDir() string     { return filepath.Join(c.DataDir, "agent") }
func (c Config) ManifestsDir() string { return filepath.Join(c.DataDir, "server", "manifests") }
func (c Config) ImagesDir() string    { return filepath.Join(c.DataDir, "agent", "images") }

// KubeletKubeconfig is how the node's own programs reach the API.
func (c Config) KubeletKubeconfig() string {
	return filepath.Join(c.AgentDir(), "kubelet.kubeconfig")
}

// ServerKubeconfig returns the path of a control-plane component's kubeconfig,
// such as "scheduler".
func (c Config) ServerKubeconfig(component string) string {
	return filepath.Join(c.ServerDir(), "cred", component+".conf")
}

// KineSocket is where the datastore listens.
func (c Config) KineSocket() string { return filepath.Join(c.ServerDir(), "kine.sock") }

// ContainerdDir and ContainerdSocket are fixed by the k3s contract.
const (
	ContainerdDir    = "/run/k3s/containerd"
	ContainerdSocket = ContainerdDir + "/containerd.sock"
)

// Defaults fills what the user left open. Host facts (name, address) are given
// by the caller.
func (c *Config) Defaults(hostname string, address net.IP) {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.DataDir, "/var/lib/rancher/k3s")
	set(&c.ClusterCIDR, "10.42.0.0/16")
	set(&c.ServiceCIDR, "10.43.0.0/16")
	set(&c.ClusterDNS, dnsAddress(c.ServiceCIDR))
	set(&c.ClusterDomain, "cluster.local")
	set(&c.BindAddress, "0.0.0.0")
	set(&c.WriteKubeconfig, "/etc/rancher/k3s/k3s.yaml")
	set(&c.KubeconfigMode, "0600")
	set(&c.FlannelBackend, "vxlan")
	set(&c.PauseImage, "kedge.local/pause:v1")
	set(&c.Snapshotter, "overlayfs")
	set(&c.ResolvConf, "/etc/resolv.conf")
	set(&c.PrivateRegistry, "/etc/rancher/k3s/registries.yaml")
	set(&c.NodeName, hostname)
	if address != nil {
		set(&c.NodeIP, address.String())
	}
	set(&c.AdvertiseIP, c.NodeIP)
	if c.HTTPSListenPort == 0 {
		c.HTTPSListenPort = 6443
	}
}

// shared are the settings that every node of a cluster must have alike, by the
// name of their flag.
var shared = []struct {
	name string
	get  func(Config) string
}{
	{"cluster-cidr", func(c Config) string { return c.ClusterCIDR }},
	{"service-cidr", func(c Config) string { return c.ServiceCIDR }},
	{"cluster-dns", func(c Config) string { return c.ClusterDNS }},
	{"cluster-domain", func(c Config) string { return c.ClusterDomain }},
	{"flannel-backend", func(c Config) string { return c.FlannelBackend }},
	{"disable-kube-proxy", func(c Config) string { return strconv.FormatBool(c.DisableKubeProxy) }},
}

// Shared returns what a server tells the nodes that join it.
func (c Config) Shared() map[string]string {
	out := map[string]string{}
	for _, s := range shared {
		out[s.name] = s.get(c)
	}
	return out
}

// Learn takes over what the server told; the server is right, because nodes
// that differ cannot reach each other. It returns what it changed, as
// "name=value". Names that this version does not know are left aside.
func (c *Config) Learn(settings map[string]string) (changed []string, err error) {
	next := *c
	for _, s := range shared {
		value, told := settings[s.name]
		if !told || value == s.get(next) {
			continue
		}
		i := slices.IndexFunc(flags, func(f flag) bool { return f.name == s.name })
		if err := flags[i].set(&next, value); err != nil {
			return nil, fmt.Errorf("the server's %s: %w", s.name, err)
		}
		changed = append(changed, s.name+"="+value)
	}
	if err := next.Check(); err != nil {
		return nil, err
	}
	*c = next
	return changed, nil
}

// dnsAddress is the tenth address of the service network, the custom of
// Kubernetes installers.
func dnsAddress(cidr string) string {
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		return ""
	}
	ip := append(net.IP(nil), network.IP...)
	ip[len(ip)-1] += 10
	return ip.String()
}

// RenewBefore is how long before its end a certificate is made anew.
const RenewBefore = 90 * 24 * time.Hour

// Check says what is missing or cannot be.
func (c Config) Check() error {
	switch {
	case c.NodeName == "":
		return errors.New("node-name: the machine has no host name; give --node-name")
	case net.ParseIP(c.NodeIP) == nil:
		return fmt.Errorf("node-ip %q: the machine has no address with a default route; give --node-ip", c.NodeIP)
	case c.Role == Agent && c.ServerURL == "":
		return errors.New("an agent needs --server, the URL of the server to join, such as https://192.0.2.10:6443")
	case c.Role == Agent && c.Token == "":
		return errors.New("an agent needs --token: the content of /var/lib/rancher/k3s/server/node-token on the server")
	case !slices.Contains([]string{"vxlan", "host-gw", "none"}, c.FlannelBackend):
		return fmt.Errorf("flannel-backend %q: this version has vxlan, host-gw and none", c.FlannelBackend)
	}
	for _, network := range []string{c.ClusterCIDR, c.ServiceCIDR} {
		if _, _, err := net.ParseCIDR(network); err != nil {
			return fmt.Errorf("cluster-cidr or service-cidr: %w", err)
		}
	}
	return nil
}
