package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kedgeos/kedge/pkg/api/channel"
	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/format/registries"
	"github.com/kedgeos/kedge/pkg/host/publish"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// A track is a channel with one, and whoever publishes it.
type track struct {
	file    string
	key     minisign.SecretKey
	public  string // in the form of a .pub file
	options registry.Options
}

// newTrack has no release yet; the registry of the stories is reached at an
// address of this host.
func newTrack(t *testing.T, here string) *track {
	t.Helper()
	key, err := minisign.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().File("ours")
	if err != nil {
		t.Fatal(err)
	}
	mirrors := registries.File{Mirrors: map[string]registries.Mirror{registryAddress: {Endpoints: []string{"http://" + here}}}}
	options, err := registry.OptionsFor(releaseImage, mirrors, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	return &track{filepath.Join(t.TempDir(), "channel.json"), key, string(public), options}
}

// publish names a release, and puts the document where the cluster has it.
func (r *track) publish(t *testing.T, c *cluster, image string) {
	t.Helper()
	if _, err := publish.SetTrack(t.Context(), r.file, publish.Track{Name: "stable", OS: image}, r.key, r.options); err != nil {
		t.Fatal(err)
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "releases"}, Data: map[string]string{}}
	for key, file := range map[string]string{"channel": r.file, "channel" + channel.SignatureSuffix: r.file + channel.SignatureSuffix} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m.Data[key] = string(text)
	}
	maps := c.core.CoreV1().ConfigMaps(upgradeNamespace)
	_ = maps.Delete(t.Context(), m.Name, metav1.DeleteOptions{}) // it may not be there
	if _, err := maps.Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// isFollowed: a plan that nobody changes rolls what a signed channel names, and
// later what it names then.
func (r *track) isFollowed(t *testing.T, c *cluster) {
	fleet := c.fleet(t, "follows", 2)
	r.publish(t, c, releaseImage)
	c.apply(t, "follows", "channel: {configMap: {namespace: kedge-system, name: releases}, interval: 1m}")
	c.phase(t, "follows", v1alpha1.PlanComplete)
	c.did(t, fleet, once)
	r.publish(t, c, strings.Replace(releaseImage, ":v2", ":v3", 1))
	c.until(t, "the next release on every node", func() bool {
		p := c.plan(t, "follows")
		return p.Status.Phase == v1alpha1.PlanComplete && p.Status.Target != nil && p.Status.Target.OS.Version == "3.0.0"
	})
	c.did(t, fleet, once+" "+once)
	for _, h := range fleet {
		if got := h.running().Version; got != "3.0.0" {
			t.Errorf("%s runs %s", h.name, got)
		}
	}
}
