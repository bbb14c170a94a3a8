package source

import (
	"errors"
	"fmt"
	"math"
)

// ErrRoom means that an image does not fit where it would be fetched to.
var ErrRoom = errors.New("there is no room for it")

// Spare is what a download leaves free, in bytes: Kubernetes and the logs write
// there too.
const Spare = 64 << 20

// Room says why an image of size bytes cannot be fetched to a file system with
// free bytes, when have bytes of it are there already; nil means that it can.
// The error wraps ErrRoom and has the numbers. A size below 0 is unknown: then
// there must be room for anything at all.
func Room(size, have, free int64) error {
	switch {
	case size < 0 && free <= Spare:
		return fmt.Errorf("%w: %s are free in /var, and %s of them are left so", ErrRoom, mib(free), mib(free))
	case size < 0 || size-have <= free-Spare:
		return nil
	}
	return fmt.Errorf("%w: it has %s, of which %s are here; %s are free in /var, and %s of them are left so",
		ErrRoom, mib(size), mib(have), mib(free), mib(min(Spare, free)))
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", math.Ceil(float64(n)/(1<<20)*10)/10) }
