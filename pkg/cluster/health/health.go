// Package health looks at the checks of plans: CEL expressions that must hold for
// objects of the cluster. Probes are not its matter: a node makes them itself.
package health

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// Bounds of one check.
const (
	page    = 100              // objects that are held at once
	budget  = 1_000_000        // of CEL, for one object
	timeout = 20 * time.Second // for all objects
	maxText = 300              // bytes of a message
)

// A Checker looks at checks. It may be used by several at once.
type Checker struct {
	client dynamic.Interface
	kinds  meta.RESTMapper
	env    *cel.Env

	lock     sync.Mutex
	programs map[string]cel.Program // by their expressions
}

// New returns a checker.
func New(client dynamic.Interface, kinds meta.RESTMapper) (*Checker, error) {
	env, err := cel.NewEnv(cel.Variable("self", cel.DynType), cel.OptionalTypes(), ext.Strings(), ext.Lists(), ext.Sets())
	if err != nil {
		return nil, err
	}
	return &Checker{client: client, kinds: kinds, env: env, programs: map[string]cel.Program{}}, nil
}

// Check returns why a check does not hold, or "". That objects could not be
// looked at is a reason too.
func (c *Checker) Check(ctx context.Context, check v1alpha1.Check) (why string) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if why = c.check(ctx, check); len(why) > maxText {
		why = strings.ToValidUTF8(why[:maxText], "") + " …"
	}
	return why
}

func (c *Checker) check(ctx context.Context, check v1alpha1.Check) string {
	program, err := c.program(check.Expr)
	if err != nil {
		return "expr cannot be read: " + err.Error()
	}
	objects, options, err := c.find(check)
	if err != nil {
		return err.Error()
	}
	for n := 0; ; {
		list, err := objects.List(ctx, options)
		if err != nil {
			return explain(check, err)
		}
		for i := range list.Items {
			if why := holds(program, &list.Items[i], check); why != "" {
				return why
			}
		}
		n += len(list.Items)
		if options.Continue = list.GetContinue(); options.Continue != "" {
			continue
		}
		switch {
		case n > 0:
			return ""
		case check.ObjectName != "":
			return fmt.Sprintf("there is no %s %s", check.Kind, path(check.Namespace, check.ObjectName))
		}
		return fmt.Sprintf("no %s is chosen: is the selector right, and the namespace?", check.Kind)
	}
}

// find returns where the objects are and how they are chosen.
func (c *Checker) find(check v1alpha1.Check) (dynamic.ResourceInterface, metav1.ListOptions, error) {
	options := metav1.ListOptions{Limit: page}
	version, err := schema.ParseGroupVersion(check.APIVersion)
	if err != nil {
		return nil, options, fmt.Errorf("apiVersion %q: %w", check.APIVersion, err)
	}
	kind, err := c.kinds.RESTMapping(schema.GroupKind{Group: version.Group, Kind: check.Kind}, version.Version)
	if meta.IsNoMatchError(err) {
		meta.MaybeResetRESTMapper(c.kinds) // it may be new
		return nil, options, fmt.Errorf("this cluster has no kind %s in %s", check.Kind, check.APIVersion)
	}
	if err != nil {
		return nil, options, fmt.Errorf("look up kind %s in %s: %w", check.Kind, check.APIVersion, err)
	}
	if check.Selector != nil {
		s, err := metav1.LabelSelectorAsSelector(check.Selector)
		if err != nil {
			return nil, options, fmt.Errorf("selector: %w", err)
		}
		options.LabelSelector = s.String()
	}
	if check.ObjectName != "" {
		options.FieldSelector = "metadata.name=" + check.ObjectName
	}
	objects := c.client.Resource(kind.Resource)
	if kind.Scope.Name() == meta.RESTScopeNameNamespace && check.Namespace != "" {
		return objects.Namespace(check.Namespace), options, nil
	}
	return objects, options, nil
}

// program compiles an expression, or takes it from last time.
func (c *Checker) program(expr string) (cel.Program, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if p := c.programs[expr]; p != nil {
		return p, nil
	}
	tree, issues := c.env.Compile(expr)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if t := tree.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("it is %s, and true or false is wanted", t)
	}
	p, err := c.env.Program(tree, cel.CostLimit(budget), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, err
	}
	if len(c.programs) > 500 {
		clear(c.programs) // of plans that are gone
	}
	c.programs[expr] = p
	return p, nil
}

func holds(p cel.Program, o *unstructured.Unstructured, check v1alpha1.Check) string {
	name := check.Kind + " " + path(o.GetNamespace(), o.GetName())
	out, _, err := p.Eval(map[string]any{"self": o.Object})
	if err != nil {
		return fmt.Sprintf("%s: %v in %s", name, err, check.Expr)
	}
	is, ok := out.Value().(bool)
	switch {
	case !ok:
		return fmt.Sprintf("%s: %s is neither true nor false", name, check.Expr)
	case !is:
		return fmt.Sprintf("%s: %s is false", name, check.Expr)
	}
	return ""
}

// explain says what to do about an error.
func explain(check v1alpha1.Check, err error) string {
	if apierrors.IsForbidden(err) {
		return fmt.Sprintf("list %s: %v: give the right in a ClusterRole with the label %s=true", check.Kind, err, RightsLabel)
	}
	return fmt.Sprintf("list %s: %v", check.Kind, err)
}

// RightsLabel on a ClusterRole, with the value "true", gives its rights to the
// checks.
const RightsLabel = "upgrade.kedgeos.io/checks"

func path(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}
