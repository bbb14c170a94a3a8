package upgrade

import "embed"

// Manifests holds what the API server must have before the controller starts:
// the resource definitions, and the policies for what nodes may write. They are
// plain objects for server-side apply, one or more in a file.
//
//go:embed manifests/*.yaml
var Manifests embed.FS

// NodeAccount is the service account of the pods that speak for their nodes, by
// which the policy knows them.
const NodeAccount = "system:serviceaccount:kedge-system:upgrade-node"
