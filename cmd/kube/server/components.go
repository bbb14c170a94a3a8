package server

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	cliflag "k8s.io/component-base/cli/flag"
	basecompatibility "k8s.io/component-base/compatibility"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of the clients
	_ "k8s.io/component-base/metrics/prometheus/version"  // build_info
	apiapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apioptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	cmapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	cmoptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	schedapp "k8s.io/kubernetes/cmd/kube-scheduler/app"
	schedoptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// Several components set up logging in one process; the second time must not
// be an error.
func init() { logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged }

// parse reads a component's argument list.
func parse(nfs cliflag.NamedFlagSets, args []string) error {
	fs := pflag.NewFlagSet("component", pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	for _, f := range nfs.FlagSets {
		fs.AddFlagSet(f)
	}
	return fs.Parse(args)
}

// run reports the end of a component, which is a failure whatever its error.
func run(name string, failed chan<- error, f func() error) {
	go func() { failed <- fmt.Errorf("%s ended: %w", name, f()) }()
}

// apiServer returns a channel that is closed when the server has ended.
func apiServer(ctx context.Context, args []string, failed chan<- error) (ended <-chan struct{}, err error) {
	s := apioptions.NewServerRunOptions()
	if err := parse(s.Flags(), args); err != nil {
		return nil, err
	}
	registry := s.GenericServerRunOptions.ComponentGlobalsRegistry
	if err := registry.Set(); err != nil {
		return nil, err
	}
	if err := logsapi.ValidateAndApply(s.Logs, registry.FeatureGateFor(basecompatibility.DefaultKubeComponent)); err != nil {
		return nil, err
	}
	complete, err := s.Complete(ctx)
	if err != nil {
		return nil, err
	}
	if err := utilerrors.NewAggregate(complete.Validate()); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	run("kube-apiserver", failed, func() error {
		defer close(done)
		return apiapp.Run(ctx, complete)
	})
	return done, nil
}

func controllerManager(ctx context.Context, args []string, failed chan<- error) error {
	s, err := cmoptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	all, off, alias := cmapp.KnownControllers(), cmapp.ControllersDisabledByDefault(), cmapp.ControllerAliases()
	nfs := s.Flags(all, off, alias)
	s.ParsedFlags = &nfs
	if err := parse(nfs, args); err != nil {
		return err
	}
	if err := s.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	c, err := s.Config(ctx, all, off, alias)
	if err != nil {
		return err
	}
	run("kube-controller-manager", failed, func() error { return cmapp.Run(ctx, c.Complete()) })
	return nil
}

func scheduler(ctx context.Context, args []string, failed chan<- error) error {
	o := schedoptions.NewOptions()
	if err := parse(*o.Flags, args); err != nil {
		return err
	}
	if err := o.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	complete, sched, err := schedapp.Setup(ctx, o)
	if err != nil {
		return err
	}
	run("kube-scheduler", failed, func() error { return schedapp.Run(ctx, complete, sched) })
	return nil
}
