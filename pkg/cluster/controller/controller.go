package controller

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/health"
	"github.com/kedgeos/kedge/pkg/cluster/resolve"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/format/registries"
)

// Options are how a controller runs; the zero value is that of a pod of the
// shipped Deployment.
type Options struct {
	Kubeconfig string // file; "" means the pod's own account
	Namespace  string // of the lease; "" means kedge-system
	Identity   string // in the lease; "" means the host's name
	Listen     string // address of /metrics and /healthz; "" serves none
	Keys       string // folder of .pub files by which channels may be signed; "" for none
	Registries string // file in the form of registries.yaml; "" for none
}

// Flags adds the options to a command's flags.
func (o *Options) Flags(fs *flag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "`file` that tells how to reach the cluster; without it the pod's account is used")
	fs.StringVar(&o.Namespace, "namespace", v1alpha1.Namespace, "`namespace` of the lease by which one of several controllers leads")
	fs.StringVar(&o.Listen, "listen", ":8080", "`address` that serves /metrics and /healthz")
	fs.StringVar(&o.Keys, "keys", "/etc/kedge/upgrade-keys", "`folder` with the .pub files of the keys that may sign channels")
	fs.StringVar(&o.Registries, "registries", "/etc/kedge/registries/registries.yaml", "`file` that says how registries are spoken to, as k3s's registries.yaml does; none is no error")
}

// term are the times of an election.
type term struct{ lease, renew, retry time.Duration }

// longTerm is that of the shipped controller. Each renewal is a write to the disk
// of a machine that may have nothing else to do, and an upgrade can wait a minute
// for another controller.
var longTerm = term{lease: 60 * time.Second, renew: 40 * time.Second, retry: 15 * time.Second}

// Errors that callers tell apart.
var (
	ErrLost      = errors.New("the lease was lost: another controller may lead by now")
	ErrNoCluster = errors.New("find the cluster")
)

// Run leads, or waits to lead, until the end of ctx. After an error the process
// should end: nothing of it goes on then.
func Run(ctx context.Context, o Options) error {
	config, err := rest.InClusterConfig()
	if o.Kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoCluster, err)
	}
	c, err := newController(o, config)
	if err != nil {
		return err
	}
	if o.Listen != "" {
		l, err := net.Listen("tcp", o.Listen)
		if err != nil {
			return fmt.Errorf("serve metrics: %w", err)
		}
		s := &http.Server{Handler: c.metrics.handler(), ReadHeaderTimeout: 10 * time.Second}
		defer s.Close()
		go func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				logrus.WithError(err).Error("upgrade: serve metrics")
			}
		}()
	}
	return c.elect(ctx)
}

// A controller is one process.
type controller struct {
	Options
	config  *rest.Config
	core    core.CoreV1Interface
	leases  coordination.CoordinationV1Interface
	dynamic dynamic.Interface
	metrics *metrics
	scheme  *runtime.Scheme

	// What tests set.
	term       term
	now        func() time.Time
	pace       time.Duration
	telling    time.Duration
	limit      func(bytes int64) // of the process's memory
	checkEvery time.Duration
	leading    func(*loop)
}

func newController(o Options, config *rest.Config) (*controller, error) {
	if o.Namespace == "" {
		o.Namespace = v1alpha1.Namespace
	}
	if o.Identity == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		o.Identity = name
	}
	config = rest.CopyConfig(config)
	rest.AddUserAgent(config, "upgrade-controller")
	config.QPS, config.Burst, config.Timeout = 50, 100, 30*time.Second // no watch has this timeout
	c := &controller{Options: o, config: config, metrics: newMetrics(), term: longTerm, now: time.Now, pace: time.Second, telling: 10 * time.Second, limit: limitHeap, checkEvery: 15 * time.Second, leading: func(*loop) {}}
	var err error
	if c.scheme, err = newScheme(); err != nil {
		return nil, err
	}
	if c.core, err = core.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.leases, err = coordination.NewForConfig(config); err != nil {
		return nil, err
	}
	c.dynamic, err = dynamic.NewForConfig(config)
	return c, err
}

