package args

import (
	goflag "flag"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var update = goflag.Bool("update", false, "rewrite the golden files")

// golden compares text with a file under testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", file, text)
	}
}

func lines(args []string) string { return strings.Join(args, "\n") + "\n" }

func example(role Role) Config {
	c := Config{Role: role}
	if role == Agent {
		c.ServerURL, c.Token = "https://192.0.2.1:6443", "secret"
	}
	c.NodeLabels, c.NodeTaints = []string{"site=attic", "gpu=none"}, []string{"edge=yes:NoSchedule"}
	c.KubeletArgs, c.APIServerArgs = []string{"v=3", "max-pods=30"}, []string{"audit-log-path=/var/log/audit"}
	c.ControllerManagerArgs, c.SchedulerArgs, c.KubeProxyArgs = []string{"leader-elect=true"}, []string{"v=2"}, []string{"proxy-mode=iptables"}
	c.Defaults("node1", net.IPv4(192, 0, 2, 7))
	return c
}

func TestComponentArguments(t *testing.T) {
	c := example(Server)
	golden(t, "kube-apiserver.txt", lines(c.APIServer()))
	golden(t, "kube-controller-manager.txt", lines(c.ControllerManager()))
	golden(t, "kube-scheduler.txt", lines(c.Scheduler()))
	golden(t, "kubelet.txt", lines(c.Kubelet()))
	golden(t, "kube-proxy.txt", lines(c.KubeProxy()))
	golden(t, "kubelet.yaml", c.KubeletConfig())
	golden(t, "kubelet-agent.txt", lines(example(Agent).Kubelet()))
}

func TestKubeletConfigIsYAML(t *testing.T) {
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(example(Server).KubeletConfig()), &doc); err != nil {
		t.Fatal(err)
	}
	if doc["kind"] != "KubeletConfiguration" {
		t.Errorf("kind = %v", doc["kind"])
	}
}

func TestMerge(t *testing.T) {
	ours := []string{"--a=1", "--b=2"}
	for _, tt := range []struct{ theirs, want []string }{
		{nil, []string{"--a=1", "--b=2"}},
		{[]string{"b=3"}, []string{"--a=1", "--b=3"}},
		{[]string{"c=3", "c=4"}, []string{"--a=1", "--b=2", "--c=3", "--c=4"}},
		{[]string{"a"}, []string{"--b=2", "--a"}},
	} {
		if got := merge(ours, tt.theirs); !slices.Equal(got, tt.want) {
			t.Errorf("merge(%q) = %q, want %q", tt.theirs, got, tt.want)
		}
	}
	if !slices.Equal(ours, []string{"--a=1", "--b=2"}) {
		t.Errorf("merge changed its input: %q", ours)
	}
}

// One server must not write leases that nobody reads: they make most of the
// wear of its flash.
func TestNoIdleWriters(t *testing.T) {
	var c Config
	c.Defaults("node1", net.IPv4(192, 0, 2, 7))
	for name, list := range map[string][]string{"controller-manager": c.ControllerManager(), "scheduler": c.Scheduler()} {
		if !slices.Contains(list, "--leader-elect=false") {
			t.Errorf("%s elects a leader", name)
		}
	}
	if !slices.ContainsFunc(c.APIServer(), func(a string) bool { return strings.Contains(a, "APIServerIdentity=false") }) {
		t.Error("the API server renews an identity lease")
	}
}
