//go:build !linux

package mount

import (
	"errors"
	"fmt"
)

func unsupported(what any) error { return fmt.Errorf("%v: %w", what, errors.ErrUnsupported) }

// Mount needs Linux.
func Mount(s Spec) error { return unsupported(s) }

// Unmount needs Linux.
func Unmount(target string) error { return unsupported("umount " + target) }

// Detach needs Linux.
func Detach(target string) error { return unsupported("umount " + target) }

// Table needs Linux.
func Table() ([]Mounted, error) { return nil, unsupported("read mountinfo") }

// Free needs Linux.
func Free(path string) (int64, error) { return 0, unsupported("statfs " + path) }

// SwitchRoot needs Linux.
func SwitchRoot(root string) error { return unsupported("switch root to " + root) }

// GrowExt4 needs Linux.
func GrowExt4(target string, size int64) error { return unsupported("grow " + target) }
