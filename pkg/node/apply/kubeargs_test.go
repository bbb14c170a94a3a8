package apply

import (
	"maps"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/config"
)

func TestKubeArgs(t *testing.T) {
	for _, c := range []struct {
		name  string
		kedge config.Kedge
		want  string // joined by |
		env   map[string]string
	}{
		{"nothing said: a server", config.Kedge{}, "server|--node-name|n1|--node-ip|192.0.2.9", nil},
		{"server_url makes an agent", config.Kedge{ServerURL: "https://s:6443", Token: "t"},
			"agent|--node-name|n1|--node-ip|192.0.2.9|--server|https://s:6443|--token|t", nil},
		{"role said: a server that joins", config.Kedge{ServerURL: "https://s:6443", K3sArgs: []string{"server"}},
			"server|--node-name|n1|--node-ip|192.0.2.9|--server|https://s:6443", nil},
		{"labels in order, taints", config.Kedge{Labels: map[string]string{"b": "2", "a": "1"}, Taints: []string{"k=v:NoSchedule"}},
			"server|--node-name|n1|--node-ip|192.0.2.9|--node-label|a=1|--node-label|b=2|--node-taint|k=v:NoSchedule", nil},
		{"the user's flags win", config.Kedge{Token: "t", K3sArgs: []string{"server", "--node-name=x", "--node-ip", "10.0.0.1", "-t", "u"}},
			"server|--node-name=x|--node-ip|10.0.0.1|-t|u", nil},
		{"role not first", config.Kedge{K3sArgs: []string{"--cluster-init", "server"}}, "server|--node-name|n1|--node-ip|192.0.2.9|--cluster-init", nil},
		{"a value called server stays", config.Kedge{K3sArgs: []string{"agent", "--node-label", "server"}},
			"agent|--node-name|n1|--node-ip|192.0.2.9|--node-label|server", nil},
		{"flag and value in one item", config.Kedge{K3sArgs: []string{"server", "--disable traefik", "--flannel-iface  eth1"}},
			"server|--node-name|n1|--node-ip|192.0.2.9|--disable|traefik|--flannel-iface|eth1", nil},
		{"role and flags in one item", config.Kedge{K3sArgs: []string{"server --cluster-init --disable traefik"}},
			"server|--node-name|n1|--node-ip|192.0.2.9|--cluster-init|--disable|traefik", nil},
		{"blanks behind commas", config.Kedge{K3sArgs: []string{"--disable=traefik, servicelb", "--no-deploy local-storage, metrics-server"}},
			"server|--node-name|n1|--node-ip|192.0.2.9|--disable=traefik,servicelb|--no-deploy|local-storage,metrics-server", nil},
		{"value with blanks stays whole", config.Kedge{K3sArgs: []string{"--kubelet-arg", "a b c"}}, "server|--node-name|n1|--node-ip|192.0.2.9|--kubelet-arg|a b c", nil},
		{"environment items", config.Kedge{K3sArgs: []string{"K3S_DEBUG=true", "server", "--kubelet-arg", "X=1"}},
			"server|--node-name|n1|--node-ip|192.0.2.9|--kubelet-arg|X=1", map[string]string{"K3S_DEBUG": "true"}},
		{"null items", config.Kedge{K3sArgs: []string{"", " "}}, "server|--node-name|n1|--node-ip|192.0.2.9", nil},
	} {
		got := KubeArgs(config.Config{Kedge: c.kedge}, "N1", "192.0.2.9")
		if strings.Join(got.Args, "|") != c.want || !maps.Equal(got.Environment, c.env) || got.Role != got.Args[0] {
			t.Errorf("%s:\n got %s %v\nwant %s %v", c.name, strings.Join(got.Args, "|"), got.Environment, c.want, c.env)
		}
	}
}

func TestNodeName(t *testing.T) {
	for want, args := range map[string][]string{
		"a": {"server", "--node-name", "a"},
		"b": {"server", "--node-name", "a", "--node-name=b"},
		"":  {"server"},
	} {
		if got := (Kube{Args: args}).NodeName(); got != want {
			t.Errorf("NodeName(%q) = %q, want %q", args, got, want)
		}
	}
}
