package upgrade

import (
	"context"
	"flag"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/api/upgradesocket"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/cluster/nodeagent"
)

// nodeVariable is where a pod finds the name of its node, by the downward API.
const nodeVariable = "NODE_NAME"

func nodeCommand() *cli.Command {
	var name, socket string
	return &cli.Command{Name: "node", Usage: "[flags]", Short: "bring the node that this pod runs on to its goal", Flags: func(fs *flag.FlagSet) {
		fs.StringVar(&name, "node", os.Getenv(nodeVariable), "`name` of the node (default: $"+nodeVariable+")")
		fs.StringVar(&socket, "socket", upgradesocket.Path, "`path` of the agent's socket")
	}, Run: func(ctx context.Context, env cli.Env) error {
		if name == "" {
			return cli.Usagef("node: which? --node, or $%s by the downward API: fieldRef spec.nodeName", nodeVariable)
		}
		api, err := nodeagent.Connect(name)
		if err != nil {
			return cli.Hint(err, "it runs as a pod, with a service account")
		}
		log := logrus.New()
		log.SetOutput(env.Stderr)
		log.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true})
		loop := nodeagent.Loop{Cluster: api, Agent: upgradesocket.Client{Socket: socket}, Log: log}
		loop.Run(ctx, api.Watch(ctx))
		return nil
	}}
}
