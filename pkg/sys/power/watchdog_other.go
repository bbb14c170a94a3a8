//go:build !linux

package power

import (
	"errors"
	"time"
)

// A Watchdog needs Linux.
type Watchdog struct{}

// OpenWatchdog needs Linux.
func OpenWatchdog(string, time.Duration) (*Watchdog, error) { return nil, errors.ErrUnsupported }

// TakeWatchdog needs Linux.
func TakeWatchdog(string) (*Watchdog, error) { return nil, errors.ErrUnsupported }

// Timeout needs Linux.
func (*Watchdog) Timeout() time.Duration { return 0 }

// Bequeath needs Linux.
func (*Watchdog) Bequeath() (string, error) { return "", errors.ErrUnsupported }

// Pet needs Linux.
func (*Watchdog) Pet() error { return errors.ErrUnsupported }

// Close needs Linux.
func (*Watchdog) Close() error { return errors.ErrUnsupported }
