// Package cni pins the small programs that containerd runs beside kube: its
// shim and the CNI plugins. They are main packages, built by their import paths
// (the tool lines of go.mod) from this module; the shim stays at the version of
// containerd in cmd/kube.
package cni
