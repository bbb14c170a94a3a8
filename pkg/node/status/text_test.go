package status

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kedgeos/kedge/pkg/api/config"
)

var update = flag.Bool("update", false, "rewrite golden files")

func ready() Status {
	return Status{
		Version: "0.1.0", ID: "0123456789abcdef", Mode: "live", Hostname: "till-7", Online: true,
		Links:    []Link{{Name: "eth0", Carrier: true, Addresses: []string{"192.0.2.77/24", "2001:db8::77/64"}}, {Name: "eth1"}},
		Node:     Node{Name: "till-7", Role: "server", Address: "192.0.2.77", Ready: true, Kubernetes: "v1.36.3"},
		Login:    Login{User: "kedge", Password: true, Keys: 2},
		Sources:  []string{"/usr/lib/kedge/config.yaml", "medium KEDGE (/dev/sdb1)/config.yaml"},
		Services: []Service{{Name: "kube", State: "running", Pid: 311, Restarts: 1}, {Name: "sshd", State: "stopped"}},
		Stages:   []Stage{{"initrd", 0.81}, {"ready", 12.34}},
	}
}

func starting() Status {
	return Status{
		Version: "0.1.0", Mode: "disk", Hostname: "kedge-0a0b0c",
		Links: []Link{{Name: "eth0", Carrier: true}},
		Node:  Node{Name: "kedge-0a0b0c", Role: "agent", Address: "198.18.0.1", Reason: "Kubernetes is starting"},
		Login: Login{User: "kedge"},
	}
}

func crowded() Status {
	s := ready()
	s.Mode, s.Messages, s.Install = "install", []string{"first", "second"}, "installing to /dev/nvme0n1"
	s.Slot, s.Trial, s.Root = "b", true, "verified as it is read (dm-verity)"
	s.KubeTrial = "Kubernetes v1.37.0 (00000000000000a2) is on trial"
	s.Links = nil
	for _, name := range []string{"eth0", "eth1", "eth2", "eth3", "eth4", "eth5"} {
		s.Links = append(s.Links, Link{Name: name, Carrier: true, Addresses: []string{"192.0.2.77/24"}})
	}
	for range 8 {
		s.Skipped = append(s.Skipped, config.Problem{File: "medium KEDGE (/dev/sdb1)/config.yaml", Line: 3, Column: 1, Key: "hostnam",
			Message: "unknown key that goes on for longer than a line of the terminal has room", Nearest: "hostname"})
	}
	s.Node.Ready, s.Node.Reason = false, "KubeletNotReady: container runtime network not ready:\ncni plugin not initialized"
	return s
}

func damaged() Status {
	s := ready()
	s.Mode, s.Slot, s.Root = "disk", "a", "verified as it is read (dm-verity)"
	s.Damage = "root file system of slot a is damaged (block 1234)"
	s.Mend = "\"kedge upgrade apply IMAGE\" writes slot b, or install again"
	return s
}

func TestTexts(t *testing.T) {
	for name, s := range map[string]Status{"ready": ready(), "starting": starting(), "crowded": crowded(), "damaged": damaged(), "empty": {Version: "0.1.0"}} {
		golden(t, name+".banner", Banner(s))
		golden(t, name+".status", Text(s))
	}
}

func TestBannerFits(t *testing.T) {
	for _, s := range []Status{ready(), starting(), crowded(), damaged(), {}} {
		banner := Banner(s)
		if n := strings.Count(banner, "\n"); n >= Rows {
			t.Errorf("%d lines:\n%s", n, banner)
		}
		for line := range strings.Lines(banner) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > Columns {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", path, got)
	}
}
