package upgrade

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/cluster/controller"
)

func controllerCommand() *cli.Command {
	var o controller.Options
	return &cli.Command{
		Name: "controller", Usage: "[flags]", Short: "decide what every node of the cluster is to run, and when", Flags: o.Flags,
		Run: func(ctx context.Context, env cli.Env) error {
			logrus.SetOutput(env.Stderr)
			logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true})
			err := controller.Run(ctx, o)
			if errors.Is(err, controller.ErrNoCluster) {
				return cli.Hint(err, "as a pod it needs a service account; elsewhere name a file with --kubeconfig")
			}
			return err
		},
	}
}
