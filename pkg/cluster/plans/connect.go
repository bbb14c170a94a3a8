package plans

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
)

// Errors that callers tell apart.
var (
	ErrNoConfig     = errors.New("no kubeconfig file") // none was named, and none is where they usually are
	ErrContext      = errors.New("no such context")
	ErrUnreachable  = errors.New("the cluster does not answer")
	ErrNoController = errors.New("the cluster has no upgrade controller") // the resources are not known there
	ErrUnauthorized = errors.New("the cluster does not know who you are")
	ErrForbidden    = errors.New("the cluster does not allow it")
	ErrNoPlan       = errors.New("no such plan")
)

// k3sConfig is where k3s, and a Kedge node, keep the administrator's kubeconfig.
const k3sConfig = "/etc/rancher/k3s/k3s.yaml"

// requestTimeout bounds one request.
const requestTimeout = 20 * time.Second

// Options are how to reach a cluster; the zero value looks where kubectl does,
// and then where k3s keeps its file.
type Options struct {
	Kubeconfig string // file
	Context    string // in it; "" means its current one
}

// Flags adds the options to a command's flags.
func (o *Options) Flags(fs *flag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "`file` that tells how to reach the cluster (default: $KUBECONFIG, ~/.kube/config or "+k3sConfig+")")
	fs.StringVar(&o.Context, "context", "", "`name` of a context in that file (default: its current one)")
}

// files returns the kubeconfig files to merge.
func (o Options) files() ([]string, error) {
	if o.Kubeconfig != "" {
		_, err := os.Stat(o.Kubeconfig)
		return []string{o.Kubeconfig}, err
	}
	if named := os.Getenv("KUBECONFIG"); named != "" {
		all := filepath.SplitList(named)
		for _, f := range all {
			if _, err := os.Stat(f); !errors.Is(err, fs.ErrNotExist) {
				return all, err
			}
		}
		return nil, fmt.Errorf("%w: $KUBECONFIG is %s", ErrNoConfig, named)
	}
	places := []string{k3sConfig}
	if home, err := os.UserHomeDir(); err == nil {
		places = []string{filepath.Join(home, ".kube", "config"), k3sConfig}
	}
	for _, f := range places {
		if _, err := os.Stat(f); err == nil {
			return []string{f}, nil
		}
	}
	return nil, fmt.Errorf("%w: there is none in %s", ErrNoConfig, strings.Join(places, " or "))
}

// A Cluster is one that can be asked.
type Cluster struct {
	client *rest.RESTClient
	host   string
}

// Connect finds a cluster; it does not speak to it yet. The error wraps
// ErrNoConfig, ErrContext or what the file system says.
func Connect(o Options) (*Cluster, error) {
	files, err := o.files()
	if err != nil {
		return nil, err
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{Precedence: files}, &clientcmd.ConfigOverrides{CurrentContext: o.Context})
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	if name := cmp.Or(o.Context, raw.CurrentContext); raw.Contexts[name] == nil {
		return nil, fmt.Errorf("%s: %w: %q; there are: %s", strings.Join(files, ", "), ErrContext, name,
			cmp.Or(strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", "), "none"))
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", strings.Join(files, ", "), err)
	}
	return newCluster(config)
}

func newCluster(config *rest.Config) (*Cluster, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType, config.Timeout, config.QPS, config.WarningHandler = runtime.ContentTypeJSON, requestTimeout, -1, rest.NoWarnings{}
	rest.AddUserAgent(config, "kedge")
	client, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	return &Cluster{client, config.Host}, nil
}

// Paths of the API.
const (
	plansPath    = "/apis/upgrade.kedgeos.io/v1alpha1/plans"
	upgradesPath = "/apis/upgrade.kedgeos.io/v1alpha1/nodeupgrades"
	nodesPath    = "/api/v1/nodes"
	eventsPath   = "/api/v1/namespaces/default/events" // where those of cluster-scoped objects are
)

// maxEvents bounds how many events are fetched.
const maxEvents = 1000

