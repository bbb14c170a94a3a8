package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/nodeagent"
)

const upgradeNamespace = v1alpha1.Namespace

// upgradeConfig leaves nodes Ready that have no kubelet.
const upgradeConfig = "kube-controller-manager-arg: [node-monitor-grace-period=1h]\n"

// TestUpgrades plays plans on a real cluster: the API server, the policy, the
// rights and the controller's pod are those of the system; of the nodes that the
// plans are for, only the agent is not.
func TestUpgrades(t *testing.T) {
	p := programsFor(t)
	s := begin(t)
	ch := newTrack(t, serveRegistry(t))
	n, api := s.server(p, upgradeConfig)
	c := newCluster(t, n)
	s.until("the namespace", func() error {
		_, err := c.core.CoreV1().Secrets(upgradeNamespace).Create(s.ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "upgrade-registries"}, StringData: map[string]string{"registries.yaml": registriesYAML},
		}, metav1.CreateOptions{})
		return err
	})
	keys := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "upgrade-keys"}, Data: map[string]string{"ours.pub": ch.public}}
	if _, err := c.core.CoreV1().ConfigMaps(upgradeNamespace).Create(s.ctx, keys, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, app := range []string{"upgrade-controller", "upgrade-node"} {
		s.until("a pod of "+app, func() error {
			_, err := c.pod(t, app)
			return err
		})
	}
	s.until("the kind of plans", func() error { return ok(s.ctx, api, "/apis/upgrade.kedgeos.io/v1alpha1/plans") })
	c.watch(t.Context())

	t.Run("plans", func(t *testing.T) {
		for name, story := range map[string]func(*testing.T, *cluster){
			"rolls": rolls, "halts": halts, "goes back": goesBack, "pauses": pauses, "waits for its window": waitsForWindow,
			"tells what blocks a drain": tellsBlockedDrain, "outlives the controller": outlivesController, "has no agent": hasNoAgent, "runs hooks": runsHooks, "follows a channel": ch.isFollowed,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				story(t, c)
			})
		}
	})
	t.Run("kubectl", c.kubectl)
	t.Run("policy", c.policy)
	t.Run("pods are well", c.podsAreWell)
	t.Run("disabled", func(t *testing.T) { story{t, s.ctx}.disables(n, api) })
}

// pod returns the Ready pod of an app on the real node.
func (c *cluster) pod(t *testing.T, app string) (*corev1.Pod, error) {
	list, err := c.core.CoreV1().Pods(upgradeNamespace).List(t.Context(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/name=" + app, FieldSelector: "spec.nodeName=" + c.node.Host()})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		p := &list.Items[i]
		for _, is := range p.Status.Conditions {
			if is.Type == corev1.PodReady && is.Status == corev1.ConditionTrue {
				return p, nil
			}
		}
	}
	return nil, fmt.Errorf("%d pods, none of them Ready", len(list.Items))
}

// once is what a machine does for one upgrade that succeeds.
const once = "stage arm"

func (c *cluster) did(t *testing.T, fleet []*host, want string) {
	t.Helper()
	for _, h := range fleet {
		if got := strings.Join(h.list(), " "); got != want {
			t.Errorf("%s did %q, want %q", h.name, got, want)
		}
	}
}

// settled waits until no node is cordoned or marked any more.
func (c *cluster) settled(t *testing.T, fleet []*host) {
	t.Helper()
	for _, h := range fleet {
		c.until(t, "return of "+h.name, func() bool {
			n := get[corev1.Node](t, c.stores["nodes"], h.name)
			return !n.Spec.Unschedulable && n.Annotations[nodeagent.LeavingAnnotation] == "" && n.Annotations[nodeagent.CordonedAnnotation] == ""
		})
	}
}

func (c *cluster) mostAway(fleet string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most[fleet]
}

// rolls: every node, one after the other.
func rolls(t *testing.T, c *cluster) {
	fleet := c.fleet(t, "rolls", 3)
	c.apply(t, "rolls", "maxUnavailable: 1")
	p := c.phase(t, "rolls", v1alpha1.PlanComplete)
	if p.Status.Progress != "3/3" || p.Status.Message != "os 2.0.0 runs on 3 nodes" || !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionComplete) {
		t.Errorf("status is %+v", p.Status)
	}
	c.did(t, fleet, once)
	c.settled(t, fleet)
	if n := c.mostAway("rolls"); n != 1 {
		t.Errorf("%d nodes were away at once", n)
	}
}

