// Package controller keeps a cluster's upgrade plans going: it fetches what
// upgrade.Decide asks for, and writes what it says.
//
// There is one loop. Whatever changes in the cluster only wakes it; it then looks
// at everything anew and decides once, at most once in a second. What takes long,
// registries, channels and checks, is looked up beside it (see facts). The loop
// itself holds no state that matters: it may be killed at any write, and the next
// one comes to the same end.
//
// Two rules make that safe. Decide must not see goals that are older than those
// written last, so the loop waits until its caches have seen every one of its
// writes. And a goal is written only over the one that was read: the write names
// the generation that it replaces, so a status that a node writes meanwhile does
// not get in the way, but another controller does.
//
// A leave to restart is given only on checks that were looked at after the last
// node came to its end, or was lost.
//
// Pod disruption budgets are not looked at here: the node that drains meets them,
// and says which. Of etcd nothing is told to Decide: Kedge's own datastore is SQLite on one
// server, and has no members.
package controller
