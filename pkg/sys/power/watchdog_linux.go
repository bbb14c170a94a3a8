package power

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Watchdog resets the machine when nobody pets it for its timeout.
type Watchdog struct{ f *os.File }

// OpenWatchdog starts the watchdog at path, such as /dev/watchdog.
//
// Source: Documentation/watchdog/watchdog-api.rst of the kernel.
func OpenWatchdog(path string, timeout time.Duration) (*Watchdog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	w := &Watchdog{f}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, int(timeout.Seconds())); err != nil {
		w.Close()
		return nil, fmt.Errorf("set timeout of watchdog: %w", err)
	}
	return w, nil
}

// Pet keeps the machine running for another timeout.
func (w *Watchdog) Pet() error {
	_, err := w.f.Write([]byte{0})
	return err
}

// Close stops the watchdog, if its driver allows that.
func (w *Watchdog) Close() error {
	_, err := w.f.Write([]byte("V")) // the "magic close" that most drivers know
	if e := w.f.Close(); err == nil {
		err = e
	}
	return err
}
