// Package cri runs containerd as a child: its configuration, start, readiness
// and the import of images from files.
//
// Source of the configuration's keys: containerd 2.3, config version 4.
package cri

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/kedgeos/kedge/cmd/kube/args"
)

// unused plugins cost memory or write outside our folders.
var unused = []string{
	"io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs",
	"io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
	"io.containerd.internal.v1.opt",
}

// Config returns containerd's configuration file. Plugins of the container
// network are looked for in cni. A development machine without the right to
// lower OOM scores sets restricted.
func Config(c args.Config, cni string, restricted bool) string {
	root := filepath.Join(c.AgentDir(), "containerd")
	return fmt.Sprintf(`version = 4
root = %[1]q
state = %[2]q
disabled_plugins = [%[3]s]
[plugins.'io.containerd.server.v1.grpc']
  address = %[4]q
[plugins.'io.containerd.server.v1.ttrpc']
  address = "%[5]s.ttrpc"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = %[6]q
  discard_unpacked_layers = true
  image_pull_with_sync_fs = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %[7]q
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = %[8]q
[plugins.'io.containerd.cri.v1.runtime']
  enable_selinux = false
  disable_apparmor = true
  restrict_oom_score_adj = %[9]t
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [%[10]q]
  conf_dir = %[11]q
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
`, root, filepath.Join(args.ContainerdDir, "state"), `"`+strings.Join(unused, `", "`)+`"`, args.ContainerdSocket, args.ContainerdSocket,
		c.Snapshotter, c.PauseImage, RegistriesDir(c), restricted, cni, CNIDir(c))
}

// CNIDir holds the configuration of the container network.
func CNIDir(c args.Config) string { return filepath.Join(c.AgentDir(), "etc", "cni", "net.d") }

// RegistriesDir holds containerd's hosts.toml files, one folder per registry.
func RegistriesDir(c args.Config) string {
	return filepath.Join(c.AgentDir(), "etc", "containerd", "certs.d")
}
