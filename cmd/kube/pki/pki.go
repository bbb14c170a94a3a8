// Package pki makes and renews what the parts of a cluster know each other by:
// the certificate authorities, the certificates and kubeconfigs they sign, and
// the token machines join with. The rules of kubeadm's phases hold; this is
// the only package beside server that knows them.
//
// Every file is written in one step. One that is missing, broken, about to end
// or made for other names is made anew; a sound one keeps its bytes.
package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	kubeadmapi "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm"
	kubeadmv1 "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1beta4"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/certs"
	kubeconfigphase "k8s.io/kubernetes/cmd/kubeadm/app/phases/kubeconfig"
	configutil "k8s.io/kubernetes/cmd/kubeadm/app/util/config"
	"k8s.io/kubernetes/cmd/kubeadm/app/util/pkiutil"

	"github.com/kedgeos/kedge/cmd/kube/args"
)

// Renewal is how long before its end a certificate is replaced.
const Renewal = 90 * 24 * time.Hour

// lifetime of the client certificates in kubeconfigs.
const lifetime = 365 * 24 * time.Hour

// Ensure brings the server's whole PKI in order and returns the files it
// wrote. The zero-length list means that nothing had to change.
func Ensure(c args.Config, now time.Time) ([]string, error) {
	cfg, err := Kubeadm(c)
	if err != nil {
		return nil, err
	}
	dir := cfg.CertificatesDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make PKI folder: %w", err)
	}
	scratch, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return nil, fmt.Errorf("make PKI folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	if err := keepSound(cfg, dir, scratch, now); err != nil {
		return nil, err
	}
	cfg.CertificatesDir = scratch
	if err := create(cfg); err != nil {
		return nil, fmt.Errorf("create PKI: %w", err)
	}
	written, err := install(scratch, dir)
	if err != nil {
		return written, err
	}
	cfg.CertificatesDir = dir
	confs, err := kubeconfigs(c, cfg, now)
	return append(written, confs...), err
}

// Kubeadm is the Config in kubeadm's words.
func Kubeadm(c args.Config) (*kubeadmapi.InitConfiguration, error) {
	sans := append([]string{"127.0.0.1", "localhost", c.NodeName, c.NodeIP}, c.TLSSANs...)
	if c.NodeExternalIP != "" {
		sans = append(sans, c.NodeExternalIP)
	}
	cfg, err := configutil.DefaultedInitConfiguration(&kubeadmv1.InitConfiguration{
		LocalAPIEndpoint: kubeadmv1.APIEndpoint{AdvertiseAddress: c.AdvertiseAddress, BindPort: int32(c.Port)},
		NodeRegistration: kubeadmv1.NodeRegistrationOptions{Name: c.NodeName, CRISocket: "unix:///run/k3s/containerd/containerd.sock"},
	}, &kubeadmv1.ClusterConfiguration{
		KubernetesVersion:   args.KubernetesVersion,
		CertificatesDir:     c.TLS(""),
		ClusterName:         "kedge",
		Networking:          kubeadmv1.Networking{ServiceSubnet: c.ServiceCIDR, PodSubnet: c.ClusterCIDR, DNSDomain: c.ClusterDomain},
		EncryptionAlgorithm: kubeadmv1.EncryptionAlgorithmECDSAP256,
		APIServer:           kubeadmv1.APIServer{CertSANs: sans},
	}, configutil.LoadOrDefaultConfigurationOptions{SkipCRIDetect: true})
	if err != nil {
		return nil, fmt.Errorf("check cluster settings: %w", err)
	}
	return cfg, nil
}

func create(cfg *kubeadmapi.InitConfiguration) error {
	tree, err := certs.GetCertsWithoutEtcd().AsMap().CertTree()
	if err != nil {
		return err
	}
	if err := tree.CreateTree(cfg); err != nil {
		return err
	}
	return certs.CreateServiceAccountKeyAndPublicKeyFiles(cfg.CertificatesDir, cfg.EncryptionAlgorithmType())
}

// keepSound copies what may stay from dir into scratch.
func keepSound(cfg *kubeadmapi.InitConfiguration, dir, scratch string, now time.Time) error {
	signer := map[string]*x509.Certificate{}
	for _, spec := range certs.GetCertsWithoutEtcd() {
		cert, key, err := pkiutil.TryLoadCertAndKeyFromDisk(dir, spec.BaseName)
		if err != nil || !samePair(cert, key) {
			continue
		}
		if spec.CAName != "" && !leafSound(cfg, spec, cert, signer[spec.CAName], now) {
			continue
		}
		signer[spec.Name] = cert
		for _, suffix := range []string{".crt", ".key"} {
			if err := copyFile(filepath.Join(dir, spec.BaseName+suffix), scratch); err != nil {
				return err
			}
		}
	}
	if _, _, err := pkiutil.TryLoadPrivatePublicKeyFromDisk(dir, "sa"); err == nil {
		for _, name := range []string{"sa.key", "sa.pub"} {
			if err := copyFile(filepath.Join(dir, name), scratch); err != nil {
				return err
			}
		}
	}
	return nil
}