// halts: the first node cannot keep the release, and the others are not touched.
// When that is mended, and asked for, all go on.
func halts(t *testing.T, c *cluster) {
	fleet := c.fleet(t, "halts", 3)
	fleet[0].setUnwell(true)
	c.apply(t, "halts", "steps: [{max: 1}]\nmaxUnavailable: 3")
	p := c.phase(t, "halts", v1alpha1.PlanHalted)
	if f := p.Status.Failures; p.Status.Failed != 1 || len(f) != 1 || f[0].Node != "halts-1" || !strings.Contains(f[0].Message, "not healthy within 15m0s") {
		t.Errorf("failures are %+v", p.Status)
	}
	if !strings.Contains(p.Status.Message, "halts-1: not healthy within 15m0s") || !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionHalted) {
		t.Errorf("it halts and says %q", p.Status.Message)
	}
	c.until(t, "download by the others", func() bool { return len(fleet[1].list()) > 0 && len(fleet[2].list()) > 0 })
	c.did(t, fleet[:1], once)
	c.did(t, fleet[1:], "stage")
	if r := fleet[0].running(); r != oldRelease {
		t.Errorf("the canary runs %v", r)
	}
	c.settled(t, fleet)
	fleet[0].setUnwell(false)
	c.apply(t, "halts", "retry: 1")
	c.phase(t, "halts", v1alpha1.PlanComplete)
	c.did(t, fleet[:1], once+" "+once)
	c.did(t, fleet[1:], once)
}

// runsHooks: one before a node leaves, one while the new release is on trial. No
// kubelet runs the pods of a node that is an object only: the test ends them.
func runsHooks(t *testing.T, c *cluster) {
	fleet := c.fleet(t, "hooks", 1)
	c.apply(t, "hooks", "hooks: {pre: [{name: park, image: registry.example/park}], post: [{name: unpark, image: registry.example/park}]}")
	pods := c.core.CoreV1().Pods(upgradeNamespace)
	for _, hook := range []struct{ name, done string }{{"park", "stage"}, {"unpark", once}} {
		c.until(t, "pod of the hook "+hook.name, func() bool {
			list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: nodeagent.HookLabel + "=" + hook.name})
			if err != nil || len(list.Items) == 0 {
				return false
			}
			p := &list.Items[0]
			if p.Spec.NodeName != "hooks-1" {
				t.Errorf("the hook runs on %s", p.Spec.NodeName)
			}
			c.did(t, fleet, hook.done)
			p.Status.Phase = corev1.PodSucceeded
			_, err = pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
			return err == nil
		})
	}
	c.phase(t, "hooks", v1alpha1.PlanComplete)
	c.did(t, fleet, once+" confirm")
	c.settled(t, fleet)
}

// goesBack: nodes that were upgraded run again what ran before.
func goesBack(t *testing.T, c *cluster) {
	fleet := c.fleet(t, "back", 2)
	c.apply(t, "back", "maxUnavailable: 2")
	c.phase(t, "back", v1alpha1.PlanComplete)
	c.apply(t, "back", "rollback: true")
	p := c.phase(t, "back", v1alpha1.PlanRolledBack)
	if p.Status.RolledBack != 2 || p.Status.Message != "2 nodes went back" {
		t.Errorf("status is %+v", p.Status)
	}
	c.did(t, fleet, once+" back")
	for _, h := range fleet {
		if r := h.running(); r != oldRelease {
			t.Errorf("%s runs %v", h.name, r)
		}
	}
	c.settled(t, fleet)
}

