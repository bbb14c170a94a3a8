package args

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// merge adds the user's NAME=VALUE arguments to ours; theirs replace ours of
// the same name.
func merge(ours, theirs []string) []string {
	name := func(arg string) string {
		n, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		return n
	}
	replaced := map[string]bool{}
	for _, a := range theirs {
		replaced[name(a)] = true
	}
	out := slices.DeleteFunc(slices.Clone(ours), func(a string) bool { return replaced[name(a)] })
	for _, a := range theirs {
		out = append(out, "--"+a)
	}
	return out
}

func (c Config) verbosity() []string {
	switch {
	case c.Verbosity > 0:
		return []string{"--v=" + strconv.Itoa(c.Verbosity)}
	case c.Debug:
		return []string{"--v=4"}
	}
	return nil
}

// LocalURL is the API as this server's own components reach it.
func (c Config) LocalURL() string {
	return "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(c.HTTPSListenPort))
}

// APIServer returns kube-apiserver's arguments. The two gates that are off are
// of no use on a single server and make two thirds of its idle writes.
func (c Config) APIServer() []string {
	pki := c.TLSDir()
	return merge(append([]string{
		"--etcd-servers=unix://" + c.KineSocket(), "--storage-backend=etcd3",
		"--advertise-address=" + c.AdvertiseIP, "--bind-address=" + c.BindAddress, "--secure-port=" + strconv.Itoa(c.HTTPSListenPort),
		"--allow-privileged=true", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true", "--profiling=false", "--anonymous-auth=true",
		"--feature-gates=APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false",
		"--client-ca-file=" + pki + "/ca.crt", "--tls-cert-file=" + pki + "/apiserver.crt", "--tls-private-key-file=" + pki + "/apiserver.key",
		"--kubelet-client-certificate=" + pki + "/apiserver-kubelet-client.crt", "--kubelet-client-key=" + pki + "/apiserver-kubelet-client.key",
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--proxy-client-cert-file=" + pki + "/front-proxy-client.crt", "--proxy-client-key-file=" + pki + "/front-proxy-client.key",
		"--requestheader-client-ca-file=" + pki + "/front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--service-account-issuer=https://kubernetes.default.svc." + c.ClusterDomain,
		"--service-account-key-file=" + pki + "/sa.pub", "--service-account-signing-key-file=" + pki + "/sa.key",
		"--service-cluster-ip-range=" + c.ServiceCIDR,
		// A lease would be written every ten seconds; one server needs none.
		"--endpoint-reconciler-type=master-count", "--apiserver-count=1",
	}, c.verbosity()...), c.APIServerArgs)
}

// ControllerManager returns kube-controller-manager's arguments.
func (c Config) ControllerManager() []string {
	pki, conf := c.TLSDir(), c.ServerKubeconfig("controller-manager")
	return merge(append([]string{
		"--kubeconfig=" + conf, "--authentication-kubeconfig=" + conf, "--authorization-kubeconfig=" + conf,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false", "--use-service-account-credentials=true",
		// Each controller first asks for its own credentials: at the default rate that alone takes five seconds.
		"--kube-api-qps=200", "--kube-api-burst=400",
		"--allocate-node-cidrs=true", "--cluster-cidr=" + c.ClusterCIDR, "--service-cluster-ip-range=" + c.ServiceCIDR,
		"--client-ca-file=" + pki + "/ca.crt", "--requestheader-client-ca-file=" + pki + "/front-proxy-ca.crt", "--root-ca-file=" + pki + "/ca.crt",
		"--service-account-private-key-file=" + pki + "/sa.key",
		"--cluster-signing-cert-file=" + pki + "/ca.crt", "--cluster-signing-key-file=" + pki + "/ca.key",
		"--flex-volume-plugin-dir=" + c.AgentDir() + "/kubelet-plugins",
		"--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
	}, c.verbosity()...), c.ControllerManagerArgs)
}

// Scheduler returns kube-scheduler's arguments.
func (c Config) Scheduler() []string {
	conf := c.ServerKubeconfig("scheduler")
	return merge(append([]string{
		"--kubeconfig=" + conf, "--authentication-kubeconfig=" + conf, "--authorization-kubeconfig=" + conf,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
	}, c.verbosity()...), c.SchedulerArgs)
}

// Kubelet returns the kubelet's arguments; its other settings are in the file
// that KubeletConfig writes.
func (c Config) Kubelet() []string {
	out := []string{
		"--config=" + c.AgentDir() + "/kubelet.yaml", "--root-dir=/var/lib/kubelet", "--cert-dir=" + c.AgentDir() + "/kubelet-pki",
		"--kubeconfig=" + c.KubeletKubeconfig(), "--hostname-override=" + c.NodeName, "--node-ip=" + c.NodeIP,
	}
	if c.Role == Agent {
		out = append(out, "--bootstrap-kubeconfig="+c.AgentDir()+"/bootstrap-kubelet.kubeconfig")
	}
	if len(c.NodeLabels) > 0 {
		out = append(out, "--node-labels="+strings.Join(c.NodeLabels, ","))
	}
	if len(c.NodeTaints) > 0 {
		out = append(out, "--register-with-taints="+strings.Join(c.NodeTaints, ","))
	}
	return merge(append(out, c.verbosity()...), c.KubeletArgs)
}

// KubeProxy returns kube-proxy's arguments. It uses the kubelet's identity: the
// server lets nodes read what a proxy needs.
func (c Config) KubeProxy() []string {
	return merge(append([]string{
		"--kubeconfig=" + c.KubeletKubeconfig(), "--proxy-mode=nftables", "--cluster-cidr=" + c.ClusterCIDR,
		"--hostname-override=" + c.NodeName, "--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
		"--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249",
	}, c.verbosity()...), c.KubeProxyArgs)
}

// KubeletConfig returns the kubelet's configuration file. Cgroup version 1 is
// only for development machines; the image has version 2.
func (c Config) KubeletConfig() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]s/client-ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupsPerQOS: %[5]t
enforceNodeAllocatable: [%[6]s]
clusterDNS: [%[2]s]
clusterDomain: %[3]s
containerRuntimeEndpoint: unix://%[7]s
containerLogMaxSize: 5Mi
containerLogMaxFiles: 3
evictionHard: {imagefs.available: "5%%", nodefs.available: "5%%", memory.available: 50Mi}
evictionMinimumReclaim: {imagefs.available: "10%%", nodefs.available: "10%%"}
failCgroupV1: false
failSwapOn: false
healthzBindAddress: 127.0.0.1
kubeReserved: {memory: 128Mi}
nodeLeaseDurationSeconds: 40
rotateCertificates: true
serializeImagePulls: false
resolvConf: %[4]s
staticPodPath: %[1]s/pod-manifests
volumePluginDir: %[1]s/kubelet-plugins
`, c.AgentDir(), c.ClusterDNS, c.ClusterDomain, c.ResolvConf, true, "pods", ContainerdSocket)
}
