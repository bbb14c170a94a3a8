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
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/cmd/kube/args"
)

// CoreDNSImage is preloaded by the image's builder under this name.
const CoreDNSImage = "kedge.local/coredns:v1.15.0"

//go:embed manifests/*.yaml
var bundled embed.FS

// Bundled writes the add-ons that come with kube into the manifests folder and
// removes the files of those that the user disabled; it returns the latter.
func Bundled(c args.Config) (disabled []string, err error) {
	if err := os.MkdirAll(c.ManifestsDir(), 0o700); err != nil {
		return nil, err
	}
	entries, err := bundled.ReadDir("manifests")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		file := filepath.Join(c.ManifestsDir(), e.Name())
		if slices.Contains(c.Disable, strings.TrimSuffix(e.Name(), ".yaml")) {
			disabled = append(disabled, e.Name())
			if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
				return disabled, err
			}
			continue
		}
		data, err := bundled.ReadFile("manifests/" + e.Name())
		if err != nil {
			return disabled, err
		}
		if err := os.WriteFile(file, []byte(fill(c, string(data))), 0o600); err != nil {
			return disabled, fmt.Errorf("write add-on: %w", err)
		}
	}
	return disabled, nil
}

// fill puts the cluster's own values into a bundled manifest.
func fill(c args.Config, manifest string) string {
	return strings.NewReplacer(
		"@CLUSTER_DOMAIN@", c.ClusterDomain,
		"@CLUSTER_DNS@", c.ClusterDNS,
		"@COREDNS_IMAGE@", CoreDNSImage,
	).Replace(manifest)
}
