package cri

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/cmd/kube/child"
	"github.com/kedgeos/kedge/cmd/kube/say"
)

// Prepare writes containerd's configuration and folders.
func Prepare(c args.Config) error {
	// What the user took out of registries.yaml must not stay.
	if err := os.RemoveAll(RegistriesDir(c)); err != nil {
		return err
	}
	for _, dir := range []string{args.ContainerdDir, filepath.Join(c.AgentDir(), "containerd"), CNIDir(c), RegistriesDir(c)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	// The kubelet's statistics look for containerd only here.
	if err := os.Symlink(args.ContainerdDir, "/run/containerd"); err != nil && !os.IsExist(err) {
		return err
	}
	// A mistake in the user's file does not take the machine down: it runs what it
	// has, and says why other images do not come.
	if err := Registries(c); err != nil {
		say.Printf("registries are left as they are without a file: %v", err)
	}
	return os.WriteFile(configFile(c), []byte(Config(c, PluginDir(), restricted())), 0o600)
}

func configFile(c args.Config) string {
	return filepath.Join(c.AgentDir(), "etc", "containerd", "config.toml")
}

// PluginDir is where the CNI plugins are: the image's folder, else the folder
// of this program.
func PluginDir() string {
	if dir := os.Getenv("KUBE_CNI_DIR"); dir != "" {
		return dir
	}
	const image = "/usr/libexec/cni"
	if _, err := os.Stat(image); err == nil {
		return image
	}
	self, err := os.Executable()
	if err != nil {
		return image
	}
	return filepath.Dir(self)
}

// restricted says that OOM scores cannot be lowered here, as in a sandbox.
func restricted() bool {
	old, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return false
	}
	err = os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0)
	if err == nil {
		err = os.WriteFile("/proc/self/oom_score_adj", old, 0)
	}
	return err != nil
}

// Command is the child that runs containerd. Its shims outlive it: they are in
// no process group of ours and get no signal when it ends.
func Command(c args.Config) child.Command {
	level := "warn"
	if c.Debug {
		level = "debug"
	}
	return child.Command{Name: "containerd", Args: []string{"containerd", "--config", configFile(c), "--log-level", level}}
}

// Wait returns when containerd answers.
func Wait(ctx context.Context) error {
	for {
		conn, err := net.DialTimeout("unix", args.ContainerdSocket, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("containerd does not answer: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
