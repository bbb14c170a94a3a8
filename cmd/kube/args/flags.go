package args

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A flag is one name of the command line and of config.yaml.
type flag struct {
	name string
	role Role // "" for both
	help string
	set  func(c *Config, value string) error // a bool flag gets "true" or "false"
	bool bool
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error { *field(c) = v; return nil }
}

// list appends; commas and blanks separate, as k3s users write them.
func list(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, v string) error {
		for _, item := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' }) {
			*field(c) = append(*field(c), item)
		}
		return nil
	}
}

// whole appends the value as it is; component arguments may hold commas.
func whole(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, v string) error {
		*field(c) = append(*field(c), strings.TrimLeft(v, "-"))
		return nil
	}
}

func number(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", v)
		}
		*field(c) = n
		return nil
	}
}

func truth(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		*field(c) = b
		return nil
	}
}

func ignore(*Config, string) error { return nil }

// flags is every name that is understood, in the order in which help shows it.
var flags = []flag{
	{name: "data-dir", help: "where state lives", set: text(func(c *Config) *string { return &c.DataDir })},
	{name: "token", help: "secret that joins nodes to the cluster", set: text(func(c *Config) *string { return &c.Token })},
	{name: "server", role: Agent, help: "URL of the server to join", set: text(func(c *Config) *string { return &c.ServerURL })},
	{name: "cluster-cidr", help: "network of the pods; agents take it from their server", set: text(func(c *Config) *string { return &c.ClusterCIDR })},
	{name: "service-cidr", help: "network of the Services; agents take it from their server", set: text(func(c *Config) *string { return &c.ServiceCIDR })},
	{name: "cluster-dns", help: "address of the cluster's DNS; agents take it from their server", set: text(func(c *Config) *string { return &c.ClusterDNS })},
	{name: "cluster-domain", help: "domain of the cluster; agents take it from their server", set: text(func(c *Config) *string { return &c.ClusterDomain })},
	{name: "bind-address", role: Server, help: "address the API listens on", set: text(func(c *Config) *string { return &c.BindAddress })},
	{name: "https-listen-port", role: Server, help: "port the API listens on", set: number(func(c *Config) *int { return &c.HTTPSListenPort })},
	{name: "advertise-address", role: Server, help: "address other nodes use for the API", set: text(func(c *Config) *string { return &c.AdvertiseIP })},
	{name: "tls-san", role: Server, help: "further name or address in the API's certificate", set: list(func(c *Config) *[]string { return &c.TLSSANs })},
	{name: "write-kubeconfig", role: Server, help: "where the administrator's kubeconfig goes", set: text(func(c *Config) *string { return &c.WriteKubeconfig })},
	{name: "write-kubeconfig-mode", role: Server, help: "its mode, octal", set: text(func(c *Config) *string { return &c.KubeconfigMode })},
	{name: "disable", role: Server, help: "add-ons that are not wanted", set: list(func(c *Config) *[]string { return &c.Disable })},
	{name: "no-deploy", role: Server, help: "old name of disable", set: list(func(c *Config) *[]string { return &c.Disable })},
	{name: "disable-agent", role: Server, bool: true, help: "no worker on this server", set: truth(func(c *Config) *bool { return &c.DisableAgent })},
	{name: "disable-scheduler", role: Server, bool: true, help: "no scheduler", set: truth(func(c *Config) *bool { return &c.DisableScheduler })},
	{name: "disable-controller-manager", role: Server, bool: true, help: "no controller-manager", set: truth(func(c *Config) *bool { return &c.DisableControllerManager })},
	{name: "disable-kube-proxy", role: Server, bool: true, help: "no kube-proxy", set: truth(func(c *Config) *bool { return &c.DisableKubeProxy })},
	{name: "flannel-backend", help: "vxlan, host-gw or none; agents take it from their server", set: text(func(c *Config) *string { return &c.FlannelBackend })},
	{name: "flannel-iface", help: "interface that carries the pods' traffic", set: text(func(c *Config) *string { return &c.FlannelIface })},
	{name: "node-name", help: "name of this node", set: text(func(c *Config) *string { return &c.NodeName })},
	{name: "node-ip", help: "address of this node", set: text(func(c *Config) *string { return &c.NodeIP })},
	{name: "node-external-ip", help: "external address of this node", set: text(func(c *Config) *string { return &c.NodeExternalIP })},
	{name: "node-label", help: "label at registration", set: list(func(c *Config) *[]string { return &c.NodeLabels })},
	{name: "node-taint", help: "taint at registration", set: list(func(c *Config) *[]string { return &c.NodeTaints })},
	{name: "pause-image", help: "image that holds a pod's namespaces", set: text(func(c *Config) *string { return &c.PauseImage })},
	{name: "snapshotter", help: "containerd snapshotter", set: text(func(c *Config) *string { return &c.Snapshotter })},
	{name: "resolv-conf", help: "resolv.conf for pods", set: text(func(c *Config) *string { return &c.ResolvConf })},
	{name: "private-registry", help: "path of registries.yaml", set: text(func(c *Config) *string { return &c.PrivateRegistry })},
	{name: "kubelet-arg", help: "NAME=VALUE for the kubelet", set: whole(func(c *Config) *[]string { return &c.KubeletArgs })},
	{name: "kube-proxy-arg", help: "NAME=VALUE for kube-proxy", set: whole(func(c *Config) *[]string { return &c.KubeProxyArgs })},
	{name: "kube-apiserver-arg", role: Server, help: "NAME=VALUE for the API server", set: whole(func(c *Config) *[]string { return &c.APIServerArgs })},
	{name: "kube-controller-manager-arg", role: Server, help: "NAME=VALUE for the controller-manager", set: whole(func(c *Config) *[]string { return &c.ControllerManagerArgs })},
	{name: "kube-controller-arg", role: Server, help: "old name of kube-controller-manager-arg", set: whole(func(c *Config) *[]string { return &c.ControllerManagerArgs })},
	{name: "kube-scheduler-arg", role: Server, help: "NAME=VALUE for the scheduler", set: whole(func(c *Config) *[]string { return &c.SchedulerArgs })},
	{name: "debug", bool: true, help: "verbose logs", set: truth(func(c *Config) *bool { return &c.Debug })},
	{name: "v", help: "verbosity of the components", set: number(func(c *Config) *int { return &c.Verbosity })},
	{name: "disable-cloud-controller", role: Server, bool: true, help: "accepted; there is none", set: ignore},
	{name: "disable-network-policy", role: Server, bool: true, help: "accepted; there is none yet", set: ignore},
	{name: "disable-helm-controller", role: Server, bool: true, help: "accepted; there is none yet", set: ignore},
	{name: "alsologtostderr", bool: true, help: "accepted; logs go to standard error", set: ignore},
	{name: "log", help: "accepted; logs go to standard error", set: ignore},
}

