package controller

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// Manifest is the controller's Deployment, the DaemonSet of the pods that speak
// for their nodes, and all that these need. Words between at signs are to be
// filled in: KUBE is the path of the program on the hosts, VERSION its version,
// and PAUSE_IMAGE an image that is on them.
//
//go:embed manifests/upgrade-controller.yaml
var Manifest string

const definitions = "CustomResourceDefinition"

// resources are where the kinds of upgrade.Manifests are served.
var resources = map[string]schema.GroupVersionResource{
	definitions:                        {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
	"ValidatingAdmissionPolicy":        {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"},
	"ValidatingAdmissionPolicyBinding": {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"},
}

// install brings what the API server must have. Where that is not allowed,
// somebody else has to have done it, and it says so.
func install(ctx context.Context, client dynamic.Interface) error {
	objects, err := manifests()
	if err != nil {
		return err
	}
	force := true
	for _, o := range objects {
		name := o.GetKind() + " " + o.GetName()
		data, err := o.MarshalJSON()
		if err != nil {
			return err
		}
		resource, ok := resources[o.GetKind()]
		if !ok {
			return fmt.Errorf("install %s: not a kind that is installed", name)
		}
		_, err = client.Resource(resource).Patch(ctx, o.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "upgrade-controller", Force: &force})
		if apierrors.IsForbidden(err) {
			logrus.WithError(err).Warnf("upgrade: may not install %s: it must be there already, in the form of this release", name)
			continue
		}
		if err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		}
	}
	return nil
}

// served waits until the API server serves our kinds.
func served(ctx context.Context, client dynamic.Interface) error {
	objects, err := manifests()
	if err != nil {
		return err
	}
	for _, o := range objects {
		for o.GetKind() == definitions {
			got, err := client.Resource(resources[definitions]).Get(ctx, o.GetName(), metav1.GetOptions{})
			if apierrors.IsForbidden(err) || err == nil && established(got) {
				break
			}
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("look for %s: %w", o.GetName(), err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(300 * time.Millisecond):
			}
		}
	}
	return nil
}

func established(o *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
			return true
		}
	}
	return false
}

// manifests returns the objects of upgrade.Manifests, definitions first: the
// policy names their resources.
func manifests() (objects []*unstructured.Unstructured, err error) {
	files, err := fs.Glob(upgrade.Manifests, "manifests/*.yaml")
	if err != nil {
		return nil, err
	}
	var rest []*unstructured.Unstructured
	for _, file := range files {
		text, err := upgrade.Manifests.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, document := range bytes.Split(text, []byte("\n---\n")) {
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal(document, &o.Object); err != nil {
				return nil, fmt.Errorf("read %s: %w", file, err)
			}
			switch {
			case len(o.Object) == 0:
			case o.GetKind() == definitions:
				objects = append(objects, o)
			default:
				rest = append(rest, o)
			}
		}
	}
	return append(objects, rest...), nil
}
