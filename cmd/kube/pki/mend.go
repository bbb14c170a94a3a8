package pki

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/kedgeos/kedge/cmd/kube/args"
)

// Mend removes what a power cut has left of files that the kubelet writes
// without waiting for the disk: with an empty one it never starts again, without
// it makes itself another. The error is about what could not be removed.
func Mend(c args.Config) (removed []string, err error) {
	dir := filepath.Join(c.AgentDir(), "kubelet-pki")
	serving := []string{filepath.Join(dir, "kubelet.crt"), filepath.Join(dir, "kubelet.key")}
	current := filepath.Join(dir, "kubelet-client-current.pem")
	client := []string{current}
	if target, err := filepath.EvalSymlinks(current); err == nil && target != current {
		client = append(client, target)
	}
	var all []error
	remove := func(files ...string) {
		for _, f := range files {
			switch err := os.Remove(f); {
			case err == nil:
				removed = append(removed, f)
			case !errors.Is(err, os.ErrNotExist):
				all = append(all, fmt.Errorf("remove what is left of a file: %w", err))
			}
		}
	}
	if _, err := tls.LoadX509KeyPair(serving[0], serving[1]); err != nil {
		remove(serving...)
	}
	if _, err := tls.LoadX509KeyPair(current, current); err != nil {
		remove(client...)
	}
	if conf, err := clientcmd.LoadFromFile(c.KubeletKubeconfig()); err != nil || len(conf.Clusters) == 0 {
		remove(c.KubeletKubeconfig())
	}
	return removed, errors.Join(all...)
}