// later are flags of k3s that this version does not have.
var later = strings.Fields(`agent-token cluster-init cluster-reset datastore-endpoint datastore-cafile
 datastore-certfile datastore-keyfile docker egress-selector-mode embedded-registry etcd-arg etcd-expose-metrics
 etcd-s3 etcd-snapshot-schedule-cron etcd-snapshot-retention flannel-conf flannel-cni-conf flannel-external-ip
 flannel-ipv6-masq image-credential-provider-config kine-tls lb-server-port multus node-external-dns
 node-internal-dns protect-kernel-defaults rootless secrets-encryption selinux servicelb-namespace supervisor-metrics
 system-default-registry tls-san-security token-file vpn-auth with-node-id helm-job-image default-runtime
 container-runtime-endpoint default-local-storage-path enable-pprof kube-cloud-controller-manager-arg
 service-node-port-range disable-apiserver disable-etcd disable-default-registry-endpoint prefer-bundled-bin`)

// variables names the environment variables of k3s.
var variables = map[string]string{
	"K3S_TOKEN": "token", "K3S_URL": "server", "K3S_CLUSTER_SECRET": "token", "K3S_NODE_NAME": "node-name",
	"K3S_DATA_DIR": "data-dir", "K3S_KUBECONFIG_OUTPUT": "write-kubeconfig", "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode",
}

// Sources is where a Config comes from; later fields win over earlier ones.
type Sources struct {
	Environ []string // KEY=VALUE
	Files   []File   // config.yaml, then config.yaml.d in order
	Flags   []string
}

// A File is one configuration file.
type File struct {
	Name string
	Data []byte
}

