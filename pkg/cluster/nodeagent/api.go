package nodeagent

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// API is the Cluster of a real API server.
type API struct {
	Name       string // of the node
	Kubernetes kubernetes.Interface
	Upgrades   dynamic.Interface
}

// Connect returns the API of the cluster that this pod runs in.
func Connect(name string) (API, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return API{}, err
	}
	config.UserAgent = "kedge-upgrade-node"
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return API{}, err
	}
	upgrades, err := dynamic.NewForConfig(config)
	if err != nil {
		return API{}, err
	}
	return API{name, core, upgrades}, nil
}

func (a API) upgrades() dynamic.ResourceInterface {
	return a.Upgrades.Resource(v1alpha1.GroupVersion.WithResource("nodeupgrades"))
}

// Goal implements Cluster.
func (a API) Goal(ctx context.Context) (*v1alpha1.NodeUpgrade, error) {
	u, err := a.upgrades().Get(ctx, a.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return nodeUpgrade(u)
}

func nodeUpgrade(u *unstructured.Unstructured) (*v1alpha1.NodeUpgrade, error) {
	var nu v1alpha1.NodeUpgrade
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &nu); err != nil {
		return nil, fmt.Errorf("read NodeUpgrade %s: %w", u.GetName(), err)
	}
	return &nu, nil
}

// Write implements Cluster.
func (a API) Write(ctx context.Context, nu *v1alpha1.NodeUpgrade) (*v1alpha1.NodeUpgrade, error) {
	nu.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("NodeUpgrade"))
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(nu)
	if err != nil {
		return nil, err
	}
	u, err := a.upgrades().UpdateStatus(ctx, &unstructured.Unstructured{Object: object}, metav1.UpdateOptions{})
	if err != nil {
		return nil, err
	}
	return nodeUpgrade(u)
}

// Node implements Cluster.
func (a API) Node(ctx context.Context) (*corev1.Node, error) {
	return a.Kubernetes.CoreV1().Nodes().Get(ctx, a.Name, metav1.GetOptions{})
}

// Mark implements Cluster.
func (a API) Mark(ctx context.Context, n *corev1.Node, annotations map[string]*string, cordon *bool) error {
	// With the version that was seen, the patch fails when there is a newer one.
	patch := map[string]any{"metadata": map[string]any{"annotations": annotations, "resourceVersion": n.ResourceVersion}}
	if cordon != nil {
		patch["spec"] = map[string]any{"unschedulable": *cordon}
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = a.Kubernetes.CoreV1().Nodes().Patch(ctx, a.Name, types.MergePatchType, text, metav1.PatchOptions{})
	return err
}

// Pods implements Cluster.
func (a API) Pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := a.Kubernetes.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", a.Name).String()})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// Evict implements Cluster.
func (a API) Evict(ctx context.Context, p *corev1.Pod, grace *int64) error {
	return a.Kubernetes.PolicyV1().Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace},
		DeleteOptions: only(p, grace),
	})
}

// Delete implements Cluster.
func (a API) Delete(ctx context.Context, p *corev1.Pod, grace *int64) error {
	return a.Kubernetes.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, *only(p, grace))
}

// Create implements Cluster.
func (a API) Create(ctx context.Context, p *corev1.Pod) error {
	_, err := a.Kubernetes.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	return err
}

// only means this very pod, not the next of its name.
func only(p *corev1.Pod, grace *int64) *metav1.DeleteOptions {
	return &metav1.DeleteOptions{GracePeriodSeconds: grace, Preconditions: &metav1.Preconditions{UID: &p.UID}}
}

// Version implements Cluster.
func (a API) Version(context.Context) (string, error) {
	v, err := a.Kubernetes.Discovery().ServerVersion()
	if err != nil {
		return "", err
	}
	return v.GitVersion, nil
}

// Watch tells, until ctx ends, when the node or its NodeUpgrade may be another.
func (a API) Watch(ctx context.Context) <-chan struct{} {
	changed := make(chan struct{}, 1)
	tell := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: tell, UpdateFunc: func(_, now any) { tell(now) }, DeleteFunc: tell}
	one := fields.OneTermEqualSelector("metadata.name", a.Name).String()
	for _, w := range []struct {
		kind runtime.Object
		of   cache.ListWatch
	}{
		{&corev1.Node{}, cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = one
				return a.Kubernetes.CoreV1().Nodes().List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = one
				return a.Kubernetes.CoreV1().Nodes().Watch(ctx, o)
			},
		}},
		{&unstructured.Unstructured{}, cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = one
				return a.upgrades().List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = one
				return a.upgrades().Watch(ctx, o)
			},
		}},
	} {
		_, informer := cache.NewInformerWithOptions(cache.InformerOptions{ListerWatcher: &w.of, ObjectType: w.kind, Handler: handler})
		go informer.RunWithContext(ctx)
	}
	return changed
}
