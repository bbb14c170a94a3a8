// Package pki keeps the cluster's keys and certificates: the CAs, what the
// control plane's components and the local kubelet show each other, kubeconfigs
// and the join token.
//
// It works through kubeadm's phases as a library; those are not a stable API,
// and this package is the only one that sees them, together with join.go's
// discovery. Certificates live a year; Ensure makes those anew that end within
// args.RenewBefore, are damaged, not yet valid, or do not name what they must.
package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	bootstraptokenv1 "k8s.io/kubernetes/cmd/kubeadm/app/apis/bootstraptoken/v1"
	kubeadmapi "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm"
	kubeadmv1 "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1beta4"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/certs"
	kubeconfigphase "k8s.io/kubernetes/cmd/kubeadm/app/phases/kubeconfig"
	configutil "k8s.io/kubernetes/cmd/kubeadm/app/util/config"
)

// groupNodeToken is the group of bootstrap tokens that may join nodes.
const groupNodeToken = "system:bootstrappers:kubeadm:default-node-token"

// A Cluster is the server's side of the PKI.
type Cluster struct {
	config  args.Config
	kubeadm *kubeadmapi.InitConfiguration
	Secret  string // of the join token, as the user or NewSecret gave it
}

// Open reads or makes the join token and prepares kubeadm's view of c.
func Open(c args.Config) (*Cluster, error) {
	secret, err := secret(c)
	if err != nil {
		return nil, err
	}
	token, err := ParseToken(secret)
	if err != nil {
		return nil, err
	}
	bootstrap, err := bootstraptokenv1.NewBootstrapTokenString(token.Bootstrap)
	if err != nil {
		return nil, err
	}
	kubeadm, err := configutil.DefaultedInitConfiguration(&kubeadmv1.InitConfiguration{
		LocalAPIEndpoint: kubeadmv1.APIEndpoint{AdvertiseAddress: c.AdvertiseIP, BindPort: int32(c.HTTPSListenPort)},
		NodeRegistration: kubeadmv1.NodeRegistrationOptions{Name: c.NodeName, CRISocket: "unix://" + args.ContainerdSocket},
		BootstrapTokens: []bootstraptokenv1.BootstrapToken{{
			Token: bootstrap, Description: "join token of this cluster",
			Groups: []string{groupNodeToken}, Usages: []string{"signing", "authentication"},
		}},
	}, &kubeadmv1.ClusterConfiguration{
		KubernetesVersion: args.Version, CertificatesDir: c.TLSDir(), ClusterName: "default",
		Networking:          kubeadmv1.Networking{ServiceSubnet: c.ServiceCIDR, PodSubnet: c.ClusterCIDR, DNSDomain: c.ClusterDomain},
		EncryptionAlgorithm: kubeadmv1.EncryptionAlgorithmECDSAP256,
		APIServer:           kubeadmv1.APIServer{CertSANs: names(c)},
	}, configutil.LoadOrDefaultConfigurationOptions{SkipCRIDetect: true})
	if err != nil {
		return nil, fmt.Errorf("prepare certificates: %w", err)
	}
	return &Cluster{config: c, kubeadm: kubeadm, Secret: secret}, nil
}

// secret returns the user's token, else the one of an earlier start, else a new one.
func secret(c args.Config) (string, error) {
	file := filepath.Join(c.ServerDir(), "token")
	if c.Token != "" {
		return c.Token, writeFile(file, []byte(c.Token+"\n"), 0o600)
	}
	if b, err := os.ReadFile(file); err == nil && len(b) > 1 {
		return string(b[:len(b)-1]), nil
	}
	s, err := NewSecret()
	if err != nil {
		return "", err
	}
	return s, writeFile(file, []byte(s+"\n"), 0o600)
}

// names are the further names and addresses of the API's certificate.
func (c *Cluster) names() []string { return names(c.config) }

func names(c args.Config) []string {
	out := append([]string{"127.0.0.1", "localhost", "::1", c.NodeName}, c.TLSSANs...)
	for _, ip := range []string{c.NodeIP, c.NodeExternalIP} {
		if ip != "" {
			out = append(out, ip)
		}
	}
	return out
}

// Ensure makes every file that is missing or must be renewed. It returns the
// names of what was made.
func (c *Cluster) Ensure(now time.Time) (made []string, err error) {
	if err := c.startOver(); err != nil {
		return nil, err
	}
	made, err = c.dropStale(now)
	if err != nil {
		return made, err
	}
	tree, err := certs.GetCertsWithoutEtcd().AsMap().CertTree()
	if err != nil {
		return made, err
	}
	if err := tree.CreateTree(c.kubeadm); err != nil {
		return made, fmt.Errorf("make certificates: %w", err)
	}
	if err := certs.CreateServiceAccountKeyAndPublicKeyFiles(c.config.TLSDir(), c.kubeadm.EncryptionAlgorithmType()); err != nil {
		return made, fmt.Errorf("make service account keys: %w", err)
	}
	if err := c.kubeconfigs(); err != nil {
		return made, err
	}
	if exists(c.complete()) {
		return made, nil
	}
	syscall.Sync() // kubeadm's phases do not
	err = writeFile(c.complete(), []byte("every key and certificate was written\n"), 0o600)
	syscall.Sync() // the name of the mark, too, before anybody uses the keys
	return made, err
}

