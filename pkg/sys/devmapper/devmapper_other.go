//go:build !linux

package devmapper

import "errors"

// control needs Linux.
type control struct{}

func open() (*control, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (*control) Close() error { return nil }

func (*control) create(string, Target) (string, error) { return "", errors.ErrUnsupported }
func (*control) remove(string) error                   { return errors.ErrUnsupported }
func (*control) status(string, bool) (string, error)   { return "", errors.ErrUnsupported }
