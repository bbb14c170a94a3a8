// Package plans is what a person does with the upgrade plans of a cluster: write
// one, look at it, and change its course.
//
// It decides nothing about nodes: pictures come from upgrade.Look, and a change
// is a patch of a plan's spec, which the controller follows.
package plans
