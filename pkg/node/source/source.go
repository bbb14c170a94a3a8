// Package source knows where this machine takes an image from: a file, a URL,
// a registry or a layout, a stick or disc.
//
// It decides what a name stands for, whether there is room, and which of the
// images on a stick is meant. The transfers are pkg/sys/fetch's and pkg/sys/registry's; whether an image may be
// put on the machine is pkg/node/update's.
package source

import (
	"errors"
	"fmt"
	"strings"
)

// A Kind of source.
type Kind int

// The kinds.
const (
	File     Kind = iota // on this machine
	Web                  // http or https
	Registry             // host/repository:tag or host/repository@sha256:…
	Layout               // oci:DIR or oci-archive:FILE, on this machine
	USB                  // a stick or disc
)

// USBName is what stands for a stick or disc.
const USBName = "usb"

// Forms says in a line what an image may be named as.
const Forms = `a file, an http(s) URL, a registry's reference (registry.example/kedge:v1), oci:DIR, oci-archive:FILE, or "usb"`

// ErrForm means that a name stands for nothing an image can be taken from.
var ErrForm = errors.New("not a name of an image")

// Classify says what a name stands for. Exists tells whether there is a file of
// this name: one wins over a registry.
func Classify(name string, exists func(string) bool) (Kind, error) {
	scheme, _, url := strings.Cut(name, "://")
	switch {
	case name == "":
		return File, fmt.Errorf("%w: it is empty", ErrForm)
	case name == USBName:
		return USB, nil
	case url && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")):
		return Web, nil
	case url:
		return File, fmt.Errorf("%w: %s: URLs begin with http:// or https://", ErrForm, name)
	case strings.HasPrefix(name, "oci:"), strings.HasPrefix(name, "oci-archive:"):
		return Layout, nil
	case strings.HasPrefix(name, "/"), strings.HasPrefix(name, "."), strings.HasSuffix(strings.ToLower(name), ".iso"), exists(name):
		return File, nil
	case inRegistry(name):
		return Registry, nil
	}
	return File, nil
}

// inRegistry tells a reference from a path: its first part is a host.
func inRegistry(name string) bool {
	host, rest, ok := strings.Cut(name, "/")
	return ok && rest != "" && (strings.ContainsAny(host, ".:") || host == "localhost")
}