// pauses: while a plan is paused nothing begins, whatever it says else.
func pauses(t *testing.T, c *cluster) {
	fleet := c.fleet(t, "pauses", 3)
	c.apply(t, "pauses", "maxUnavailable: 1")
	c.until(t, "node on its way", func() bool { // the plan's numbers come later
		return slices.ContainsFunc(fleet, func(h *host) bool { return c.upgrade(t, h.name).Spec.State == v1alpha1.GoalActive })
	})
	c.apply(t, "pauses", "paused: true")
	c.phase(t, "pauses", v1alpha1.PlanPaused)
	c.until(t, "end of what was under way", func() bool { return c.plan(t, "pauses").Status.Updating == 0 })
	c.until(t, "download by all", func() bool { s := c.plan(t, "pauses").Status; return s.Staged+s.Updated == 3 })
	before := c.plan(t, "pauses").Status
	if before.Updated > 1 {
		t.Fatalf("it had nothing to pause: %+v", before)
	}
	c.apply(t, "pauses", "maxUnavailable: 3") // another decision
	if now := c.phase(t, "pauses", v1alpha1.PlanPaused).Status; now.Updating != 0 || now.Updated != before.Updated {
		t.Errorf("paused, it goes on: %+v, then %+v", before, now)
	}
	c.apply(t, "pauses", "paused: false")
	c.phase(t, "pauses", v1alpha1.PlanComplete)
	c.did(t, fleet, once)
	c.settled(t, fleet)
}

// waitsForWindow: nodes download outside of it, and go inside.
func waitsForWindow(t *testing.T, c *cluster) {
	fleet := c.fleet(t, "window", 2)
	c.apply(t, "window", `windows: [{cron: "0 0 29 2 *", duration: 1h}]`)
	c.until(t, "download by all", func() bool { return c.plan(t, "window").Status.Staged == 2 })
	p := c.phase(t, "window", v1alpha1.PlanWaiting)
	if !strings.HasPrefix(p.Status.Message, "waiting for window ") || p.Status.NextWindow == "" {
		t.Errorf("outside of the window it says %q, next %q", p.Status.Message, p.Status.NextWindow)
	}
	c.did(t, fleet, "stage")
	c.apply(t, "window", `windows: [{cron: "* * * * *", duration: 1h, timeZone: Europe/Berlin}]`)
	c.phase(t, "window", v1alpha1.PlanComplete)
	c.did(t, fleet, once)
}

// tellsBlockedDrain: a budget that allows no eviction is said in both statuses;
// when it is lifted, the node goes.
func tellsBlockedDrain(t *testing.T, c *cluster) {
	fleet := c.fleet(t, "drain", 1)
	key := map[string]string{"app": "drain"}
	first := c.shop(t, fleet[0].name, key)
	least, budgets, pods := intstr.FromInt32(1), c.core.PolicyV1().PodDisruptionBudgets("default"), c.core.CoreV1().Pods("default")
	if _, err := budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "open"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: key}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.apply(t, "drain", "drain: {mode: Always}")
	c.until(t, "word of what blocks", func() bool {
		nu := c.upgrade(t, "drain-1")
		return nu.Status.Phase == v1alpha1.NodeDraining && meta.IsStatusConditionFalse(nu.Status.Conditions, nodeagent.ConditionDrained)
	})
	want := regexp.MustCompile(`default/shop-\S+ \(.*budget open`)
	if got := c.upgrade(t, "drain-1").Status.Message; !want.MatchString(got) {
		t.Errorf("the node says %q, want %s", got, want)
	}
	c.until(t, "word of the plan", func() bool { return want.MatchString(c.plan(t, "drain").Status.Message) })
	c.did(t, fleet, "stage")
	if _, err := pods.Get(t.Context(), first, metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if err := budgets.Delete(t.Context(), "open", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.phase(t, "drain", v1alpha1.PlanComplete)
	if _, err := pods.Get(t.Context(), first, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the pod is still there: %v", err)
	}
	c.did(t, fleet, once)
	c.settled(t, fleet)
}

// shop has one pod on a node, of a ReplicaSet, that runs as far as can be told.
func (c *cluster) shop(t *testing.T, node string, key map[string]string) (pod string) {
	t.Helper()
	one, none := int32(1), int64(0)
	if _, err := c.core.AppsV1().ReplicaSets("default").Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"},
		Spec: appsv1.ReplicaSetSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: key}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: key},
			Spec: corev1.PodSpec{
				NodeSelector: map[string]string{"kubernetes.io/hostname": node}, Tolerations: []corev1.Toleration{{Key: "fleet", Operator: corev1.TolerationOpExists}},
				TerminationGracePeriodSeconds: &none, Containers: []corev1.Container{{Name: "shop", Image: "shop"}},
			},
		}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), storyLimit)
	defer cancel()
	err := wait(ctx, "a pod of the shop", func() error {
		list, err := c.core.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + key["app"], FieldSelector: "spec.nodeName=" + node})
		if err != nil {
			return err
		}
		if len(list.Items) == 0 {
			return errAnswer
		}
		p := &list.Items[0]
		p.Status.Phase = corev1.PodRunning // what does not run may always be evicted
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
		pod = p.Name
		_, err = c.core.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// outlivesController: the controller dies while a node is on its way.
