//go:build !linux

package power

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Do needs Linux.
func Do(a Action) error { return fmt.Errorf("%s: %w", a, errors.ErrUnsupported) }

// Sync needs Linux.
func Sync() {}

// CatchCtrlAltDel needs Linux.
func CatchCtrlAltDel() error { return fmt.Errorf("catch ctrl-alt-del: %w", errors.ErrUnsupported) }

// Buttons needs Linux.
func Buttons() []string { return nil }

// Pressed needs Linux.
func Pressed(context.Context, string) error {
	return fmt.Errorf("read power button: %w", errors.ErrUnsupported)
}

// LoadKernel needs Linux.
func LoadKernel(kernel, initrd *os.File, cmdline string) error {
	return fmt.Errorf("load kernel: %w", errors.ErrUnsupported)
}

// StartKernel needs Linux.
func StartKernel() error { return fmt.Errorf("start loaded kernel: %w", errors.ErrUnsupported) }
