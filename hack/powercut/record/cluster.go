package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
)

// Cluster is the name of the recording of a control plane that is written to:
// the image's own kube, in namespaces of this host, with its data on the state
// of a disk like that of Native.
const Cluster = "cluster"

// MakeCluster makes the recording Cluster in a folder, with the kube of an image.
func MakeCluster(ctx context.Context, dir, image string, say func(string)) error {
	return makeNative(ctx, Cluster, dir, say, func(n *native, state string) error {
		kube, err := extractKube(ctx, image, n.work)
		if err != nil {
			return err
		}
		c, err := n.startKube(kube, filepath.Join(state, "lib/rancher/k3s"))
		if err != nil {
			return err
		}
		err = c.play()
		c.stop()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, c.said.Bytes()[max(0, c.said.Len()-2000):])
		}
		return nil
	})
}

// extractKube takes the program kube out of an image.
func extractKube(ctx context.Context, image, dir string) (string, error) {
	root := filepath.Join(dir, "root")
	return filepath.Join(root, "usr/bin/kube"), Extract(ctx, image, root, "usr/bin/kube")
}

// Extract takes files and folders out of the root of an image, to below a new
// folder. Paths are without a slash at the beginning.
func Extract(ctx context.Context, image, dir string, paths ...string) error {
	f, err := os.Open(image)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	i, err := release.Open(f, info.Size())
	if err != nil {
		return err
	}
	r, err := i.File(release.RootPath)
	if err != nil {
		return err
	}
	root, err := os.CreateTemp(filepath.Dir(dir), "root-*.squashfs")
	if err != nil {
		return err
	}
	defer os.Remove(root.Name())
	if _, err := io.Copy(root, r); err != nil {
		root.Close()
		return err
	}
	if err := root.Close(); err != nil {
		return err
	}
	_, err = command(ctx, nil, "unsquashfs", append([]string{"-q", "-n", "-d", dir, root.Name()}, paths...)...)
	return err
}

// cluster is a control plane that runs.
type cluster struct {
	n    *native
	kube string
	cmd  *exec.Cmd
	said bytes.Buffer
	rows int
}

// startKube starts the control plane in a network and with mounts of its own.
func (n *native) startKube(kube, data string) (*cluster, error) {
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	c := &cluster{n: n, kube: kube}
	const setUp = `set -e
mount -t tmpfs none /run
mkdir -p /etc/rancher
mount -t tmpfs none /etc/rancher
ip link set lo up
ip address add 10.99.0.1/32 dev lo
exec "$0" server --disable-agent --node-ip 10.99.0.1 --data-dir "$1"`
	c.cmd = exec.Command("unshare", "--net", "--mount", "--propagation", "private", "bash", "-c", setUp, kube, data)
	c.cmd.Stdout, c.cmd.Stderr = &c.said, &c.said
	return c, c.cmd.Start()
}

// stop cuts it off.
func (c *cluster) stop() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func (c *cluster) kubectl(stdin string, args ...string) error {
	all := append([]string{"--net", "--mount", "--target", fmt.Sprint(c.cmd.Process.Pid), "env", "KUBECONFIG=/etc/rancher/k3s/k3s.yaml", c.kube, "kubectl"}, args...)
	_, err := command(c.n.ctx, []byte(stdin), "nsenter", all...)
	return err
}

func (c *cluster) play() error {
	if err := c.n.r.phase("first start of the cluster"); err != nil {
		return err
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		err := c.kubectl("", "get", "namespace", "default")
		if err == nil {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("the cluster does not come up: %w", err)
		}
	}
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"writes of the cluster", func() error { return c.acknowledged(20) }},
		{"many writes of the cluster", c.load},
		{"writes after a rest", func() error {
			time.Sleep(7 * time.Second) // the kernel writes out what nobody asked it to
			return c.acknowledged(10)
		}},
	} {
		if err := c.n.r.phase(part.name); err != nil {
			return err
		}
		if err := part.do(); err != nil {
			return err
		}
	}
	return nil
}

// acknowledged makes ConfigMaps and notes each when the cluster has said that
// it is there.
func (c *cluster) acknowledged(n int) error {
	for range n {
		c.rows++
		name := fmt.Sprintf("promise-%d", c.rows)
		if err := c.kubectl("", "create", "configmap", name, "--from-literal=a=b"); err != nil {
			return err
		}
		if err := c.n.r.after(Mark{What: Row, Name: row(name)}); err != nil {
			return err
		}
	}
	return nil
}

// load makes many more at the same time.
func (c *cluster) load() error {
	done := make(chan error, 1)
	go func() { done <- c.kubectl(manyRows(400), "apply", "-f", "-") }()
	return errors.Join(c.acknowledged(20), <-done)
}

// manyRows is a manifest of n ConfigMaps of 2 KB.
func manyRows(n int) string {
	var many strings.Builder
	for i := range n {
		fmt.Fprintf(&many, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: load-%d}\ndata: {text: %q}\n", i, strings.Repeat("x", 2000))
	}
	return many.String()
}
