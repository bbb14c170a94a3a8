package power

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Watchdog resets the machine when nobody pets it for its timeout.
type Watchdog struct{ f *os.File }

// OpenWatchdog starts the watchdog at path, such as /dev/watchdog. Hardware that
// cannot wait so long keeps its own timeout.
//
// Source: Documentation/watchdog/watchdog-api.rst of the kernel.
func OpenWatchdog(path string, timeout time.Duration) (*Watchdog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	w := &Watchdog{f}
	err = unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, int(timeout.Seconds()))
	if !usable(err, w.Timeout()) {
		w.Close()
		return nil, fmt.Errorf("set timeout of watchdog: %w", err)
	}
	return w, nil
}

// usable tells whether a watchdog is, from the error of setting its timeout and
// the timeout that it has: one that is told too long a timeout keeps its own.
func usable(err error, timeout time.Duration) bool {
	return err == nil || errors.Is(err, unix.EINVAL) && timeout > 0
}

// Timeout is how long it waits to be petted, 0 when it does not tell.
func (w *Watchdog) Timeout() time.Duration {
	seconds, err := unix.IoctlGetUint32(int(w.f.Fd()), unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// Bequeath lets the watchdog run on under whatever this process executes next,
// and returns the number of a file for TakeWatchdog there. That file is no
// os.File, which would close it when nobody uses it any more.
func (w *Watchdog) Bequeath() (string, error) {
	fd, err := unix.FcntlInt(w.f.Fd(), unix.F_DUPFD, 3)
	if err != nil {
		return "", fmt.Errorf("keep watchdog: %w", err)
	}
	runtime.KeepAlive(w)
	return strconv.Itoa(fd), nil
}

// TakeWatchdog takes over the watchdog of the program that ran in this process
// before.
func TakeWatchdog(file string) (*Watchdog, error) {
	fd, err := strconv.Atoi(file)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("take over watchdog: file %q", file)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("take over watchdog: file %d: %w", fd, err)
	}
	return &Watchdog{os.NewFile(uintptr(fd), "watchdog")}, nil
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
