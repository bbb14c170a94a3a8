package addons

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/cmd/kube/say"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	fieldManager = "kube-addons"
	pollEvery    = 3 * time.Second  // for changed files
	retryEvery   = 15 * time.Second // for files that could not be applied
	writing      = 2 * time.Second  // for which a changed file may still be written
)

// An Object names what a file put into the cluster.
type Object struct {
	Group, Version, Kind, Namespace, Name string
}

// State is what was applied, by file name; it is kept on disk.
type State map[string]Applied

// Applied is the last sound version of one file.
type Applied struct {
	Hash    string
	Objects []Object
}

// A Deployer applies the files of one folder.
type Deployer struct {
	dir, stateFile string
	client         dynamic.Interface
	mapper         *restmapper.DeferredDiscoveryRESTMapper
	state          State
	failed         map[string]failure
}

type failure struct {
	hash, message string
	next          time.Time
}

// NewDeployer uses the administrator's credentials in kubeconfig.
func NewDeployer(c args.Config, kubeconfig string) (*Deployer, error) {
	conf, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	conf.QPS, conf.Burst = 50, 100
	client, err := dynamic.NewForConfig(conf)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(conf)
	if err != nil {
		return nil, err
	}
	d := &Deployer{
		dir: c.ManifestsDir(), stateFile: filepath.Join(c.ServerDir(), "manifests.json"), client: client,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
		state:  State{}, failed: map[string]failure{},
	}
	if b, err := os.ReadFile(d.stateFile); err == nil {
		if json.Unmarshal(b, &d.state) != nil {
			d.state = State{} // cut short: everything is applied once more
		}
	}
	return d, nil
}

// Run applies the folder now and whenever it changes, until ctx ends. Files in
// disabled are taken out of the cluster first.
func (d *Deployer) Run(ctx context.Context, disabled []string) {
	for _, name := range disabled {
		if err := d.prune(ctx, d.state[name].Objects, nil); err != nil {
			say.Printf("add-on %s: remove: %v", name, err)
			continue
		}
		delete(d.state, name)
	}
	for ctx.Err() == nil {
		d.pass(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(pollEvery):
		}
	}
}

func (d *Deployer) pass(ctx context.Context) {
	names, err := manifests(d.dir)
	if err != nil {
		say.Printf("manifests: %v", err)
		return
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			say.Printf("manifest %s: %v", name, err)
			continue
		}
		sum := sha256.Sum256(data)
		hash := hex.EncodeToString(sum[:])
		last := d.failed[name]
		if d.state[name].Hash == hash || last.hash == hash && time.Now().Before(last.next) {
			continue
		}
		if len(d.state[name].Objects) > 0 && d.beingWritten(name) {
			continue // it was read in part, perhaps, and what is missing would be taken away
		}
		if err := d.file(ctx, name, hash, data); err != nil {
			if last.message != err.Error() {
				say.Printf("manifest %s: %v", name, err)
			}
			d.failed[name] = failure{hash, err.Error(), time.Now().Add(retryEvery)}
			continue
		}
		delete(d.failed, name)
		say.Printf("manifest %s: applied", name)
	}
}

// beingWritten tells whether a file changed a moment ago. It is asked after the
// file was read: a change since then counts too.
func (d *Deployer) beingWritten(name string) bool {
	info, err := os.Stat(filepath.Join(d.dir, name))
	return err != nil || time.Since(info.ModTime()).Abs() < writing
}

// errEmpty is about a file that deployed something, and that a power cut may have
// emptied: nothing is taken out of the cluster for that.
var errEmpty = errors.New("the file is empty, as a power cut leaves one; what it deployed stays: write it again, or \"---\" to take that away")

// manifests lists the files of dir and its folders that count, in order.
func manifests(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			if _, skip := os.Stat(path + ".skip"); skip != nil {
				names = append(names, name)
			}
		}
		return err
	})
	return names, err
}

