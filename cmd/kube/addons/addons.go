// Package addons brings manifests into the cluster: those that are linked in,
// and every file that lies in server/manifests, whenever it changes.
//
// Objects are applied by server-side apply. What an earlier version of a file
// named and the new one does not is deleted; removing a file removes nothing,
// as users of k3s expect. FILE.skip beside FILE leaves it alone.
package addons

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/cmd/kube/say"
	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/controller"
	"github.com/kedgeos/kedge/pkg/format/registries"
)

// CoreDNSImage is preloaded by the image's builder under this name.
const CoreDNSImage = "kedge.local/coredns:v1.15.0"

const controllerAddon = "upgrade-controller.yaml"

//go:embed manifests/*.yaml
var ours embed.FS

// bundled returns the manifests that are linked in, by the name of their file.
func bundled() (map[string]string, error) {
	out := map[string]string{controllerAddon: controller.Manifest}
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
	self, err := program()
	if err != nil {
		return nil, err
	}
	secret, err := registriesSecret(c.PrivateRegistry)
	if err != nil {
		return nil, err
	}
	all[controllerAddon] += secret
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

// systemKube is the kube that every machine's system brings.
const systemKube = "/usr/bin/kube"

// program is the path of a kube that all machines of a cluster have: that of the
// system. This one may be another, put beside it; where there is no system of
// ours, it is the one.
func program() (string, error) {
	if _, err := os.Stat(systemKube); err == nil {
		return systemKube, nil
	}
	return os.Executable()
}

// registriesSecret is a manifest of the Secret by which the upgrade controller
// knows how this server is told to speak to registries; "" when it is not told.
// A certificate that cannot be read is left out: whoever needs it will say so.
func registriesSecret(file string) (string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	f, err := registries.Parse(text)
	if err != nil {
		say.Printf("%s: %v; the upgrade controller is not told of it", file, err)
		return "", nil
	}
	data := map[string][]byte{registries.SecretKey(registries.Path): text}
	for _, name := range f.Files() {
		if content, err := os.ReadFile(name); err == nil {
			data[registries.SecretKey(name)] = content
		}
	}
	b, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
		"metadata": map[string]string{"name": "upgrade-registries", "namespace": v1alpha1.Namespace},
	})
	return "---\n" + string(b) + "\n", err
}

// fill puts the cluster's own values into a bundled manifest. Kube is the path of
// a kube that is the same on every machine of a cluster.
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
