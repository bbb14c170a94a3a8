package pki

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/args"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// settingsName is the ConfigMap, in kube-system, with the settings that a
// joining node takes over.
const settingsName = "kedge-cluster"

// nodesGroup is the group of every node that has joined.
const nodesGroup = "system:nodes"

// publishSettings lets joining and joined nodes read the cluster's settings.
func publishSettings(ctx context.Context, client clientset.Interface, settings map[string]string) error {
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: settingsName}, Data: settings}
	if _, err := maps.Create(ctx, m, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		if _, err := maps.Update(ctx, m, metav1.UpdateOptions{}); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return grant(ctx, client, "kedge:cluster-settings", []string{groupNodeToken, nodesGroup}, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{settingsName}, Verbs: []string{"get"}},
	})
}

// settingsWait is how long a server may take to answer a node that has joined
// before: that node knows the settings already.
const settingsWait = 5 * time.Second

// Settings asks the server of this node for the cluster's settings and keeps
// them. Without an answer those of the last time count.
func Settings(ctx context.Context, c args.Config) (map[string]string, error) {
	file := filepath.Join(c.AgentDir(), "etc", "cluster.json")
	settings, err := askSettings(ctx, c)
	if err != nil {
		b, e := os.ReadFile(file)
		if e != nil || json.Unmarshal(b, &settings) != nil {
			return nil, fmt.Errorf("%s: %w", c.ServerURL, err)
		}
		return settings, nil
	}
	b, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	return settings, writeFile(file, b, 0o644)
}

func askSettings(ctx context.Context, c args.Config) (map[string]string, error) {
	identity := c.KubeletKubeconfig()
	if !Joined(c, time.Now()) {
		identity = filepath.Join(c.AgentDir(), bootstrapKubeconfig)
	}
	conf, err := clientcmd.BuildConfigFromFlags("", identity)
	if err != nil {
		return nil, err
	}
	conf.Timeout = settingsWait
	client, err := clientset.NewForConfig(conf)
	if err != nil {
		return nil, err
	}
	m, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, settingsName, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}
