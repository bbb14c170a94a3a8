// Package filelock lets one program at a time, or one part of it, do something.
//
// A lock is an advisory one on an open file, flock(2): the kernel lets go of it
// when its holder dies. The file stays; what is in it is not looked at.
package filelock

import (
	"errors"
	"os"
)

// ErrLocked means that somebody else holds the lock.
var ErrLocked = errors.New("somebody else is at it")

// A Lock is held until Unlock.
type Lock struct{ file *os.File }

// Wait takes the lock on the file at path, which is made when it is missing; it
// waits until nobody else has it.
func Wait(path string) (*Lock, error) { return take(path, true) }

// Try takes the lock, or returns ErrLocked.
func Try(path string) (*Lock, error) { return take(path, false) }

func take(path string, wait bool) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, wait); err != nil {
		f.Close()
		return nil, err
	}
	return &Lock{f}, nil
}

// Unlock lets go of the lock; that of a nil Lock does nothing.
func (l *Lock) Unlock() {
	if l != nil {
		l.file.Close()
	}
}
