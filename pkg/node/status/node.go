package status

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"
)

// Kubeconfig is the kubelet's own, on servers and agents alike.
const Kubeconfig = "/var/lib/rancher/k3s/agent/kubelet.kubeconfig"

// kubeconfig is as much of a kubeconfig file as a kubelet's needs.
type kubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server string `yaml:"server"`
			CA     string `yaml:"certificate-authority"`
			CAData blob   `yaml:"certificate-authority-data"`
		} `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		User struct {
			Cert     string `yaml:"client-certificate"`
			CertData blob   `yaml:"client-certificate-data"`
			Key      string `yaml:"client-key"`
			KeyData  blob   `yaml:"client-key-data"`
		} `yaml:"user"`
	} `yaml:"users"`
}

// blob is base64 text in the file.
type blob []byte

// UnmarshalYAML implements yaml.Unmarshaler.
func (b *blob) UnmarshalYAML(n *yaml.Node) error {
	quoted, err := json.Marshal(n.Value)
	if err != nil {
		return err
	}
	return json.Unmarshal(quoted, (*[]byte)(b))
}

// access is what a kubeconfig leads to.
type access struct {
	server        string
	ca, cert, key []byte
}

// readAccess reads a kubeconfig and the files it names; relative paths start
// at its folder.
func readAccess(file string) (access, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return access{}, err
	}
	var k kubeconfig
	if err := yaml.Unmarshal(text, &k); err != nil {
		return access{}, fmt.Errorf("read %s: %w", file, err)
	}
	if len(k.Clusters) == 0 || len(k.Users) == 0 {
		return access{}, fmt.Errorf("read %s: no cluster or no user in it", file)
	}
	cluster, user := k.Clusters[0].Cluster, k.Users[0].User
	a := access{server: cluster.Server}
	var errs [3]error
	a.ca, errs[0] = dataOr(cluster.CAData, file, cluster.CA)
	a.cert, errs[1] = dataOr(user.CertData, file, user.Cert)
	a.key, errs[2] = dataOr(user.KeyData, file, user.Key)
	return a, errors.Join(errs[:]...)
}

func dataOr(data blob, file, path string) ([]byte, error) {
	if len(data) > 0 || path == "" {
		return data, nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(file), path)
	}
	return os.ReadFile(path)
}

func (a access) equal(b access) bool {
	return a.server == b.server && bytes.Equal(a.ca, b.ca) && bytes.Equal(a.cert, b.cert) && bytes.Equal(a.key, b.key)
}

func (a access) client() (*http.Client, error) {
	pair, err := tls.X509KeyPair(a.cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("read the kubelet's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.ca) {
		return nil, errors.New("read the kubelet's kubeconfig: no CA certificate in it")
	}
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 10 * time.Second, MaxIdleConns: 1, IdleConnTimeout: time.Minute,
		},
	}, nil
}

// A Watcher asks the API server about one node with the kubelet's
// certificate, which may change at any time.
type Watcher struct {
	Kubeconfig string    // "" means the usual place
	BootID     string    // of this boot: what the node said before it does not count; "" takes anything
	Since      time.Time // what the node said before this does not count either; zero takes anything

	last   access
	client *http.Client
}

// Node asks once. It never gives an error: what went wrong is the Reason.
// Name and Role are the caller's to fill in.
func (w *Watcher) Node(ctx context.Context, name string) Node {
	n, err := w.ask(ctx, name)
	if err != nil {
		return Node{Reason: reason(err)}
	}
	return n
}

// reason makes a few words of an error for people.
func reason(err error) string {
	var u *url.Error
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "Kubernetes is starting"
	case errors.As(err, &u) && u.Timeout():
		return "the API server does not answer in time"
	case errors.As(err, &u):
		return "the API server does not answer: " + u.Err.Error()
	}
	return err.Error()
}

func (w *Watcher) ask(ctx context.Context, name string) (Node, error) {
	if err := w.connect(); err != nil {
		return Node{}, err
	}
	body, err := w.get(ctx, "/api/v1/nodes/"+url.PathEscape(name))
	if err != nil {
		return Node{}, err
	}
	n, boot, heard, err := readNode(body)
	if n.Ready && w.BootID != "" && boot != w.BootID {
		n.Ready, n.Reason = false, "the kubelet has not reported since this boot"
	}
	if n.Ready && heard.Before(w.Since.Truncate(time.Second)) { // the kubelet tells whole seconds
		n.Ready, n.Reason = false, "the kubelet has not reported since kube was started"
	}
	if err != nil || !n.Ready {
		return n, err
	}
	if _, err := w.get(ctx, "/readyz"); err != nil {
		n.Ready, n.Reason = false, "the API server is not ready yet"
	}
	return n, nil
}

// connect reads the kubeconfig again, and makes a new client when it changed.
func (w *Watcher) connect() error {
	file := w.Kubeconfig
	if file == "" {
		file = Kubeconfig
	}
	now, err := readAccess(file)
	if err != nil || w.client != nil && now.equal(w.last) {
		return err
	}
	if w.client != nil {
		w.client.CloseIdleConnections()
	}
	w.client, err = now.client()
	w.last = now
	return err
}

func (w *Watcher) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.last.server+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound:
		return nil, errors.New("the node has not registered yet")
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the API server answers %s", resp.Status)
	}
	return body, nil
}

// Version asks which version the API server is.
func (w *Watcher) Version(ctx context.Context) (string, error) {
	if err := w.connect(); err != nil {
		return "", err
	}
	body, err := w.get(ctx, "/version")
	if err != nil {
		return "", err
	}
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return "", fmt.Errorf("read version of the API server: %w", err)
	}
	return v.GitVersion, nil
}

// readNode reads what matters here of a v1 Node, the boot that it is of, and
// when its kubelet last said that it is ready.
func readNode(body []byte) (node Node, boot string, heard time.Time, err error) {
	var n struct {
		Status struct {
			NodeInfo struct {
				KubeletVersion string `json:"kubeletVersion"`
				BootID         string `json:"bootID"`
			} `json:"nodeInfo"`
			Conditions []struct {
				Type, Status, Reason, Message string
				Heard                         time.Time `json:"lastHeartbeatTime"`
			} `json:"conditions"`
		} `json:"status"`
	}
	if err := json.Unmarshal(body, &n); err != nil {
		return Node{}, "", time.Time{}, fmt.Errorf("read node: %w", err)
	}
	out := Node{Kubernetes: n.Status.NodeInfo.KubeletVersion, Reason: "the kubelet has not reported yet"}
	for _, c := range n.Status.Conditions {
		if c.Type != "Ready" {
			continue
		}
		out.Ready, out.Reason, heard = c.Status == "True", c.Reason, c.Heard
		if c.Message != "" {
			out.Reason += ": " + c.Message
		}
		if out.Ready {
			out.Reason = ""
		}
	}
	return out, n.Status.NodeInfo.BootID, heard, nil
}
