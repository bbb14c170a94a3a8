package pki

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"

	"github.com/kedgeos/kedge/cmd/kube/args"
)

// TestMend leaves files of the kubelet as a power cut does.
func TestMend(t *testing.T) {
	cert, key, err := certutil.GenerateSelfSignedCertKey("edge-1", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := certutil.GenerateSelfSignedCertKey("edge-1", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	const (
		crt, pem, current = "kubelet-pki/kubelet.crt", "kubelet-pki/kubelet-client-2026.pem", "kubelet-pki/kubelet-client-current.pem"
		private           = "kubelet-pki/kubelet.key"
		conf              = "kubelet.kubeconfig"
	)
	for name, c := range map[string]struct {
		change map[string][]byte
		gone   []string
	}{
		"sound":                    {nil, nil},
		"no certificate":           {map[string][]byte{crt: {}}, []string{crt, private}},
		"no key":                   {map[string][]byte{private: {}}, []string{crt, private}},
		"zeros":                    {map[string][]byte{crt: make([]byte, len(cert))}, []string{crt, private}},
		"a key of another":         {map[string][]byte{private: other}, []string{crt, private}},
		"no client's certificate":  {map[string][]byte{pem: {}}, []string{current, pem}},
		"half of it":               {map[string][]byte{pem: cert}, []string{current, pem}},
		"no kubeconfig":            {map[string][]byte{conf: {}}, []string{conf}},
		"a kubeconfig cut in half": {map[string][]byte{conf: []byte("apiVersion: v1\nclus")}, []string{conf}},
	} {
		t.Run(name, func(t *testing.T) {
			c0 := args.Config{DataDir: t.TempDir()}
			at := func(name string) string {
				if name == conf {
					return c0.KubeletKubeconfig()
				}
				return filepath.Join(c0.AgentDir(), name)
			}
			put := func(name string, data []byte) {
				if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at(name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put(crt, cert)
			put(private, key)
			put(pem, slices.Concat(cert, key))
			if err := os.Symlink(at(pem), at(current)); err != nil {
				t.Fatal(err)
			}
			sound := clientcmdapi.NewConfig()
			sound.Clusters["kedge"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:6443"}
			if err := write(sound, at(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			for name, data := range c.change {
				put(name, data)
			}
			removed, err := Mend(c0)
			var want []string
			for _, name := range c.gone {
				want = append(want, at(name))
			}
			if err != nil || !slices.Equal(removed, want) {
				t.Errorf("removed %v, error %v, want %v", removed, err, want)
			}
			if again, err := Mend(c0); err != nil || len(again) > 0 {
				t.Errorf("a second time: %v, %v", again, err)
			}
		})
	}
	if removed, err := Mend(args.Config{DataDir: t.TempDir()}); err != nil || len(removed) > 0 {
		t.Errorf("a new node: %v, %v", removed, err)
	}
}
