// Package runc pins the version of runc that the image carries. It has no code
// of its own: runc is a main package, built by its import path
// (github.com/opencontainers/runc, the tool line of go.mod) from this module;
// it needs cgo for libseccomp.
package runc
