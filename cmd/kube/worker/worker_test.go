package worker

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/cmd/kube/cri"
	corev1 "k8s.io/api/core/v1"
)

func TestPodResolvConf(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"no file", "", noResolver},
		{"name servers", "nameserver 192.0.2.1\nsearch example\nnameserver 2001:db8::1\n", "nameserver 192.0.2.1\nsearch example\nnameserver 2001:db8::1\n"},
		{"loopback is left out", "nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"},
		{"only loopback", "search example\nnameserver 127.0.0.1\n", "search example\n" + noResolver},
		{"not an address", "nameserver router\n", noResolver},
		{"last line without an end", "nameserver 192.0.2.1", "nameserver 192.0.2.1\n"},
	} {
		if got := string(podResolvConf([]byte(tt.in))); got != tt.want {
			t.Errorf("%s: podResolvConf(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

func TestFlannelConfig(t *testing.T) {
	for _, backend := range []string{"vxlan", "host-gw"} {
		c := args.Config{ClusterCIDR: "10.1.0.0/16", FlannelBackend: backend}
		conf, err := subnet.ParseConfig(string(flannelConfig(c)))
		if err != nil {
			t.Fatal(err)
		}
		if conf.BackendType != backend || conf.Network.String() != "10.1.0.0/16" || !conf.EnableNFTables || !conf.EnableIPv4 || conf.EnableIPv6 {
			t.Errorf("flannel understands %+v", conf)
		}
		if err := subnet.CheckNetworkConfig(conf); err != nil {
			t.Errorf("flannel refuses it: %v", err)
		}
	}
}

func TestWriteCNI(t *testing.T) {
	c := args.Config{DataDir: t.TempDir()}
	c.Defaults("node1", net.IPv4(192, 0, 2, 7))
	if err := os.MkdirAll(cri.CNIDir(c), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeCNI(c, "10.42.3.0/24", 1450); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(cri.CNIDir(c), "*.conflist"))
	if err != nil || len(names) != 1 {
		t.Fatalf("network configurations: %q, %v", names, err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		CNIVersion string
		Name       string
		Plugins    []struct {
			Type string
			MTU  int
			IPAM struct{ Ranges [][]struct{ Subnet string } }
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Plugins) != 2 || list.Plugins[0].Type != "bridge" || list.Plugins[0].MTU != 1450 || list.Plugins[0].IPAM.Ranges[0][0].Subnet != "10.42.3.0/24" || list.Plugins[1].Type != "portmap" {
		t.Errorf("network configuration: %s", data)
	}
}

func TestReady(t *testing.T) {
	for _, tt := range []struct {
		conditions []corev1.NodeCondition
		want       bool
	}{
		{nil, false},
		{[]corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}, false},
		{[]corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}, false},
		{[]corev1.NodeCondition{{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue}}, false},
		{[]corev1.NodeCondition{{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue}}, true},
	} {
		n := &corev1.Node{Status: corev1.NodeStatus{Conditions: tt.conditions}}
		if got := ready(n); got != tt.want {
			t.Errorf("ready(%v) = %t, want %t", tt.conditions, got, tt.want)
		}
	}
}