// Parse reads all sources. Every mistake names the flag or file; warnings are
// for what is accepted but old.
func Parse(role Role, s Sources) (c Config, warnings []string, err error) {
	c.Role = role
	for _, kv := range s.Environ {
		key, value, _ := strings.Cut(kv, "=")
		if name, ok := variables[key]; ok && value != "" && !(role == Server && name == "server") {
			if err := c.apply(name, value); err != nil {
				return c, nil, fmt.Errorf("environment variable %s: %w", key, err)
			}
		}
	}
	for _, f := range s.Files {
		if err := c.file(f); err != nil {
			return c, nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	warnings, err = c.line(s.Flags)
	return c, warnings, err
}

// line reads a command line: --name value, --name=value, -name, NAME=value.
func (c *Config) line(words []string) (warnings []string, err error) {
	seen := map[string]bool{}
	for i := 0; i < len(words); i++ {
		name, value, joined := strings.Cut(words[i], "=")
		if joined && !strings.HasPrefix(name, "-") && variables[name] != "" {
			name = "--" + variables[name]
		}
		if !strings.HasPrefix(name, "-") {
			return nil, fmt.Errorf("argument %q: expected a flag", words[i])
		}
		name = strings.TrimLeft(name, "-")
		f, err := lookup(name, c.Role)
		if err != nil {
			return nil, err
		}
		switch {
		case joined:
		case f.bool:
			value = "true"
		case i+1 < len(words):
			i++
			value = words[i]
		default:
			return nil, fmt.Errorf("flag --%s: needs a value", name)
		}
		if !seen[f.name] {
			c.forget(f.name) // the command line replaces a list of the file
			seen[f.name] = true
		}
		if err := f.set(c, value); err != nil {
			return nil, fmt.Errorf("flag --%s: %w", name, err)
		}
		if strings.HasPrefix(f.help, "old name of ") {
			warnings = append(warnings, fmt.Sprintf("flag --%s is the %s", name, f.help))
		}
	}
	return warnings, nil
}

// forget empties a list flag before a source that outranks what filled it.
func (c *Config) forget(name string) {
	for _, l := range []struct {
		name  string
		field *[]string
	}{
		{"tls-san", &c.TLSSANs}, {"disable", &c.Disable}, {"node-label", &c.NodeLabels}, {"node-taint", &c.NodeTaints},
	} {
		if l.name == name {
			*l.field = nil
		}
	}
}

// file reads one YAML file whose keys are flag names; "key+" adds to a list.
func (c *Config) file(f File) error {
	var doc map[string]yaml.Node // its scalars keep the text that the user wrote
	if err := yaml.Unmarshal(f.Data, &doc); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(doc)) {
		name, adds := strings.CutSuffix(key, "+")
		if !adds {
			c.forget(name)
		}
		value := doc[key]
		items := []*yaml.Node{&value}
		if value.Kind == yaml.SequenceNode {
			items = value.Content
		}
		for _, item := range items {
			if item.Tag == "!!null" {
				continue
			}
			if item.Kind != yaml.ScalarNode {
				return fmt.Errorf("line %d: %s: expected a text or a list of texts", item.Line, name)
			}
			if err := c.apply(name, item.Value); err != nil {
				return fmt.Errorf("line %d: %w", item.Line, err)
			}
		}
	}
	return nil
}

func (c *Config) apply(name, value string) error {
	f, err := lookup(name, c.Role)
	if err != nil {
		return err
	}
	if err := f.set(c, value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func lookup(name string, role Role) (flag, error) {
	for _, f := range flags {
		if f.name != name {
			continue
		}
		if f.role != "" && f.role != role {
			if name == "server" {
				return f, fmt.Errorf("flag --server: joining further servers comes in a later version; to join a worker use the agent command")
			}
			return f, fmt.Errorf("flag --%s: only for the %s command", name, f.role)
		}
		return f, nil
	}
	if slices.Contains(later, name) || strings.HasPrefix(name, "etcd-") {
		return flag{}, fmt.Errorf("flag --%s: k3s has it, this version of kube does not", name)
	}
	return flag{}, fmt.Errorf("unknown flag --%s (nearest: --%s)", name, nearest(name))
}

// nearest returns the known flag with the smallest edit distance to name.
func nearest(name string) (best string) {
	least := 1 << 30
	for _, f := range flags {
		if d := distance(name, f.name); d < least {
			best, least = f.name, d
		}
	}
	return best
}

// distance is the Levenshtein distance between a and b, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			above := row[j]
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			row[j] = min(cost, above+1, row[j-1]+1)
			diagonal = above
		}
	}
	return row[len(b)]
}

// Help lists the flags of a role.
func Help(w io.Writer, role Role) {
	fmt.Fprintf(w, "usage: kube %s [flags]\n\n", role)
	sorted := slices.Clone(flags)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].name < sorted[j].name })
	for _, f := range sorted {
		if f.role == "" || f.role == role {
			fmt.Fprintf(w, "  --%-30s %s\n", f.name, f.help)
		}
	}
	fmt.Fprintf(w, "\nThe same names are keys of /etc/rancher/k3s/config.yaml and of the files in config.yaml.d beside it.\n")
}

// ConfigFile takes --config out of a command line and returns the file to read;
// explicit says that the user named it, so that it must exist.
func ConfigFile(words []string) (file string, explicit bool, rest []string) {
	file = "/etc/rancher/k3s/config.yaml"
	for i := 0; i < len(words); i++ {
		name, value, joined := strings.Cut(words[i], "=")
		if name != "--config" && name != "-config" && name != "-c" {
			rest = append(rest, words[i])
			continue
		}
		if !joined && i+1 < len(words) {
			i++
			value = words[i]
		}
		file, explicit = value, true
	}
	return file, explicit, rest
}
