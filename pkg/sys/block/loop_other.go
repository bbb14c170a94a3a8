//go:build !linux

package block

import (
	"errors"
	"fmt"
)

// AttachLoop needs Linux.
func AttachLoop(path string) (string, error) {
	return "", fmt.Errorf("attach %s: %w", path, errors.ErrUnsupported)
}

// AttachPart needs Linux.
func AttachPart(path string, _, _ int64) (string, error) { return AttachLoop(path) }

// DetachLoop needs Linux.
func DetachLoop(device string) error {
	return fmt.Errorf("detach %s: %w", device, errors.ErrUnsupported)
}