func outlivesController(t *testing.T, c *cluster) {
	fleet := c.fleet(t, "killed", 3)
	c.apply(t, "killed", "maxUnavailable: 1")
	for _, h := range fleet[:2] {
		c.until(t, "restart of "+h.name, func() bool { return len(h.list()) == 2 })
		pid, err := c.controllerProcess()
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	c.phase(t, "killed", v1alpha1.PlanComplete)
	c.did(t, fleet, once)
	c.settled(t, fleet)
	if n := c.mostAway("killed"); n != 1 {
		t.Errorf("%d nodes were away at once", n)
	}
}

// controllerProcess finds the controller in its pod.
func (c *cluster) controllerProcess() (int, error) {
	for _, pid := range c.node.processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.HasPrefix(line, []byte("/kube\x00upgrade-controller\x00controller")) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no controller runs")
}

// hasNoAgent: this very machine has none, and its pod says so.
func hasNoAgent(t *testing.T, c *cluster) {
	name := c.node.Host()
	c.apply(t, "no-agent", "nodeSelector: {matchLabels: {kubernetes.io/hostname: "+name+"}}")
	c.until(t, "word of the pod", func() bool {
		return meta.IsStatusConditionFalse(c.upgrade(t, name).Status.Conditions, nodeagent.ConditionAgent)
	})
	c.until(t, "word of the plan", func() bool {
		s := c.plan(t, "no-agent").Status
		return s.Phase == v1alpha1.PlanWaiting && s.Message == name+": the agent of this machine does not answer"
	})
}

func (c *cluster) kubectl(t *testing.T) {
	for _, tt := range []struct {
		args string
		want []string // regular expressions, each of one line
	}{
		{"get plans", []string{
			`^NAME +PHASE +TARGET +STEP +UPDATED +FAILED +MESSAGE +AGE`,
			`^rolls +Complete +os 2\.0\.0 +3/3 +0 +os 2\.0\.0 runs on 3 nodes +\S+`,
			`^halts +Complete +os 2\.0\.0 +1/1 +3/3 +0 `,
			`^back +RolledBack +os 2\.0\.0 +0/2 +0 +2 nodes went back `,
		}},
		{"get nodeupgrades", []string{
			`^NAME +PHASE +GOAL +OS +KUBERNETES +PLAN +MESSAGE +AGE`,
			`^rolls-1 +Committed +Active +2\.0\.0 +` + regexp.QuoteMeta(kubeVersion) + ` +rolls +it runs the target +\S+`,
			`^back-1 +RolledBack +RolledBack +1\.0\.0 +`,
			`^node1 +Staged +no-agent +the agent of this machine does not answer +\S+`,
		}},
		{"get upl,nu -o name", []string{`^plan\.upgrade\.kedgeos\.io/rolls$`, `^nodeupgrade\.upgrade\.kedgeos\.io/rolls-3$`}},
		{"explain plan.spec", []string{`^FIELDS:`, `^ +maxUnavailable\t<`, `^ +Windows are the times at which a node may be drained`}},
		{"explain nodeupgrade.status", []string{`^ +phase\t<`}},
		{"get events --field-selector involvedObject.kind=Plan,involvedObject.name=halts", []string{`Halted`}},
	} {
		out, err := c.node.Output(append([]string{"kubectl"}, strings.Fields(tt.args)...)...)
		if err != nil {
			t.Errorf("kubectl %s: %v\n%s", tt.args, err, out)
			continue
		}
		for _, want := range tt.want {
			if !regexp.MustCompile("(?m)" + want).MatchString(out) {
				t.Errorf("kubectl %s has no line %s:\n%s", tt.args, want, out)
			}
		}
		if testing.Verbose() {
			t.Logf("kubectl %s\n%s", tt.args, out)
		}
	}
}

// policy: whatever RBAC lets a node's account do, it writes the status of its own
// NodeUpgrade, and nothing else.
func (c *cluster) policy(t *testing.T) {
	fleet := c.fleet(t, "policy", 2)
	c.apply(t, "policy", "paused: true")
	c.until(t, "words of both nodes", func() bool {
		return c.upgrade(t, "policy-1").Status.Phase != "" && c.upgrade(t, "policy-2").Status.Phase != ""
	})
	c.phase(t, "policy", v1alpha1.PlanPaused)
	own, other := c.upgrade(t, "policy-1"), c.upgrade(t, "policy-2")
	a := fleet[0].api
	if _, err := a.Write(t.Context(), &own); err != nil {
		t.Errorf("its own status: %v", err)
	}
	refused := func(what string, err error, want string) {
		t.Helper()
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want Forbidden with %q", what, err, want)
		}
	}
	_, err := a.Write(t.Context(), &other)
	refused("the status of another", err, `node "policy-1" may not write the NodeUpgrade of "policy-2"`)

	_, err = a.Kubernetes.CoreV1().Nodes().Patch(t.Context(), "policy-2", types.MergePatchType, []byte(`{"spec": {"unschedulable": true}}`), metav1.PatchOptions{})
	refused("another node", err, `node "policy-1" may not change node "policy-2"`)
	_, err = a.Kubernetes.CoreV1().Nodes().Patch(t.Context(), "policy-1", types.MergePatchType, []byte(`{"metadata": {"labels": {"x": "y"}}}`), metav1.PatchOptions{})
	refused("labels of its own", err, "not the matter of its upgrade")
	for what, change := range map[string]func(*corev1.Pod){
		"a hook on another node": func(p *corev1.Pod) { p.Spec.NodeName = "policy-2" },
		"a pod that is no hook":  func(p *corev1.Pod) { p.Labels = nil },
		"a hook with the host's files": func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "x", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		},
		"a privileged hook": func(p *corev1.Pod) {
			yes := true
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
		},
		"a hook with the host's net":    func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"a hook with the node's rights": func(p *corev1.Pod) { p.Spec.ServiceAccountName = "upgrade-node" },
	} {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: upgradeNamespace, Name: "own-hook", Labels: map[string]string{nodeagent.HookLabel: "x"}},
			Spec:       corev1.PodSpec{NodeName: "policy-1", Containers: []corev1.Container{{Name: "x", Image: "x"}}},
		}
		change(p)
		refused(what, a.Create(t.Context(), p), "hook")
	}

	// By mistake the account may do everything.
	if _, err := c.core.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "mistake"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: upgradeNamespace, Name: "upgrade-node"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), storyLimit)
	defer cancel()
	if err := wait(ctx, "the mistake to count", func() error {
		_, err := a.Kubernetes.CoreV1().Secrets(upgradeNamespace).List(ctx, metav1.ListOptions{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	const only = "a node may write only the status of its own NodeUpgrade"
	plans, nodes := v1alpha1.GroupVersion.WithResource("plans"), v1alpha1.GroupVersion.WithResource("nodeupgrades")
	patch := func(what string) []byte { return []byte(`{"` + what + `": {"retry": 1}}`) }
	_, err = a.Upgrades.Resource(nodes).Patch(t.Context(), "policy-1", types.MergePatchType, patch("spec"), metav1.PatchOptions{})
	refused("its own goal", err, only)
	_, err = a.Upgrades.Resource(plans).Patch(t.Context(), "policy", types.MergePatchType, patch("spec"), metav1.PatchOptions{})
	refused("a plan", err, only)
	_, err = a.Upgrades.Resource(plans).Patch(t.Context(), "policy", types.MergePatchType, []byte(`{"status": {"message": "well"}}`), metav1.PatchOptions{}, "status")
	refused("the status of a plan", err, only)
	refused("to delete its own", a.Upgrades.Resource(nodes).Delete(t.Context(), "policy-1", metav1.DeleteOptions{}), only)
	_, err = a.Write(t.Context(), &other)
	refused("the status of another", err, `node "policy-1" may not write`)
}

// podsAreWell: they have all rights that they need, and as much memory.
func (c *cluster) podsAreWell(t *testing.T) {
	for _, tt := range []struct{ app, process string }{{"upgrade-controller", "controller"}, {"upgrade-node", "node"}} {
		pod, err := c.pod(t, tt.app)
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.node.Output("kubectl", "-n", upgradeNamespace, "logs", pod.Name)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, "forbidden") && !strings.Contains(line, "is being terminated") {
				t.Errorf("%s: %s", pod.Name, line)
			}
		}
		for _, s := range pod.Status.ContainerStatuses {
			if end := s.LastTerminationState.Terminated; end != nil && (tt.process == "node" || end.Reason == "OOMKilled") {
				t.Errorf("%s has ended: %+v", pod.Name, end)
			}
		}
		if testing.Verbose() {
			t.Logf("%s\n%s%s", pod.Name, c.memory(pod), out)
		}
	}
}

// memory is what the processes of a pod take.
func (c *cluster) memory(pod *corev1.Pod) string {
	var b strings.Builder
	for _, pid := range c.node.processes() {
		in, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil || !strings.Contains(string(in), "pod"+string(pod.UID)) {
			continue
		}
		b.WriteString(strconv.Itoa(pid))
		for _, name := range []string{"VmRSS:", "RssAnon:", "RssFile:"} {
			kib, err := number(pid, "status", name)
			if err != nil {
				break
			}
			fmt.Fprintf(&b, " %s %d KiB", name, kib)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// disables: without the add-on nothing of it is left but what users made, their
// plans and keys.
func (s story) disables(n *Node, api *API) {
	if err := n.Stop(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	if err := n.Start("server", "--disable", "upgrade-controller"); err != nil {
		s.Fatal(err)
	}
	for _, path := range []string{"apps/v1/namespaces/kedge-system/deployments/upgrade-controller", "apps/v1/namespaces/kedge-system/daemonsets/upgrade-node"} {
		s.until("end of "+path, func() error { return s.gone(api, "/apis/"+path) })
	}
	s.until("the message about the namespace", func() error {
		if !strings.Contains(n.Log(), "namespace kedge-system stays: it holds") {
			return errAnswer
		}
		return nil
	})
	if err := ok(s.ctx, api, "/api/v1/namespaces/kedge-system/configmaps/upgrade-keys"); err != nil {
		s.Error(err)
	}
	plans, err := api.list(s.ctx, "/apis/upgrade.kedgeos.io/v1alpha1/plans")
	if err != nil || !slices.ContainsFunc(plans, func(o object) bool { return o.Metadata.Name == "rolls" }) {
		s.Errorf("plans are %v, %v", plans, err)
	}
}
