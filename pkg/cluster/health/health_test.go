package health

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

func deployment(name string, labels map[string]any, status map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": name, "namespace": "shop", "labels": labels},
		"spec":     map[string]any{"replicas": int64(2)}, "status": status,
	}}
}

func checker(t *testing.T) (*Checker, *fake.FakeDynamicClient) {
	t.Helper()
	resource := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{resource: "DeploymentList"},
		deployment("web", map[string]any{"app": "web"}, map[string]any{"readyReplicas": int64(2)}),
		deployment("db", map[string]any{"app": "db"}, map[string]any{"readyReplicas": int64(1)}),
		deployment("new", map[string]any{"app": "new"}, map[string]any{}))
	kinds := meta.NewDefaultRESTMapper(nil)
	kinds.Add(resource.GroupVersion().WithKind("Deployment"), meta.RESTScopeNamespace)
	c, err := New(client, kinds)
	if err != nil {
		t.Fatal(err)
	}
	return c, client
}

func TestCheck(t *testing.T) {
	c, _ := checker(t)
	const equal = "self.status.readyReplicas == self.spec.replicas"
	of := func(app string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	}
	for _, r := range []struct {
		check v1alpha1.Check
		want  string // "" for one that holds
	}{
		{v1alpha1.Check{Selector: of("web"), Expr: equal}, ""},
		{v1alpha1.Check{Selector: of("web"), Namespace: "shop", Expr: equal}, ""},
		{v1alpha1.Check{Selector: of("db"), Expr: equal}, "Deployment shop/db: " + equal + " is false"},
		{v1alpha1.Check{Expr: equal}, "shop/db"},
		{v1alpha1.Check{Selector: of("new"), Expr: equal}, "no such key: readyReplicas"},
		{v1alpha1.Check{Selector: of("new"), Expr: "self.status[?'readyReplicas'].orValue(0) == 0"}, ""},
		{v1alpha1.Check{Selector: of("none"), Expr: equal}, "no Deployment is chosen"},
		{v1alpha1.Check{Namespace: "other", Selector: of("web"), Expr: equal}, "no Deployment is chosen"},
		{v1alpha1.Check{Expr: "self.spec.replicas"}, "neither true nor false"},
		{v1alpha1.Check{Expr: "'text'"}, "it is string"},
		{v1alpha1.Check{Expr: "self."}, "expr cannot be read"},
		{v1alpha1.Check{Kind: "Gadget", Expr: equal}, "no kind Gadget in apps/v1"},
		{v1alpha1.Check{APIVersion: "a/b/c", Expr: equal}, "apiVersion"},
		{v1alpha1.Check{Selector: of("web"), Expr: "[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, a+b+c+d+e+f > 0))))))"}, "cost"},
	} {
		if r.check.Kind == "" {
			r.check.Kind = "Deployment"
		}
		if r.check.APIVersion == "" {
			r.check.APIVersion = "apps/v1"
		}
		why := c.Check(t.Context(), r.check)
		if (why == "") != (r.want == "") || !strings.Contains(why, r.want) {
			t.Errorf("Check(%+v) = %q, want %q", r.check, why, r.want)
		}
	}
}

func TestCheckSaysWhichRightIsMissing(t *testing.T) {
	c, client := checker(t)
	client.PrependReactor("list", "deployments", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", nil)
	})
	why := c.Check(t.Context(), v1alpha1.Check{Kind: "Deployment", APIVersion: "apps/v1", Expr: "true"})
	if !strings.Contains(why, RightsLabel+"=true") {
		t.Errorf("Check = %q", why)
	}
}
