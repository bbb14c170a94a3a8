package status

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An apiServer is as much of one as a node asks for; it wants a client
// certificate of its CA.
type apiServer struct {
	*httptest.Server
	node   string // JSON; "" is not found
	status int
	readyz int
	names  []string // common names of those who asked
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.names = append(a.names, r.TLS.PeerCertificates[0].Subject.CommonName)
	switch {
	case r.URL.Path == "/version":
		fmt.Fprint(w, `{"major": "1", "gitVersion": "v1.36.3"}`)
	case r.URL.Path == "/readyz":
		w.WriteHeader(a.readyz)
	case a.status != 0:
		w.WriteHeader(a.status)
	case r.URL.Path == "/api/v1/nodes/n1" && a.node != "":
		fmt.Fprint(w, a.node)
	default:
		http.NotFound(w, r)
	}
}

// certificate makes a self-signed certificate, PEM coded, with its key.
func certificate(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func startAPI(t *testing.T) *apiServer {
	t.Helper()
	a := &apiServer{readyz: http.StatusOK}
	a.Server = httptest.NewUnstartedServer(a)
	a.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	a.StartTLS()
	t.Cleanup(a.Close)
	return a
}

func (a *apiServer) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
}

// kubeconfigWith writes a kubeconfig, with its data inline or in files.
func kubeconfigWith(t *testing.T, dir string, a *apiServer, name string, inline bool) string {
	t.Helper()
	cert, key := certificate(t, name)
	item := func(field, file string, data []byte) string {
		if inline {
			return field + "-data: " + base64.StdEncoding.EncodeToString(data)
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return field + ": " + file
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: %s
    %s
users:
- name: kubelet
  user:
    %s
    %s
`, a.URL, item("certificate-authority", "ca.crt", a.ca()), item("client-certificate", "client.crt", cert), item("client-key", "client.key", key))
	path := filepath.Join(dir, "kubelet.kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const readyNode = `{"status": {"nodeInfo": {"kubeletVersion": "v1.36.3", "bootID": "b1"}, "conditions": [
	{"type": "MemoryPressure", "status": "False", "reason": "x"}, {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-21T12:00:00Z", "reason": "KubeletReady", "message": "ok"}]}}`

func TestWatcher(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*apiServer)
		want   Node
	}{
		{"ready", func(a *apiServer) { a.node = readyNode }, Node{Ready: true, Kubernetes: "v1.36.3"}},
		{"not registered", func(*apiServer) {}, Node{Reason: "the node has not registered yet"}},
		{"forbidden", func(a *apiServer) { a.status = http.StatusForbidden }, Node{Reason: "the API server answers 403 Forbidden"}},
		{"node ready, server not", func(a *apiServer) { a.node, a.readyz = readyNode, 500 }, Node{Kubernetes: "v1.36.3", Reason: "the API server is not ready yet"}},
		{"not ready", func(a *apiServer) {
			a.node = strings.NewReplacer(`"True"`, `"False"`, "KubeletReady", "KubeletNotReady", `"ok"`, `"no network"`).Replace(readyNode)
		}, Node{Kubernetes: "v1.36.3", Reason: "KubeletNotReady: no network"}},
		{"ready before this boot", func(a *apiServer) { a.node = strings.Replace(readyNode, `"b1"`, `"b0"`, 1) }, Node{Kubernetes: "v1.36.3", Reason: "the kubelet has not reported since this boot"}},
		{"no conditions yet", func(a *apiServer) { a.node = "{}" }, Node{Reason: "the kubelet has not reported yet"}},
	} {
		a := startAPI(t)
		c.change(a)
		for _, inline := range []bool{true, false} {
			w := Watcher{Kubeconfig: kubeconfigWith(t, t.TempDir(), a, "system:node:n1", inline), BootID: "b1"}
			if got := w.Node(context.Background(), "n1"); got != c.want {
				t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
			}
		}
	}
}

// TestWatcherSince: what the node said of itself before a time does not count.
func TestWatcherSince(t *testing.T) {
	a := startAPI(t)
	a.node = readyNode
	said := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	w := Watcher{Kubeconfig: kubeconfigWith(t, t.TempDir(), a, "system:node:n1", true)}
	for since, ready := range map[time.Time]bool{{}: true, said.Add(-time.Minute): true, said.Add(999 * time.Millisecond): true, said.Add(time.Second): false} {
		w.Since = since
		if got := w.Node(t.Context(), "n1"); got.Ready != ready {
			t.Errorf("since %v: %+v", since, got)
		}
	}
	if v, err := w.Version(t.Context()); err != nil || v != "v1.36.3" {
		t.Errorf("Version = %q, %v", v, err)
	}
	a.Close()
	if v, err := w.Version(t.Context()); err == nil {
		t.Errorf("Version of a server that is gone = %q", v)
	}
}

func TestWatcherTakesNewCertificates(t *testing.T) {
	a, dir := startAPI(t), t.TempDir()
	a.node = readyNode
	w := Watcher{Kubeconfig: filepath.Join(dir, "kubelet.kubeconfig")}
	if got := w.Node(context.Background(), "n1"); got.Reason != "Kubernetes is starting" {
		t.Errorf("without a file: %+v", got)
	}
	for _, name := range []string{"first", "second"} {
		kubeconfigWith(t, dir, a, name, false)
		if got := w.Node(context.Background(), "n1"); !got.Ready || a.names[len(a.names)-1] != name {
			t.Errorf("%s: %+v asked by %q", name, got, a.names)
		}
	}
	a.Close()
	if got := w.Node(context.Background(), "n1"); got.Ready || !strings.HasPrefix(got.Reason, "the API server does not answer") {
		t.Errorf("server gone: %+v", got)
	}
}

func TestWatcherDistrustsOtherCAs(t *testing.T) {
	a := startAPI(t)
	a.node = readyNode
	path := kubeconfigWith(t, t.TempDir(), a, "n", true)
	stranger, _ := certificate(t, "stranger")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), base64.StdEncoding.EncodeToString(a.ca()), base64.StdEncoding.EncodeToString(stranger), 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	w := Watcher{Kubeconfig: path}
	if got := w.Node(context.Background(), "n1"); got.Ready {
		t.Error("a server of another CA was believed")
	}
}