func samePair(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// leafSound tells whether a certificate may be used on.
func leafSound(cfg *kubeadmapi.InitConfiguration, spec *certs.KubeadmCert, cert, ca *x509.Certificate, now time.Time) bool {
	if ca == nil || cert.CheckSignatureFrom(ca) != nil || Due(cert, now) {
		return false
	}
	want, err := spec.GetConfig(cfg)
	if err != nil {
		return false
	}
	for _, name := range want.AltNames.DNSNames {
		if !slices.Contains(cert.DNSNames, name) {
			return false
		}
	}
	for _, ip := range want.AltNames.IPs {
		if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			return false
		}
	}
	return true
}

// Due tells whether a certificate is to be replaced: its end is near, or the
// clock stands outside its life.
func Due(cert *x509.Certificate, now time.Time) bool {
	return now.Add(Renewal).After(cert.NotAfter) || now.Before(cert.NotBefore)
}

func copyFile(path, dir string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("keep %s: %w", path, err)
	}
	return os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o600)
}

// install moves what is new in scratch into place.
func install(scratch, dir string) ([]string, error) {
	entries, err := os.ReadDir(scratch)
	if err != nil {
		return nil, fmt.Errorf("list new PKI: %w", err)
	}
	var written []string
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(scratch, e.Name()))
		if err != nil {
			return written, fmt.Errorf("read new PKI: %w", err)
		}
		path := filepath.Join(dir, e.Name())
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
			continue
		}
		if err := WriteFile(path, data, 0o600); err != nil {
			return written, err
		}
		written = append(written, path)
	}
	return written, nil
}

// identity is one kubeconfig with a client certificate.
type identity struct {
	path   string
	name   string
	groups []string
	server string
	mode   os.FileMode
}

func identities(c args.Config) []identity {
	local := c.LocalURL()
	list := []identity{
		{c.TLS("super-admin.kubeconfig"), "kubernetes-super-admin", []string{"system:masters"}, local, 0o600},
		{c.TLS("admin.kubeconfig"), "kubernetes-admin", []string{"kubeadm:cluster-admins"}, local, 0o600},
		{c.TLS("controller-manager.kubeconfig"), "system:kube-controller-manager", nil, local, 0o600},
		{c.TLS("scheduler.kubeconfig"), "system:kube-scheduler", nil, local, 0o600},
		{c.Kubeconfig, "kedge-admin", []string{"system:masters"}, local, os.FileMode(c.KubeconfigMode)},
	}
	if !c.DisableAgent {
		list = append(list, identity{c.NodeKubeconfig(), "system:node:" + c.NodeName, []string{"system:nodes"}, local, 0o600})
	}
	return list
}

func kubeconfigs(c args.Config, cfg *kubeadmapi.InitConfiguration, now time.Time) ([]string, error) {
	ca, err := os.ReadFile(c.TLS("ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	var written []string
	for _, id := range identities(c) {
		if kubeconfigSound(id, ca, now) {
			if err := os.Chmod(id.path, id.mode); err != nil {
				return written, fmt.Errorf("set mode: %w", err)
			}
			continue
		}
		data, err := kubeconfig(cfg, id, now)
		if err != nil {
			return written, fmt.Errorf("make kubeconfig of %s: %w", id.name, err)
		}
		if err := WriteFile(id.path, data, id.mode); err != nil {
			return written, err
		}
		written = append(written, id.path)
	}
	if c.DisableAgent {
		return written, nil
	}
	return written, WriteFile(c.Path("agent", "client-ca.crt"), ca, 0o644)
}

func kubeconfig(cfg *kubeadmapi.InitConfiguration, id identity, now time.Time) ([]byte, error) {
	var raw bytes.Buffer
	if err := kubeconfigphase.WriteKubeConfigWithClientCert(&raw, cfg, id.name, id.groups, now.Add(lifetime)); err != nil {
		return nil, err
	}
	kc, err := clientcmd.Load(raw.Bytes())
	if err != nil {
		return nil, err
	}
	for _, cluster := range kc.Clusters {
		cluster.Server = id.server
	}
	return clientcmd.Write(*kc)
}

// kubeconfigSound tells whether a kubeconfig may stay as it is.
func kubeconfigSound(id identity, ca []byte, now time.Time) bool {
	cert, kc, err := ClientCertificate(id.path)
	if err != nil || Due(cert, now) || cert.Subject.CommonName != id.name {
		return false
	}
	root, err := parse(ca)
	if err != nil || cert.CheckSignatureFrom(root) != nil {
		return false
	}
	return kc.server == id.server && bytes.Equal(kc.ca, ca)
}

type endpoint struct {
	server string
	ca     []byte
}

// ClientCertificate reads the client certificate of a kubeconfig, which may
// stand in it or beside it.
func ClientCertificate(path string) (*x509.Certificate, endpoint, error) {
	rc, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, endpoint{}, fmt.Errorf("read %s: %w", path, err)
	}
	data := rc.CertData
	if len(data) == 0 {
		if data, err = os.ReadFile(rc.CertFile); err != nil {
			return nil, endpoint{}, fmt.Errorf("read certificate of %s: %w", path, err)
		}
	}
	cert, err := parse(data)
	return cert, endpoint{rc.Host, rc.CAData}, err
}

func parse(data []byte) (*x509.Certificate, error) {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errors.New("no certificate in it")
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
		data = rest
	}
}

// HostPort returns the address part of a server URL, with the default port.
func HostPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(host, fmt.Sprint(args.DefaultPort))
}