// explain gives an error of the client one of ours to be known by.
func (c *Cluster) explain(err error) error {
	var answer *apierrors.StatusError
	var request *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer):
		for is, known := range map[metav1.StatusReason]error{
			metav1.StatusReasonUnauthorized: ErrUnauthorized, metav1.StatusReasonForbidden: ErrForbidden, metav1.StatusReasonNotFound: ErrNoController,
		} {
			if apierrors.ReasonForError(err) == is {
				if known == ErrForbidden {
					return fmt.Errorf("%w: %w", known, err)
				}
				return fmt.Errorf("%w (%s)", known, c.host)
			}
		}
		return fmt.Errorf("%s says: %w", c.host, err)
	case errors.As(err, &request):
		err = request.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, c.host, err)
}

// get reads a path into an object.
func (c *Cluster) get(ctx context.Context, into any, path string, query map[string]string) error {
	r := c.client.Get().AbsPath(path)
	for k, v := range query {
		r = r.Param(k, v)
	}
	raw, err := r.Do(ctx).Raw()
	if err != nil {
		return c.explain(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read answer of %s%s: %w", c.host, path, err)
	}
	return nil
}

// Plans returns all plans, by name.
func (c *Cluster) Plans(ctx context.Context) ([]*v1alpha1.Plan, error) {
	var list v1alpha1.PlanList
	if err := c.get(ctx, &list, plansPath, nil); err != nil {
		return nil, fmt.Errorf("list plans: %w", err)
	}
	var out []*v1alpha1.Plan
	for i := range list.Items {
		out = append(out, &list.Items[i])
	}
	slices.SortFunc(out, func(a, b *v1alpha1.Plan) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Look fetches what a picture of one plan needs. The error wraps ErrNoPlan if
// it is not there.
func (c *Cluster) Look(ctx context.Context, name string) (Picture, error) {
	all, err := c.Plans(ctx)
	if err != nil {
		return Picture{}, err
	}
	i := slices.IndexFunc(all, func(p *v1alpha1.Plan) bool { return p.Name == name })
	if i < 0 {
		return Picture{}, noPlan(name, all)
	}
	// A cache of the server will do, and is cheaper where there are many.
	cached := map[string]string{"resourceVersion": "0"}
	var upgrades v1alpha1.NodeUpgradeList
	if err := c.get(ctx, &upgrades, upgradesPath, cached); err != nil {
		return Picture{}, fmt.Errorf("list node upgrades: %w", err)
	}
	var nodes corev1.NodeList
	if err := c.get(ctx, &nodes, nodesPath, cached); err != nil {
		return Picture{}, fmt.Errorf("list nodes: %w", err)
	}
	var events corev1.EventList
	err = c.get(ctx, &events, eventsPath, map[string]string{"limit": fmt.Sprint(maxEvents)})
	if err != nil && !errors.Is(err, ErrForbidden) { // they are not worth a failure
		return Picture{}, fmt.Errorf("list events: %w", err)
	}
	return paint(time.Now(), all[i], all, upgrades.Items, nodes.Items, events.Items), nil
}

func noPlan(name string, all []*v1alpha1.Plan) error {
	if len(all) == 0 {
		return fmt.Errorf("%w: %s; there is none at all", ErrNoPlan, name)
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return fmt.Errorf("%w: %s; there are: %s", ErrNoPlan, name, strings.Join(names, ", "))
}

// Apply changes the plan of a picture, if it is still that plan.
func (c *Cluster) Apply(ctx context.Context, at Picture, change Change) error {
	if change.Spec == nil {
		return nil
	}
	p := at.plan
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID}, "spec": change.Spec})
	if err != nil {
		return err
	}
	_, err = c.client.Patch(types.MergePatchType).AbsPath(plansPath, p.Name).Param("fieldManager", "kedge").Body(patch).Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		err = fmt.Errorf("%w: %s; it was deleted meanwhile", ErrNoPlan, p.Name)
	} else {
		err = c.explain(err)
	}
	if err != nil {
		return fmt.Errorf("change plan %s: %w", p.Name, err)
	}
	return nil
}
