// Package nodeagent brings one node to the goal of its NodeUpgrade: it asks the
// agent of the machine on its socket (api/upgradesocket), lets pods leave, and
// says in the NodeUpgrade's status what really happens.
//
// Next holds every rule, and has no client and no clock. It remembers nothing:
// what must be known later stands in the status of the NodeUpgrade, in two
// annotations of the node, and in the agent's own files. So whoever runs it may
// die anywhere and start anew. Loop fetches what Next asks for, writes the
// status, and only then acts.
//
// It runs as a pod of a DaemonSet without privileges: it needs the socket's
// folder and group, and the right to watch its node and NodeUpgrade, to change
// the status of the latter, to patch the former, and to list, evict and delete
// pods.
//
// A hook is a pod that it makes on its own node. Those after an upgrade run while
// the new release is on trial, which the agent holds until they have ended well.
package nodeagent
