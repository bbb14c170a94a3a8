package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Version returns the release of the running kernel, as uname -r.
func Version() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// loadFile loads one module, which may be compressed; see finit_module(2).
func loadFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return unix.FinitModule(int(f.Fd()), "", flags)
}

// SetHostname names the machine.
func SetHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name to %q: %w", name, err)
	}
	return nil
}

// SetClock sets the system's clock.
func SetClock(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	return nil
}

// Uptime returns the time since the kernel started, sleep included.
func Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// SetLogLevel says up to which level messages of the kernel show on its
// consoles; see syslog(2).
func SetLogLevel(level int) error {
	const consoleLevel = 8
	if _, _, errno := unix.Syscall(unix.SYS_SYSLOG, consoleLevel, 0, uintptr(level)); errno != 0 {
		return fmt.Errorf("set kernel log level: %w", errno)
	}
	return nil
}

// Log returns the last messages of the kernel, as dmesg.
func Log() (string, error) {
	const readAll, size = 3, 10
	n, err := unix.Klogctl(size, nil)
	if err != nil {
		return "", fmt.Errorf("read kernel log: %w", err)
	}
	b := make([]byte, n)
	if n, err = unix.Klogctl(readAll, b); err != nil {
		return "", fmt.Errorf("read kernel log: %w", err)
	}
	return string(b[:n]), nil
}

// RandomReady tells whether the kernel's random numbers are good.
func RandomReady() bool {
	_, err := unix.Getrandom(make([]byte, 1), unix.GRND_NONBLOCK)
	return err == nil
}

// CreditRandom mixes seed into the random pool and counts bits of it as
// unknown to anybody; see random(4).
func CreditRandom(seed []byte, bits int) error {
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// struct rand_pool_info: entropy_count, buf_size, buf.
	info := binary.NativeEndian.AppendUint32(nil, uint32(bits))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(seed)))
	info = append(info, seed...)
	if err := ioctl(f, unix.RNDADDENTROPY, info); err != nil {
		return fmt.Errorf("credit random seed: %w", err)
	}
	return nil
}

// SetLimit sets a resource limit of this process, which children inherit; see
// setrlimit(2).
func SetLimit(resource int, soft, hard uint64) error {
	if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: soft, Max: hard}); err != nil {
		return fmt.Errorf("set resource limit %d to %d: %w", resource, soft, err)
	}
	return nil
}

// Resources of SetLimit.
const (
	LimitFiles     = unix.RLIMIT_NOFILE
	LimitProcesses = unix.RLIMIT_NPROC
	LimitCore      = unix.RLIMIT_CORE
	LimitLocked    = unix.RLIMIT_MEMLOCK
)

// Events sends device events until ctx ends, then closes the channel. When
// the kernel dropped some because nobody read fast enough, an Event with
// Action "overrun" stands for them.
func Events(ctx context.Context) (<-chan Event, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open device events: %w", err)
	}
	const kernelGroup, buffer = 1, 4 << 20
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open device events: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "uevents") // the runtime polls it, Close wakes the reader
	events := make(chan Event, 64)
	context.AfterFunc(ctx, func() { socket.Close() })
	go func() {
		defer close(events)
		message := make([]byte, 64<<10)
		for {
			n, err := socket.Read(message)
			e, ok := parseEvent(message[:max(n, 0)])
			switch {
			case errors.Is(err, unix.ENOBUFS):
				e, ok = Event{Action: "overrun"}, true
			case err != nil:
				return
			}
			if !ok {
				continue
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}
