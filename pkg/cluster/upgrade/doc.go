// Package upgrade decides how the nodes of a cluster come to the releases that
// its plans name.
//
// Decide holds every rule. It has no client and no clock: whoever calls it
// fetches what Input asks for, writes the goals and statuses of the Decision,
// and calls it again when something changes, or at the time it names. It
// remembers nothing: all that it must know later stands in the goals of the
// nodes (api/upgrade/v1alpha1, NodeUpgrade), so a lost status of a plan or a
// controller that starts anew changes no decision. One thing it asks of its
// caller: the goals in Input are those that were written last, not what a cache
// knew before that.
//
// What a node must do for that:
//
//   - it takes a goal for seen by its status' observedGeneration;
//   - it stays in the phases RolledBack and Failed until its goal changes;
//   - it does not begin to drain, and stops draining, after the goal's notAfter
//     and when the goal goes back to Staged;
//   - once Armed it comes to an end whatever the goal says;
//   - it looks at the same guards again before it is Armed.
//
// The manifests folder holds the CustomResourceDefinitions, written by "make
// generate", and the policy that lets a node write only its own status.
package upgrade
