package controller

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/health"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// shipped returns the objects of the shipped manifest by kind and name.
func shipped(t *testing.T) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, document := range strings.Split(Manifest, "\n---\n") {
		var o object
		if err := yaml.UnmarshalStrict([]byte(document), &o); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		name := o["kind"].(string) + " " + metadata(o)["name"].(string)
		if all[name] != nil {
			t.Errorf("%s is there twice", name)
		}
		all[name] = o
	}
	return all
}

type rule struct {
	APIGroups, Resources, ResourceNames, Verbs []string
	namespace                                  string
}

// rules returns what a service account may do.
func rules(t *testing.T, objects map[string]object, account string) (all []rule) {
	t.Helper()
	for name, o := range objects {
		var b struct {
			RoleRef  struct{ Kind, Name string }
			Subjects []struct{ Name string }
		}
		convert(t, o, &b)
		if !strings.HasSuffix(strings.Fields(name)[0], "Binding") || b.Subjects[0].Name != account {
			continue
		}
		role := objects[b.RoleRef.Kind+" "+b.RoleRef.Name]
		if role == nil {
			t.Fatalf("%s: no such role", name)
		}
		if role["aggregationRule"] != nil {
			role = objects["ClusterRole kedge-upgrade-checks-workloads"]
			if labels, _ := metadata(role)["labels"].(object); labels[health.RightsLabel] != "true" {
				t.Errorf("the rights of checks are not found by %s", health.RightsLabel)
			}
		}
		var r struct{ Rules []rule }
		convert(t, role, &r)
		for _, one := range r.Rules {
			one.namespace, _ = metadata(o)["namespace"].(string)
			all = append(all, one)
		}
	}
	return all
}

func convert(t *testing.T, from, to any) {
	t.Helper()
	b, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r rule) allows(verb, group, namespace, resource, name string) bool {
	return slices.Contains(r.Verbs, verb) && slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, resource) &&
		(r.namespace == "" || r.namespace == namespace) && (len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, name))
}

// All that the controller asks for in the life of a plan must be allowed, and
// every rule must be there for something.
func TestRights(t *testing.T) {
	w := newWorld(t, "w1", "w2")
	w.apply("edge", `
os: {image: IMAGE}
health: {checks: [{name: shop, apiVersion: apps/v1, kind: Deployment, expr: "true"}]}`)
	w.api.lock.Lock()
	w.api.put("deployments", "shop/web", object{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": "web", "namespace": "shop"}})
	w.api.lock.Unlock()
	w.begin()
	w.phase(v1alpha1.PlanComplete)
	l := w.loopNow()
	for _, gone := range []write{{kind: planKind, name: "x"}, {kind: nodeKind, name: "x"}} {
		if is, err := l.caches.gone(gone); !is || err != nil {
			t.Errorf("gone(%v) = %v, %v", gone, is, err)
		}
	}
	w.halt() // which gives the lease back
	all := rules(t, shipped(t), "upgrade-controller")
	used := map[int]bool{}
	w.api.lock.Lock()
	defer w.api.lock.Unlock()
	for asked := range w.api.asked {
		f := strings.Split(asked, " ")
		i := slices.IndexFunc(all, func(r rule) bool { return r.allows(f[0], f[1], f[2], f[3], f[4]) })
		if i < 0 {
			t.Errorf("it may not %s", asked)
		}
		used[i] = true
	}
	for i, r := range all {
		// Not used here: other objects of checks, channels, the creation of what is
		// installed, and events about what has a namespace.
		other := slices.Contains(r.Verbs, "create") && len(r.Verbs) == 1 || slices.Contains(r.APIGroups, "batch") ||
			slices.Contains(r.Resources, "pods") || slices.Contains(r.Resources, "configmaps") || r.namespace == "kedge-system"
		if !used[i] && !other {
			t.Errorf("nothing asks for %+v", r)
		}
	}
}

func TestShipped(t *testing.T) {
	objects := shipped(t)
	type spec struct {
		Template struct {
			Spec struct {
				ServiceAccountName string
				HostPID, HostIPC   bool
				SecurityContext    struct{ RunAsNonRoot bool }
				Volumes            []struct{ HostPath struct{ Path string } }
				Containers         []struct {
					Command         []string
					Resources       struct{ Limits struct{ Memory string } }
					SecurityContext struct {
						Privileged, ReadOnlyRootFilesystem bool
						AllowPrivilegeEscalation           *bool
						Capabilities                       struct{ Add, Drop []string }
					}
				}
			}
		}
	}
	for name, paths := range map[string]string{"Deployment upgrade-controller": "@KUBE@ /etc/ssl/certs", "DaemonSet upgrade-node": "@KUBE@ /run/kedge/upgrade"} {
		var o struct{ Spec spec }
		convert(t, objects[name], &o)
		pod := o.Spec.Template.Spec
		c := pod.Containers[0]
		s := c.SecurityContext
		if pod.HostPID || pod.HostIPC || !pod.SecurityContext.RunAsNonRoot || s.Privileged || !s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			len(s.Capabilities.Add) > 0 || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("%s has more power than it needs: %+v", name, pod)
		}
		for _, v := range pod.Volumes {
			if p := v.HostPath.Path; p != "" && !strings.Contains(paths, p) {
				t.Errorf("%s sees %s", name, p)
			}
		}
		if len(c.Command) != 3 || c.Command[1] != "upgrade-controller" {
			t.Errorf("%s runs %q", name, c.Command)
		}
		if name[:2] == "De" && c.Resources.Limits.Memory != "256Mi" { // memoryFor keeps below it
			t.Errorf("%s may take %s", name, c.Resources.Limits.Memory)
		}
		if account := "system:serviceaccount:kedge-system:" + pod.ServiceAccountName; name[:2] == "Da" && account != upgrade.NodeAccount {
			t.Errorf("the policy knows %s, the pods are %s", upgrade.NodeAccount, account)
		}
	}
}

// The limit of the heap grows with the cluster, from 64 MiB less what is not the
// heap's to the container's limit less that.
func TestMemory(t *testing.T) {
	for nodes, want := range map[int]int64{0: 56 << 20, 1: 56 << 20, 100: 56 << 20, 612: 58 << 20, 10_000: 56<<20 + 9_900<<12, 1_000_000: 240 << 20} {
		if got := memoryFor(nodes); got != want {
			t.Errorf("%d nodes: %d bytes, want %d", nodes, got, want)
		}
	}
}

// What alerts and the dashboard ask for must be measured.
func TestMonitoring(t *testing.T) {
	m := newMetrics()
	m.decided(upgrade.Input{NodeUpgrades: []*v1alpha1.NodeUpgrade{{}}}, upgrade.Decision{Statuses: map[string]v1alpha1.PlanStatus{"p": {}}}, 1)
	m.end(nil)
	m.wrote("goal", nil)
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, f := range families {
		there[f.GetName()] = true
	}
	names := regexp.MustCompile(`(kedge_upgrade|process)_[a-z_]+`)
	for _, file := range []string{"monitoring/alerts.yaml", "monitoring/dashboard.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &object{}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		found := names.FindAllString(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s asks for nothing", file)
		}
		for _, name := range found {
			if !there[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s: nothing measures %s", file, name)
			}
		}
	}
}
