// Package v1alpha1 holds the custom resources by which a cluster upgrades its
// own nodes: a Plan, which the user writes, and one NodeUpgrade for each node,
// whose goal the controller writes and whose status the node writes.
//
// The comments of the types are what "kubectl explain" shows, so they speak to
// the person who writes a Plan. Durations are as Kubernetes writes them ("90s",
// "1h30m"), shares are whole numbers or percentages ("10%") rounded down.
//
// The CustomResourceDefinitions and the deep copies follow from this package:
// "make generate".
//
// +kubebuilder:object:generate=true
// +groupName=upgrade.kedgeos.io
package v1alpha1

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.21.0 object crd paths=. output:crd:dir=../../../cluster/upgrade/manifests

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is that of the resources here.
var GroupVersion = schema.GroupVersion{Group: "upgrade.kedgeos.io", Version: "v1alpha1"}

// Namespace is that of the controller, of the pods that speak for nodes, and of
// hooks. The manifests name it too.
const Namespace = "kedge-system"

// AddToScheme makes the resources known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Plan{}, &PlanList{}, &NodeUpgrade{}, &NodeUpgradeList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// SkipLabel on a node, with the value "true", keeps every plan away from it.
// Such a node does not count as unavailable either.
const SkipLabel = "upgrade.kedgeos.io/skip"
