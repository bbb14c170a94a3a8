package nodeagent

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// mirrorAnnotation marks a pod that the kubelet has from a file: it is only
// seen through the API.
const mirrorAnnotation = "kubernetes.io/config.mirror"

// leaves tells whether a pod has to leave its node before that restarts: one that
// somebody makes again elsewhere. A pod that nobody would make again stays, and
// starts again with the node.
func leaves(p *corev1.Pod, selector labels.Selector) bool {
	owner := metav1.GetControllerOf(p)
	switch {
	case p.Status.Phase == corev1.PodSucceeded, p.Status.Phase == corev1.PodFailed:
		return false
	case owner == nil, owner.Kind == "DaemonSet", owner.Kind == "Node", p.Annotations[mirrorAnnotation] != "":
		return false
	}
	return selector.Matches(labels.Set(p.Labels))
}

// leaving returns the pods that have to leave; those that go already are among
// them.
func leaving(pods []corev1.Pod, drain *v1alpha1.Drain) (out []corev1.Pod, err error) {
	selector := labels.Everything()
	if drain.PodSelector != nil {
		if selector, err = metav1.LabelSelectorAsSelector(drain.PodSelector); err != nil {
			return nil, fmt.Errorf("read podSelector of the drain: %w", err)
		}
	}
	for i := range pods {
		if leaves(&pods[i], selector) {
			out = append(out, pods[i])
		}
	}
	return out, nil
}
