package args

import (
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name    string
		role    Role
		environ []string
		files   []string
		flags   []string
		want    func(Config) bool
	}{
		{"nothing", Server, nil, nil, nil, func(c Config) bool { return c.Role == Server && c.Token == "" }},
		{"value behind a space", Server, nil, nil, []string{"--node-name", "a"}, func(c Config) bool { return c.NodeName == "a" }},
		{"value behind an equals sign", Server, nil, nil, []string{"--node-name=a=b"}, func(c Config) bool { return c.NodeName == "a=b" }},
		{"one dash", Server, nil, nil, []string{"-node-name", "a"}, func(c Config) bool { return c.NodeName == "a" }},
		{"boolean without a value", Server, nil, nil, []string{"--disable-agent", "--debug"}, func(c Config) bool { return c.DisableAgent && c.Debug }},
		{"boolean with a value", Server, nil, nil, []string{"--disable-agent=false"}, func(c Config) bool { return !c.DisableAgent }},
		{"comma list", Server, nil, nil, []string{"--disable", "coredns,traefik", "--disable", "servicelb metrics-server"},
			func(c Config) bool {
				return slices.Equal(c.Disable, []string{"coredns", "traefik", "servicelb", "metrics-server"})
			}},
		{"component arguments keep their commas", Server, nil, nil, []string{"--kubelet-arg", "eviction-hard=a<1,b<2", "--kubelet-arg=--v=3"},
			func(c Config) bool { return slices.Equal(c.KubeletArgs, []string{"eviction-hard=a<1,b<2", "v=3"}) }},
		{"old name", Server, nil, nil, []string{"--no-deploy", "coredns"}, func(c Config) bool { return slices.Equal(c.Disable, []string{"coredns"}) }},
		{"accepted without effect", Server, nil, nil, []string{"--disable-cloud-controller", "--alsologtostderr", "--log", "/x"}, func(Config) bool { return true }},
		{"environment", Agent, []string{"K3S_URL=https://192.0.2.1:6443", "K3S_TOKEN=t", "HOME=/"}, nil, nil,
			func(c Config) bool { return c.ServerURL == "https://192.0.2.1:6443" && c.Token == "t" }},
		{"file over environment", Agent, []string{"K3S_TOKEN=env"}, []string{"token: file"}, nil, func(c Config) bool { return c.Token == "file" }},
		{"command line over file", Agent, nil, []string{"token: file"}, []string{"--token", "line"}, func(c Config) bool { return c.Token == "line" }},
		{"list of a file", Server, nil, []string{"node-label: [a=1, b=2]"}, nil, func(c Config) bool { return slices.Equal(c.NodeLabels, []string{"a=1", "b=2"}) }},
		{"a later file replaces a list", Server, nil, []string{"node-label: [a=1]", "node-label: b=2"}, nil, func(c Config) bool { return slices.Equal(c.NodeLabels, []string{"b=2"}) }},
		{"a plus adds to it", Server, nil, []string{"node-label: [a=1]", "node-label+: b=2"}, nil, func(c Config) bool { return slices.Equal(c.NodeLabels, []string{"a=1", "b=2"}) }},
		{"the command line replaces it", Server, nil, []string{"node-label: [a=1]"}, []string{"--node-label", "b=2", "--node-label", "c=3"},
			func(c Config) bool { return slices.Equal(c.NodeLabels, []string{"b=2", "c=3"}) }},
		{"numbers and booleans of YAML", Server, nil, []string{"https-listen-port: 7443\ndisable-agent: true\nwrite-kubeconfig-mode: \"0644\""}, nil,
			func(c Config) bool { return c.HTTPSListenPort == 7443 && c.DisableAgent && c.KubeconfigMode == "0644" }},
		{"an empty value", Server, nil, []string{"node-label:\n"}, nil, func(c Config) bool { return len(c.NodeLabels) == 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Sources{Environ: tt.environ, Flags: tt.flags}
			for _, data := range tt.files {
				s.Files = append(s.Files, File{Name: "config.yaml", Data: []byte(data)})
			}
			c, _, err := Parse(tt.role, s)
			if err != nil {
				t.Fatal(err)
			}
			if !tt.want(c) {
				t.Errorf("Parse = %+v", c)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct {
		role  Role
		file  string
		flags []string
		want  string // part of the message
	}{
		{Server, "", []string{"--node-nam", "x"}, "--node-name"},
		{Server, "", []string{"--datastore-endpoint", "x"}, "--datastore-endpoint"},
		{Server, "", []string{"--cluster-init"}, "this version of kube does not"},
		{Server, "", []string{"--secrets-encryption"}, "this version of kube does not"},
		{Server, "", []string{"--etcd-s3-bucket", "x"}, "this version of kube does not"},
		{Server, "", []string{"--server", "https://192.0.2.1:6443"}, "agent command"},
		{Agent, "", []string{"--tls-san", "x"}, "only for the server command"},
		{Server, "", []string{"--node-name"}, "needs a value"},
		{Server, "", []string{"node-name"}, "expected a flag"},
		{Server, "", []string{"--https-listen-port", "six"}, "six"},
		{Server, "", []string{"--disable-agent=perhaps"}, "perhaps"},
		{Server, "nodename: x", nil, "config.yaml: line 1: unknown flag --nodename (nearest: --node-name)"},
		{Server, "token: [", nil, "config.yaml"},
	} {
		s := Sources{Flags: tt.flags}
		if tt.file != "" {
			s.Files = []File{{Name: "config.yaml", Data: []byte(tt.file)}}
		}
		if _, _, err := Parse(tt.role, s); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Parse(%s, %q, %q) = %v, want an error with %q", tt.role, tt.file, tt.flags, err, tt.want)
		}
	}
}

func TestParseWarnsOfOldNames(t *testing.T) {
	_, warnings, err := Parse(Server, Sources{Flags: []string{"--no-deploy=traefik"}})
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "disable") {
		t.Errorf("Parse = %q, %v, want one warning that names disable", warnings, err)
	}
}

func TestFlagTable(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range flags {
		if seen[f.name] {
			t.Errorf("flag %s stands in the table twice", f.name)
		}
		seen[f.name] = true
		if slices.Contains(later, f.name) {
			t.Errorf("flag %s is understood and also said to come later", f.name)
		}
		if f.help == "" || f.set == nil {
			t.Errorf("flag %s has no help or does nothing", f.name)
		}
	}
	for variable, name := range variables {
		if !seen[name] {
			t.Errorf("%s names the unknown flag %s", variable, name)
		}
	}
}

func TestConfigFile(t *testing.T) {
	for _, tt := range []struct {
		words    []string
		file     string
		explicit bool
		rest     []string
	}{
		{nil, "/etc/rancher/k3s/config.yaml", false, nil},
		{[]string{"--debug"}, "/etc/rancher/k3s/config.yaml", false, []string{"--debug"}},
		{[]string{"--config", "a", "--debug"}, "a", true, []string{"--debug"}},
		{[]string{"--debug", "--config=a"}, "a", true, []string{"--debug"}},
		{[]string{"-c", "a"}, "a", true, nil},
	} {
		file, explicit, rest := ConfigFile(tt.words)
		if file != tt.file || explicit != tt.explicit || !slices.Equal(rest, tt.rest) {
			t.Errorf("ConfigFile(%q) = %q, %t, %q", tt.words, file, explicit, rest)
		}
	}
}

func TestHelpListsTheFlagsOfTheRole(t *testing.T) {
	var server, agent strings.Builder
	Help(&server, Server)
	Help(&agent, Agent)
	if !strings.Contains(server.String(), "--tls-san") || strings.Contains(agent.String(), "--tls-san") {
		t.Error("--tls-san is for servers only")
	}
	if strings.Contains(server.String(), "  --server ") || !strings.Contains(agent.String(), "  --server ") {
		t.Error("--server is for agents only")
	}
}

func TestDefaults(t *testing.T) {
	c := Config{Role: Server, ServiceCIDR: "10.96.0.0/12"}
	c.Defaults("host", net.IPv4(192, 0, 2, 7))
	if c.NodeName != "host" || c.NodeIP != "192.0.2.7" || c.AdvertiseIP != "192.0.2.7" || c.ClusterDNS != "10.96.0.10" || c.HTTPSListenPort != 6443 {
		t.Errorf("Defaults = %+v", c)
	}
	if err := c.Check(); err != nil {
		t.Errorf("Check = %v", err)
	}
	given := Config{Role: Server, NodeName: "mine", NodeIP: "192.0.2.8", AdvertiseIP: "192.0.2.9", ClusterDNS: "10.43.0.53"}
	given.Defaults("host", net.IPv4(192, 0, 2, 7))
	if given.NodeName != "mine" || given.NodeIP != "192.0.2.8" || given.AdvertiseIP != "192.0.2.9" || given.ClusterDNS != "10.43.0.53" {
		t.Errorf("Defaults replaced what the user gave: %+v", given)
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		role   Role
		change func(*Config)
		want   string
	}{
		{"no name", Server, func(c *Config) { c.NodeName = "" }, "--node-name"},
		{"no address", Server, func(c *Config) { c.NodeIP = "" }, "--node-ip"},
		{"agent without server", Agent, func(c *Config) { c.Token = "t" }, "--server"},
		{"agent without token", Agent, func(c *Config) { c.ServerURL = "https://192.0.2.1:6443" }, "--token"},
		{"backend", Server, func(c *Config) { c.FlannelBackend = "udp" }, `flannel-backend "udp"`},
		{"network", Server, func(c *Config) { c.ClusterCIDR = "10.42.0.0" }, "cluster-cidr"},
	} {
		c := Config{Role: tt.role}
		c.Defaults("host", net.IPv4(192, 0, 2, 7))
		tt.change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Check = %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}

func TestLearn(t *testing.T) {
	server := Config{Role: Server, ClusterCIDR: "10.52.0.0/16", ServiceCIDR: "10.53.0.0/16", ClusterDomain: "site.internal", DisableKubeProxy: true}
	server.Defaults("one", net.IPv4(192, 0, 2, 1))
	settings := server.Shared()
	settings["of-a-later-version"] = "x"
	agent := Config{Role: Agent, ServerURL: "https://192.0.2.1:6443", Token: "x", ClusterDomain: "typo.internal"}
	agent.Defaults("two", net.IPv4(192, 0, 2, 2))
	changed, err := agent.Learn(settings)
	if err != nil || len(changed) != 5 || !slices.Contains(changed, "cluster-dns=10.53.0.10") {
		t.Errorf("Learn = %q, %v; want five changes", changed, err)
	}
	if !reflect.DeepEqual(agent.Shared(), server.Shared()) {
		t.Errorf("after Learn the agent has %v, the server %v", agent.Shared(), server.Shared())
	}
	if changed, err := agent.Learn(settings); err != nil || len(changed) > 0 {
		t.Errorf("the second Learn = %q, %v", changed, err)
	}
	for name, value := range map[string]string{"cluster-cidr": "10.0.0.0/99", "flannel-backend": "cable", "disable-kube-proxy": "perhaps"} {
		if _, err := agent.Learn(map[string]string{name: value}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Learn(%s=%s) = %v", name, value, err)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