// file applies every object of a file, also when one of them fails, and then
// removes what the file no longer names.
func (d *Deployer) file(ctx context.Context, name, hash string, data []byte) error {
	if len(data) == 0 && len(d.state[name].Objects) > 0 {
		return errEmpty
	}
	objects, err := decode(data)
	if err != nil {
		return err
	}
	var problems []error
	var now []Object
	for _, o := range objects {
		done, err := d.apply(ctx, o)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err))
			continue
		}
		now = append(now, done)
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if err := d.prune(ctx, d.state[name].Objects, now); err != nil {
		return err
	}
	d.state[name] = Applied{hash, now}
	b, err := json.Marshal(d.state)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(d.stateFile, b, 0o600)
}

// decode reads all documents of a YAML or JSON file; a List counts as its items.
func decode(data []byte) (objects []*unstructured.Unstructured, err error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		o := &unstructured.Unstructured{}
		switch err := decoder.Decode(&o.Object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case len(o.Object) == 0:
			continue
		case o.GetKind() == "":
			return nil, errors.New("a document has no kind")
		}
		if !o.IsList() {
			objects = append(objects, o)
			continue
		}
		list, err := o.ToList()
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
	}
}

func (d *Deployer) resource(gvk schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, string, error) {
	m, err := d.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		d.mapper.Reset() // the kind may have come since
		m, err = d.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, "", err
	}
	if m.Scope.Name() != meta.RESTScopeNameNamespace {
		return d.client.Resource(m.Resource), "", nil
	}
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return d.client.Resource(m.Resource).Namespace(namespace), namespace, nil
}

func (d *Deployer) apply(ctx context.Context, o *unstructured.Unstructured) (Object, error) {
	gvk := o.GroupVersionKind()
	r, namespace, err := d.resource(gvk, o.GetNamespace())
	if err != nil {
		return Object{}, err
	}
	o.SetNamespace(namespace)
	_, err = r.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	return Object{gvk.Group, gvk.Version, gvk.Kind, namespace, o.GetName()}, err
}

// prune deletes the objects of before that are not in now, namespaces last.
func (d *Deployer) prune(ctx context.Context, before, now []Object) error {
	var gone, namespaces []Object
	for _, o := range before {
		switch {
		case slices.ContainsFunc(now, func(n Object) bool {
			n.Version = o.Version
			return n == o
		}):
		case o.isNamespace():
			namespaces = append(namespaces, o)
		default:
			gone = append(gone, o)
		}
	}
	var problems []error
	for _, o := range append(gone, namespaces...) {
		if err := d.remove(ctx, o); err != nil {
			problems = append(problems, fmt.Errorf("delete %s %s: %w", strings.ToLower(o.Kind), o.Name, err))
		}
	}
	return errors.Join(problems...)
}

func (o Object) isNamespace() bool { return o.Group == "" && o.Kind == "Namespace" }

// remove deletes an object, if it is there. A namespace stays when it keeps what
// somebody else put there.
func (d *Deployer) remove(ctx context.Context, o Object) error {
	if o.isNamespace() {
		kept, err := d.keeps(ctx, o.Name)
		if err != nil {
			return err
		}
		if kept != "" {
			say.Printf("namespace %s stays: it holds %s", o.Name, kept)
			return nil
		}
	}
	r, _, err := d.resource(schema.GroupVersionKind{Group: o.Group, Version: o.Version, Kind: o.Kind}, o.Namespace)
	if err == nil {
		err = r.Delete(ctx, o.Name, metav1.DeleteOptions{})
	}
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	return err
}

// keeps names something in a namespace that nobody could bring back, "" if there
// is nothing.
func (d *Deployer) keeps(ctx context.Context, namespace string) (string, error) {
	for _, kind := range []string{"PersistentVolumeClaim", "Secret", "ConfigMap"} {
		r, _, err := d.resource(schema.GroupVersionKind{Version: "v1", Kind: kind}, namespace)
		if err != nil {
			return "", err
		}
		list, err := r.List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		for _, o := range list.Items {
			if kind == "ConfigMap" && o.GetName() == "kube-root-ca.crt" { // every namespace is given that
				continue
			}
			return strings.ToLower(kind) + " " + o.GetName(), nil
		}
	}
	return "", nil
}