// elect waits to lead, and leads. The lease is given back only when nothing is
// written any more.
func (c *controller) elect(ctx context.Context) error {
	election, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var leads atomic.Bool
	done := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: "upgrade-controller",
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: c.Namespace, Name: "upgrade-controller"},
			Client:     c.leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: c.Identity},
		},
		LeaseDuration: c.term.lease, RenewDeadline: c.term.renew, RetryPeriod: c.term.retry, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(lost context.Context) {
				leads.Store(true)
				both, cancel := context.WithCancel(ctx)
				defer cancel()
				defer context.AfterFunc(lost, cancel)()
				done <- c.lead(both)
				stop()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() {
		if !leads.Load() {
			stop()
		}
	})()
	elector.Run(election)
	if !leads.Load() {
		return nil
	}
	select {
	case err = <-done:
	case <-time.After(c.term.lease - c.term.renew):
		err = ErrLost // it hangs in a write; the end of the process ends that
	}
	if err == nil && ctx.Err() == nil {
		err = ErrLost
	}
	return err
}

// lead decides until the end of ctx.
func (c *controller) lead(ctx context.Context) error {
	logrus.Info("upgrade: this controller leads")
	c.metrics.leader.Set(1)
	defer c.metrics.leader.Set(0)
	if err := install(ctx, c.dynamic); err != nil {
		return ended(ctx, err)
	}
	if err := served(ctx, c.dynamic); err != nil {
		return ended(ctx, err)
	}
	l, err := c.newLoop(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	found := make(chan struct{})
	go func() {
		l.facts.run(ctx)
		close(found)
	}()
	c.leading(l)
	l.run(ctx)
	<-found
	return nil
}

// ended is nil if it was ctx that made an end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *controller) newLoop(ctx context.Context) (*loop, error) {
	l := &loop{metrics: c.metrics, now: c.now, pace: c.pace, telling: c.telling, heap: heap{set: c.limit}, kicked: make(chan struct{}, 1), told: map[types.UID]time.Time{}, facts: newFacts()}
	d, err := discovery.NewDiscoveryClientForConfig(c.config)
	if err != nil {
		return nil, err
	}
	checker, err := health.New(c.dynamic, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d)))
	if err != nil {
		return nil, err
	}
	r := &resolve.Resolver{Keys: c.keys, ConfigMap: c.configMap, Registries: c.registries, Read: c.named, Now: c.now}
	l.facts.resolve, l.facts.check, l.facts.kick, l.facts.now, l.facts.every = r.Resolve, checker.Check, l.kick, c.now, c.checkEvery
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&core.EventSinkImpl{Interface: c.core.Events("")})
	l.events = broadcaster.NewRecorder(c.scheme, corev1.EventSource{Component: "upgrade-controller"})
	l.caches, err = openCaches(ctx, c.config, c.scheme, l.kick)
	return l, err
}

// keys reads the keys that may sign channels. They are read each time, so that a
// changed ConfigMap counts.
func (c *controller) keys() (keys []minisign.PublicKey, err error) {
	if c.Keys == "" {
		return nil, nil
	}
	files, err := filepath.Glob(filepath.Join(c.Keys, "*.pub"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		k, err := minisign.ParsePublicKey(string(text))
		if err != nil {
			return nil, fmt.Errorf("read key %s: %w", filepath.Base(file), err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// named reads a file that registries.yaml names: from beside it, where the Secret
// has it by another name, or where it says.
func (c *controller) named(path string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(c.Registries), registries.SecretKey(path)))
	if errors.Is(err, os.ErrNotExist) {
		return os.ReadFile(path)
	}
	return b, err
}

// registries reads how registries are spoken to, each time.
func (c *controller) registries() (registries.File, error) {
	text, err := os.ReadFile(c.Registries)
	if c.Registries == "" || errors.Is(err, os.ErrNotExist) {
		return registries.File{}, nil
	}
	if err != nil {
		return registries.File{}, err
	}
	f, err := registries.Parse(text)
	if err != nil {
		return f, fmt.Errorf("read %s: %w", c.Registries, err)
	}
	return f, nil
}

func (c *controller) configMap(ctx context.Context, namespace, name string) (map[string]string, error) {
	m, err := c.core.ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}
