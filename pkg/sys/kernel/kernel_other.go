//go:build !linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func unsupported(what string) error { return fmt.Errorf("%s: %w", what, errors.ErrUnsupported) }

// Resources of SetLimit.
const (
	LimitFiles = iota
	LimitProcesses
	LimitCore
	LimitLocked
)

// Version needs Linux.
func Version() (string, error) { return "", unsupported("uname") }

func loadFile(path string) error { return unsupported("load module " + path) }

// SetHostname needs Linux.
func SetHostname(string) error { return unsupported("set host name") }

// SetClock needs Linux.
func SetClock(time.Time) error { return unsupported("set clock") }

// Uptime needs Linux.
func Uptime() time.Duration { return 0 }

// SetLogLevel needs Linux.
func SetLogLevel(int) error { return unsupported("set kernel log level") }

// Log needs Linux.
func Log() (string, error) { return "", unsupported("read kernel log") }

// RandomReady needs Linux.
func RandomReady() bool { return true }

// CreditRandom needs Linux.
func CreditRandom([]byte, int) error { return unsupported("credit random seed") }

// SetLimit needs Linux.
func SetLimit(int, uint64, uint64) error { return unsupported("set resource limit") }

// Events needs Linux.
func Events(context.Context) (<-chan Event, error) { return nil, unsupported("open device events") }
