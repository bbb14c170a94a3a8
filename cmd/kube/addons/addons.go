// Package addons brings manifests into the cluster: those that are linked in,
// and every file that lies in server/manifests, whenever it changes.
//
// Objects are applied by server-side apply. What an earlier version of a file
// named and the new one does not is deleted; removing a file removes nothing,
// as users of k3s expect. FILE.skip beside FILE leaves it alone.
package addons

import (
	"embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/pkg/cluster/controller"
)

// CoreDNSImage is preloaded by the image's builder under this name.
const CoreDNSImage = "kedge.local/coredns:v1.15.0"

//go:embed manifests/*.yaml
var ours embed.FS

// bundled returns the manifests that are linked in, by the name of their file.
func bundled() (map[string]string, error) {
	out := map[string]string{"upgrade-controller.yaml": controller.Manifest}
	entries, err := ours.ReadDir("manifests")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := ours.ReadFile("manifests/" + e.Name())
		if err != nil {
			return nil, err
		}
		out[e.Name()] = string(data)
	}
	return out, nil
}

// Bundled writes the add-ons that come with kube into the manifests folder and
// removes the files of those that the user disabled; it returns the latter.
func Bundled(c args.Config) (disabled []string, err error) {
	if err := os.MkdirAll(c.ManifestsDir(), 0o700); err != nil {
		return nil, err
	}
	all, err := bundled()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		file := filepath.Join(c.ManifestsDir(), name)
		if slices.Contains(c.Disable, strings.TrimSuffix(name, ".yaml")) {
			disabled = append(disabled, name)
			if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
				return disabled, err
			}
			continue
		}
		if err := os.WriteFile(file, []byte(fill(c, self, all[name])), 0o600); err != nil {
			return disabled, fmt.Errorf("write add-on: %w", err)
		}
	}
	return disabled, nil
}

// fill puts the cluster's own values into a bundled manifest. Kube is the path of
// this program, which is the same on every machine of a cluster.
func fill(c args.Config, kube, manifest string) string {
	return strings.NewReplacer(
		"@CLUSTER_DOMAIN@", c.ClusterDomain,
		"@CLUSTER_DNS@", c.ClusterDNS,
		"@COREDNS_IMAGE@", CoreDNSImage,
		"@PAUSE_IMAGE@", c.PauseImage,
		"@KUBE@", kube,
		"@VERSION@", args.Version,
	).Replace(manifest)
}
