package pki

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/args"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	kubeadmapi "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm"
	"k8s.io/kubernetes/cmd/kubeadm/app/discovery"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/bootstraptoken/clusterinfo"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/bootstraptoken/node"
	kubeconfigphase "k8s.io/kubernetes/cmd/kubeadm/app/phases/kubeconfig"
)

// Publish gives a running API what joining nodes need: the join token, the
// rights of bootstrap tokens and nodes, and the signed cluster-info.
func (c *Cluster) Publish(ctx context.Context) error {
	dir := filepath.Join(c.config.ServerDir(), "cred")
	client, err := kubeconfigphase.EnsureAdminClusterRoleBinding(dir, &c.kubeadm.LocalAPIEndpoint, nil)
	if err != nil {
		return fmt.Errorf("bind administrator: %w", err)
	}
	if err := c.dropOldTokens(ctx, client); err != nil {
		return fmt.Errorf("remove old join token: %w", err)
	}
	if err := node.UpdateOrCreateTokens(client, false, c.kubeadm.BootstrapTokens); err != nil {
		return fmt.Errorf("store join token: %w", err)
	}
	for _, allow := range []func(clientset.Interface) error{
		node.AllowBootstrapTokensToGetNodes, node.AllowBootstrapTokensToPostCSRs, node.AutoApproveNodeBootstrapTokens,
		node.AutoApproveNodeCertificateRotation, node.AllowAPIServerToAccessKubeletAPI,
		func(client clientset.Interface) error { return allowNodes(ctx, client) },
		func(client clientset.Interface) error { return publishSettings(ctx, client, c.config.Shared()) },
	} {
		if err := allow(client); err != nil {
			return fmt.Errorf("grant rights of nodes: %w", err)
		}
	}
	conf, err := clientcmd.LoadFromFile(c.config.ServerKubeconfig("admin"))
	if err != nil {
		return err
	}
	for _, cluster := range conf.Clusters {
		cluster.Server = fmt.Sprintf("https://%s:%d", c.config.AdvertiseIP, c.config.HTTPSListenPort)
	}
	if err := clusterinfo.CreateBootstrapConfigMapIfNotExists(client, conf); err != nil {
		return fmt.Errorf("publish cluster-info: %w", err)
	}
	return clusterinfo.CreateClusterInfoRBACRules(client)
}

// dropOldTokens removes the join tokens that this server made of other secrets
// than today's.
func (c *Cluster) dropOldTokens(ctx context.Context, client clientset.Interface) error {
	secrets := client.CoreV1().Secrets(metav1.NamespaceSystem)
	list, err := secrets.List(ctx, metav1.ListOptions{FieldSelector: "type=bootstrap.kubernetes.io/token"})
	if err != nil {
		return err
	}
	ours := c.kubeadm.BootstrapTokens[0]
	for _, s := range list.Items {
		if string(s.Data["description"]) != ours.Description || string(s.Data["token-id"]) == ours.Token.ID {
			continue
		}
		if err := secrets.Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// MarkNode gives this server's own node the role label that a node may not give
// itself.
func (c *Cluster) MarkNode(ctx context.Context) error {
	conf, err := clientcmd.BuildConfigFromFlags("", c.config.ServerKubeconfig("super-admin"))
	if err != nil {
		return err
	}
	client, err := clientset.NewForConfig(conf)
	if err != nil {
		return err
	}
	patch := []byte(`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":"true"}}}`)
	_, err = client.CoreV1().Nodes().Patch(ctx, c.config.NodeName, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// allowNodes lets every node's own identity serve its kube-proxy and flannel.
func allowNodes(ctx context.Context, client clientset.Interface) error {
	return grant(ctx, client, "kedge:node-network", []string{nodesGroup}, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"services", "endpoints", "pods"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"servicecidrs"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch", "update"}},
	})
}

// grant gives groups the rights of rules, through a cluster role of this name.
func grant(ctx context.Context, client clientset.Interface, name string, groups []string, rules []rbacv1.PolicyRule) error {
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	if _, err := client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		if _, err := client.RbacV1().ClusterRoles().Update(ctx, role, metav1.UpdateOptions{}); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	}
	for _, g := range groups {
		binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "Group", Name: g})
	}
	_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Join asks the server for the cluster's CA, checks it by the token's signature
// and the pin, if there is one, and writes what the kubelet needs to ask for its
// own certificate. It tries for at most wait.
func Join(c args.Config, wait time.Duration) error {
	token, err := ParseToken(c.Token)
	if err != nil {
		return err
	}
	server, err := url.Parse(c.ServerURL)
	if err != nil || server.Host == "" {
		return fmt.Errorf("server %q is not a URL such as https://192.0.2.10:6443", c.ServerURL)
	}
	endpoint := server.Host
	if server.Port() == "" {
		endpoint += ":6443"
	}
	conf, err := discovery.For(nil, &kubeadmapi.JoinConfiguration{
		NodeRegistration: kubeadmapi.NodeRegistrationOptions{Name: c.NodeName},
		Discovery: kubeadmapi.Discovery{
			TLSBootstrapToken: token.Bootstrap,
			// The answer is signed with the token; the pin is checked below.
			BootstrapToken: &kubeadmapi.BootstrapTokenDiscovery{Token: token.Bootstrap, APIServerEndpoint: endpoint, UnsafeSkipCAVerification: true},
		},
		Timeouts: &kubeadmapi.Timeouts{Discovery: &metav1.Duration{Duration: wait}},
	})
	if err != nil {
		return fmt.Errorf("join %s: %w", c.ServerURL, err)
	}
	for _, cluster := range conf.Clusters {
		if hash := CAHash(cluster.CertificateAuthorityData); token.CAHash != "" && token.CAHash != hash {
			return fmt.Errorf("join %s: the server's CA has hash %s, the token says %s: wrong server or old token", c.ServerURL, hash, token.CAHash)
		}
		cluster.Server = "https://" + endpoint
		if err := writeFile(filepath.Join(c.AgentDir(), "client-ca.crt"), cluster.CertificateAuthorityData, 0o644); err != nil {
			return err
		}
	}
	return write(conf, filepath.Join(c.AgentDir(), bootstrapKubeconfig), 0o600)
}

// bootstrapKubeconfig lets a joining kubelet ask for its own certificate.
const bootstrapKubeconfig = "bootstrap-kubelet.kubeconfig"

// Joined says whether an earlier start left a usable certificate of this node,
// so that no server is needed to go on.
func Joined(c args.Config, now time.Time) bool {
	b, err := os.ReadFile(filepath.Join(c.AgentDir(), "kubelet-pki", "kubelet-client-current.pem"))
	return err == nil && !stale(b, now, nil) && exists(c.KubeletKubeconfig()) && exists(filepath.Join(c.AgentDir(), "client-ca.crt"))
}
