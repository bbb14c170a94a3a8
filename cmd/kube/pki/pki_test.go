package pki

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"k8s.io/client-go/tools/clientcmd"
)

// server returns a Config whose files are all in a folder of the test.
func server(t *testing.T) args.Config {
	dir := t.TempDir()
	c := args.Config{Role: args.Server, DataDir: dir, WriteKubeconfig: filepath.Join(dir, "k3s.yaml"), TLSSANs: []string{"edge.example"}}
	c.Defaults("node1", net.IPv4(192, 0, 2, 7))
	return c
}

func ensure(t *testing.T, c args.Config, now time.Time) []string {
	t.Helper()
	cluster, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	made, err := cluster.Ensure(now)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func certificate(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s holds no PEM block", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// snapshot is the content of every file below dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestEnsureMakesAWholePKI(t *testing.T) {
	c := server(t)
	ensure(t, c, time.Now())
	api := certificate(t, filepath.Join(c.TLSDir(), "apiserver.crt"))
	for _, name := range []string{"127.0.0.1", "192.0.2.7", "10.43.0.1", "localhost", "node1", "edge.example", "kubernetes.default.svc.cluster.local"} {
		if err := api.VerifyHostname(name); err != nil {
			t.Errorf("apiserver.crt: %v", err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate(t, filepath.Join(c.TLSDir(), "ca.crt")))
	if _, err := api.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
		t.Errorf("apiserver.crt: %v", err)
	}
	for file := range snapshot(t, c.DataDir) {
		st, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if open := st.Mode().Perm() &^ 0o600; open != 0 && !strings.HasSuffix(file, ".crt") && !strings.HasSuffix(file, ".pub") {
			t.Errorf("%s has mode %v", file, st.Mode())
		}
	}
}

func TestEnsureIdentities(t *testing.T) {
	c := server(t)
	ensure(t, c, time.Now())
	for file, want := range map[string]struct{ name, group string }{
		c.WriteKubeconfig:                        {"kubernetes-super-admin", "system:masters"},
		c.KubeletKubeconfig():                    {"system:node:node1", "system:nodes"},
		c.ServerKubeconfig("scheduler"):          {"system:kube-scheduler", ""},
		c.ServerKubeconfig("controller-manager"): {"system:kube-controller-manager", ""},
	} {
		conf, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		block, _ := pem.Decode(conf.CertData)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if cert.Subject.CommonName != want.name || want.group != "" && !slices.Contains(cert.Subject.Organization, want.group) {
			t.Errorf("%s is %v, want %v", file, cert.Subject, want)
		}
		if conf.Host != c.LocalURL() {
			t.Errorf("%s points to %s, want %s", file, conf.Host, c.LocalURL())
		}
	}
}

func TestEnsureTwiceChangesNothing(t *testing.T) {
	c := server(t)
	ensure(t, c, time.Now())
	before := snapshot(t, c.DataDir)
	if made := ensure(t, c, time.Now().Add(24*time.Hour)); len(made) != 0 {
		t.Errorf("Ensure made %q the second time", made)
	}
	for file, text := range snapshot(t, c.DataDir) {
		if before[file] != text {
			t.Errorf("%s changed", file)
		}
	}
}

func TestEnsureRenews(t *testing.T) {
	year := 365 * 24 * time.Hour
	for _, tt := range []struct {
		name  string
		later time.Duration
		want  bool
	}{
		{"at once", 0, false},
		{"100 days before the end", year - 100*24*time.Hour, false},
		{"80 days before the end", year - 80*24*time.Hour, true},
		{"long after the end", 3 * year, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := server(t)
			begin := time.Now()
			ensure(t, c, begin)
			made := ensure(t, c, begin.Add(tt.later))
			if renewed := slices.Contains(made, "apiserver.crt") && slices.Contains(made, "kubelet.conf"); renewed != tt.want {
				t.Errorf("Ensure made %q, want renewal %t", made, tt.want)
			}
		})
	}
}

func TestEnsureFollowsNames(t *testing.T) {
	c := server(t)
	ensure(t, c, time.Now())
	ca := certificate(t, filepath.Join(c.TLSDir(), "ca.crt"))
	c.NodeIP, c.AdvertiseIP, c.TLSSANs = "192.0.2.8", "192.0.2.8", append(c.TLSSANs, "other.example")
	ensure(t, c, time.Now())
	api := certificate(t, filepath.Join(c.TLSDir(), "apiserver.crt"))
	for _, name := range []string{"192.0.2.8", "other.example"} {
		if err := api.VerifyHostname(name); err != nil {
			t.Errorf("after the change: %v", err)
		}
	}
	if !ca.Equal(certificate(t, filepath.Join(c.TLSDir(), "ca.crt"))) {
		t.Error("the CA changed with the names")
	}
}

// A power cut at the first start leaves files that are empty or cut short.
func TestEnsureMendsBrokenFiles(t *testing.T) {
	for _, name := range []string{
		"server/tls/apiserver.crt", "server/tls/apiserver.key", "server/tls/front-proxy-client.crt", "server/tls/ca.crt", "server/tls/ca.key",
		"server/tls/front-proxy-ca.key", "server/tls/sa.key", "server/tls/sa.pub", "server/cred/scheduler.conf", "agent/kubelet.kubeconfig", "k3s.yaml", "server/token",
	} {
		for _, keep := range []int{0, 40} {
			t.Run(name+" "+map[int]string{0: "empty", 40: "cut short"}[keep], func(t *testing.T) {
				c := server(t)
				ensure(t, c, time.Now())
				file := filepath.Join(c.DataDir, name)
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, b[:min(keep, len(b)/2)], 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(filepath.Join(c.TLSDir(), "complete")); err != nil {
					t.Fatal(err)
				}
				ensure(t, c, time.Now())
				ensure(t, c, time.Now().Add(360*24*time.Hour)) // needs the keys of the CAs
				roots := x509.NewCertPool()
				roots.AddCert(certificate(t, filepath.Join(c.TLSDir(), "ca.crt")))
				if _, err := certificate(t, filepath.Join(c.TLSDir(), "apiserver.crt")).Verify(x509.VerifyOptions{Roots: roots}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A CA that breaks later is not made anew: every node trusts the old one.
func TestEnsureKeepsItsHandsOffTheCA(t *testing.T) {
	c := server(t)
	ensure(t, c, time.Now())
	file := filepath.Join(c.TLSDir(), "ca.crt")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cluster, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Ensure(time.Now()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Ensure = %v, want an error that names %s", err, file)
	}
}

func TestEnsureRenewsWhenTheClockWasWrong(t *testing.T) {
	c := server(t)
	ensure(t, c, time.Now())
	if made := ensure(t, c, time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)); !slices.Contains(made, "apiserver.crt") {
		t.Errorf("Ensure made %q in 1970, want certificates that are not yet valid made anew", made)
	}
}

func TestSecret(t *testing.T) {
	c := server(t)
	first, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(c)
	if err != nil || second.Secret != first.Secret {
		t.Errorf("Open = %q, %v, want the secret of the first start, %q", second.Secret, err, first.Secret)
	}
	c.Token = "correct horse"
	if third, err := Open(c); err != nil || third.Secret != "correct horse" {
		t.Errorf("Open with a token = %v", err)
	}
	c.Token = ""
	if fourth, err := Open(c); err != nil || fourth.Secret != "correct horse" {
		t.Errorf("Open = %v, want the user's token of the start before", err)
	}
}

func TestKubeconfigMode(t *testing.T) {
	c := server(t)
	c.KubeconfigMode = "644"
	ensure(t, c, time.Now())
	st, err := os.Stat(c.WriteKubeconfig)
	if err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("k3s.yaml has mode %v, %v", st.Mode(), err)
	}
	c.KubeconfigMode = "rw"
	cluster, err := Open(c)
	if err == nil {
		_, err = cluster.Ensure(time.Now())
	}
	if err == nil || !strings.Contains(err.Error(), `"rw"`) {
		t.Errorf("mode rw = %v, want an error that names it", err)
	}
}

func TestJoined(t *testing.T) {
	c := server(t)
	if Joined(c, time.Now()) {
		t.Error("Joined without any file")
	}
	ensure(t, c, time.Now())
	if Joined(c, time.Now()) {
		t.Error("Joined without the kubelet's certificate")
	}
	pair := []byte{}
	for _, name := range []string{"apiserver-kubelet-client.crt", "apiserver-kubelet-client.key"} {
		b, err := os.ReadFile(filepath.Join(c.TLSDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		pair = append(pair, b...)
	}
	if err := writeFile(filepath.Join(c.AgentDir(), "kubelet-pki", "kubelet-client-current.pem"), pair, 0o600); err != nil {
		t.Fatal(err)
	}
	if !Joined(c, time.Now()) {
		t.Error("not Joined with a sound certificate")
	}
	if Joined(c, time.Now().Add(2*365*24*time.Hour)) {
		t.Error("Joined with a certificate that has ended")
	}
}

func TestWriteFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sub", "f")
	for _, text := range []string{"a", "a", "b"} {
		if err := writeFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != text {
			t.Errorf("after writeFile(%q): %q, %v", text, b, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("writeFile left %v behind, %v", entries, err)
	}
}