// complete marks a PKI that was wholly written once.
func (c *Cluster) complete() string { return c.file("complete") }

// startOver removes what a first start left that was cut off: nobody can have
// used it.
func (c *Cluster) startOver() error {
	cred := filepath.Join(c.config.ServerDir(), "cred")
	if !exists(c.complete()) {
		for _, dir := range []string{c.config.TLSDir(), cred} {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	for _, dir := range []string{c.config.TLSDir(), cred} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// leaves are the certificates that are signed by our CAs; CAs themselves live
// ten years and are never replaced by themselves.
var leaves = []string{"apiserver", "apiserver-kubelet-client", "front-proxy-client"}

// credentials are the kubeconfigs with a client certificate inside.
var credentials = []string{"admin", "super-admin", "controller-manager", "scheduler", "kubelet"}

// dropStale removes what is damaged or must be renewed, so that it is made anew.
func (c *Cluster) dropStale(now time.Time) (dropped []string, err error) {
	drop := func(files ...string) {
		dropped = append(dropped, filepath.Base(files[0]))
		for _, f := range files {
			if e := os.Remove(f); e != nil && !os.IsNotExist(e) && err == nil {
				err = e
			}
		}
	}
	for _, name := range leaves {
		crt, key := c.file(name+".crt"), c.file(name+".key")
		want := []string(nil)
		if name == "apiserver" {
			want = append(c.names(), c.config.AdvertiseIP)
		}
		if exists(crt) || exists(key) {
			b, _ := os.ReadFile(crt)
			if _, err := tls.LoadX509KeyPair(crt, key); err != nil || stale(b, now, want) {
				drop(crt, key)
			}
		}
	}
	for _, name := range credentials {
		file := c.config.ServerKubeconfig(name)
		if exists(file) && staleKubeconfig(file, now, c.config.LocalURL()) {
			drop(file)
		}
	}
	return dropped, err
}

func (c *Cluster) file(name string) string { return filepath.Join(c.config.TLSDir(), name) }

func exists(file string) bool { _, err := os.Stat(file); return err == nil }

// stale says whether the certificate in PEM is unreadable, outside its time or
// near its end, or does not name all of want.
func stale(data []byte, now time.Time, want []string) bool {
	block, _ := pem.Decode(data)
	if block == nil {
		return true
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || now.Before(cert.NotBefore) || now.Add(args.RenewBefore).After(cert.NotAfter) {
		return true
	}
	return slices.ContainsFunc(want, func(name string) bool {
		if ip := net.ParseIP(name); ip != nil {
			return !slices.ContainsFunc(cert.IPAddresses, ip.Equal)
		}
		return !slices.Contains(cert.DNSNames, name)
	})
}

func staleKubeconfig(file string, now time.Time, url string) bool {
	conf, err := clientcmd.LoadFromFile(file)
	if err != nil || len(conf.AuthInfos) == 0 {
		return true
	}
	for _, user := range conf.AuthInfos {
		if stale(user.ClientCertificateData, now, nil) {
			return true
		}
	}
	for _, cluster := range conf.Clusters {
		if cluster.Server != url {
			return true
		}
	}
	return false
}

// kubeconfigs writes what the components use, all through this machine's own
// loopback address, and the administrator's copy.
func (c *Cluster) kubeconfigs() error {
	dir := filepath.Join(c.config.ServerDir(), "cred")
	for _, name := range credentials {
		file := c.config.ServerKubeconfig(name)
		if exists(file) {
			continue
		}
		if err := kubeconfigphase.CreateKubeConfigFile(name+".conf", dir, c.kubeadm); err != nil {
			return fmt.Errorf("make %s: %w", file, err)
		}
		if err := pointTo(file, c.config.LocalURL()); err != nil {
			return err
		}
	}
	return c.publish()
}

func pointTo(file, url string) error {
	conf, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return err
	}
	for _, cluster := range conf.Clusters {
		cluster.Server = url
	}
	return write(conf, file, 0o600)
}

func write(conf *clientcmdapi.Config, file string, mode os.FileMode) error {
	b, err := clientcmd.Write(*conf)
	if err != nil {
		return err
	}
	return writeFile(file, b, mode)
}

// publish copies what others read: the administrator's kubeconfig, the node
// token, the local kubelet's identity and the CA for it.
func (c *Cluster) publish() error {
	var mode os.FileMode = 0o600
	if _, err := fmt.Sscanf(c.config.KubeconfigMode, "%o", &mode); err != nil {
		return fmt.Errorf("write-kubeconfig-mode %q is not an octal number", c.config.KubeconfigMode)
	}
	admin, err := os.ReadFile(c.config.ServerKubeconfig("super-admin"))
	if err != nil {
		return err
	}
	if err := writeFile(c.config.WriteKubeconfig, admin, mode); err != nil {
		return err
	}
	ca, err := os.ReadFile(c.file("ca.crt"))
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(c.config.ServerDir(), "node-token"), []byte(NodeToken(c.Secret, ca)+"\n"), 0o600); err != nil {
		return err
	}
	kubelet, err := os.ReadFile(c.config.ServerKubeconfig("kubelet"))
	if err != nil {
		return err
	}
	if err := writeFile(c.config.KubeletKubeconfig(), kubelet, 0o600); err != nil {
		return err
	}
	return writeFile(filepath.Join(c.config.AgentDir(), "client-ca.crt"), ca, 0o644)
}
