//go:build !linux

package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const noControl = 0

// A Terminal needs Linux.
type Terminal struct{ *os.File }

var errUnsupported = fmt.Errorf("open terminal: %w", errors.ErrUnsupported)

// Open needs Linux.
func Open(string) (*Terminal, error) { return nil, errUnsupported }

// Reset needs Linux.
func (t *Terminal) Reset() error { return errUnsupported }

// ReadLine needs Linux.
func (t *Terminal) ReadLine(context.Context, time.Duration) (string, error) {
	return "", errUnsupported
}

// ReadPassword needs Linux.
func (t *Terminal) ReadPassword(context.Context, string, time.Duration) (string, error) {
	return "", errUnsupported
}

// Attach needs Linux.
func Attach() error { return errUnsupported }
