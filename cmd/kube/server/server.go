// Package server runs the control plane: kube-apiserver, controller-manager and
// scheduler in one process, on the datastore.
//
// The components' own commands install signal handlers, which panics the second
// time; so they are started by their options and Run functions. That is no
// stable API: this package moves with Kubernetes.
package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/addons"
	"github.com/kedgeos/kedge/cmd/kube/args"
	"github.com/kedgeos/kedge/cmd/kube/datastore"
	"github.com/kedgeos/kedge/cmd/kube/pki"
	"github.com/kedgeos/kedge/cmd/kube/say"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// renewEvery is how often a running server looks at its certificates.
const renewEvery = 24 * time.Hour

// ErrRenewed ends Run when certificates were made anew: the program must be
// started again to use them.
var ErrRenewed = errors.New("certificates were renewed")

// drain is how long the API server may take to answer what was asked of it.
const drain = 5 * time.Second

// gcPercent trades a little processor time for a third of the heap once the
// start is over.
const gcPercent = 50

// Prepare makes folders, keys and certificates. It touches no network.
func Prepare(c args.Config) (*pki.Cluster, error) {
	for _, dir := range []string{c.ServerDir(), c.TLSDir(), c.AgentDir(), c.ManifestsDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	cluster, err := pki.Open(c)
	if err != nil {
		return nil, err
	}
	made, err := cluster.Ensure(time.Now())
	if len(made) > 0 {
		say.Printf("certificates made anew: %v", made)
	}
	return cluster, err
}

// Run serves until ctx ends or a component fails.
func Run(ctx context.Context, c args.Config, cluster *pki.Cluster) error {
	begin := time.Now()
	// The datastore outlives the API server, which reads from it to its end.
	storeContext, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStore()
	stopped, err := datastore.Start(storeContext, filepath.Join(c.ServerDir(), "db"), c.KineSocket())
	if err != nil {
		return err
	}
	failed := make(chan error, 8)
	go func() { failed <- fmt.Errorf("datastore ended: %w", <-stopped) }()
	ended, err := apiServer(ctx, c.APIServer(), failed)
	if err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	probe, err := newProbe(c)
	if err != nil {
		return err
	}
	go func() {
		if err := follow(ctx, c, cluster, probe, begin, failed); err != nil && ctx.Err() == nil {
			failed <- err
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(drain):
	}
	return nil
}

// follow starts what needs a serving API, in the order in which it can be used.
func follow(ctx context.Context, c args.Config, cluster *pki.Cluster, probe *probe, begin time.Time, failed chan<- error) error {
	// Until the roles of the components exist, they could do nothing.
	if err := probe.wait(ctx, "/readyz/poststarthook/rbac/bootstrap-roles"); err != nil {
		return err
	}
	if !c.DisableAgent { // its node registers while the rest starts
		go func() {
			if err := retry(ctx, func() error { return cluster.MarkNode(ctx) }); err != nil && ctx.Err() == nil {
				say.Printf("mark node as control plane: %v", err)
			}
		}()
	}
	if !c.DisableControllerManager {
		if err := controllerManager(ctx, c.ControllerManager(), failed); err != nil {
			return fmt.Errorf("kube-controller-manager: %w", err)
		}
	}
	if !c.DisableScheduler {
		if err := scheduler(ctx, c.Scheduler(), failed); err != nil {
			return fmt.Errorf("kube-scheduler: %w", err)
		}
	}
	if err := probe.wait(ctx, "/readyz"); err != nil {
		return err
	}
	say.Printf("the API is ready after %.1f s", time.Since(begin).Seconds())
	if err := retry(ctx, func() error { return cluster.Publish(ctx) }); err != nil {
		return err
	}
	disabled, err := addons.Bundled(c)
	if err != nil {
		return err
	}
	deployer, err := addons.NewDeployer(c, c.ServerKubeconfig("super-admin"))
	if err != nil {
		return err
	}
	go deployer.Run(ctx, disabled)
	time.AfterFunc(20*time.Second, func() {
		debug.SetGCPercent(gcPercent)
		debug.FreeOSMemory()
	})
	go renew(ctx, cluster, failed)
	return nil
}

// renew ends the process, through failed, on the day that a certificate had to
// be made anew.
func renew(ctx context.Context, cluster *pki.Cluster, failed chan<- error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(renewEvery):
		}
		made, err := cluster.Ensure(time.Now())
		if err != nil {
			say.Printf("renew certificates: %v", err)
		} else if len(made) > 0 {
			failed <- fmt.Errorf("%w: %v", ErrRenewed, made)
			return
		}
	}
}

func retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !apierrors.IsNotFound(err) { // a node that has yet to register is no news
			say.Printf("%v; trying again", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// A probe asks the API how far it is, as the administrator.
type probe struct {
	client *http.Client
	url    string
}

func newProbe(c args.Config) (*probe, error) {
	conf, err := clientcmd.BuildConfigFromFlags("", c.ServerKubeconfig("super-admin"))
	if err != nil {
		return nil, err
	}
	conf.Timeout = 2 * time.Second
	client, err := rest.HTTPClientFor(conf)
	return &probe{client, c.LocalURL()}, err
}

// wait returns when path answers 200.
func (p *probe) wait(ctx context.Context, path string) error {
	for {
		if r, err := p.client.Get(p.url + path); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
