package console

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const noControl = unix.O_NOCTTY

// A Terminal is an open terminal that a person may sit at. Reads end when its
// context does.
type Terminal struct {
	*os.File
	lines *bufio.Reader
}

// Open opens the terminal of this name, without /dev, and sets it up for lines:
// echo on, signals on, newline translation on.
func Open(name string) (*Terminal, error) {
	fd, err := unix.Open("/dev/"+name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal %s: %w", name, err)
	}
	t := &Terminal{File: os.NewFile(uintptr(fd), name)}
	t.lines = bufio.NewReader(t.File)
	if err := t.Reset(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Reset sets the terminal up for lines, whatever a program left behind.
func (t *Terminal) Reset() error {
	return t.change(func(m *unix.Termios) {
		m.Iflag |= unix.ICRNL | unix.IXON
		m.Iflag &^= unix.IGNCR | unix.INLCR
		m.Oflag |= unix.OPOST | unix.ONLCR
		m.Lflag |= unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ISIG | unix.IEXTEN
	})
}

func (t *Terminal) change(f func(*unix.Termios)) error {
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		m, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err == nil {
			f(m)
			err = unix.IoctlSetTermios(int(fd), unix.TCSETS, m)
		}
		failed = err
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("set terminal %s: %w", t.Name(), err)
	}
	return nil
}

// ReadLine waits for a line and returns it without its end. The error is
// os.ErrDeadlineExceeded when wait, if it is not 0, was too short, and the
// cause of ctx when that ended.
func (t *Terminal) ReadLine(ctx context.Context, wait time.Duration) (string, error) {
	until := time.Time{}
	if wait > 0 {
		until = time.Now().Add(wait)
	}
	if err := t.SetReadDeadline(until); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { t.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := t.lines.ReadString('\n')
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// ReadPassword asks for a secret: it shows prompt, and no echo.
func (t *Terminal) ReadPassword(ctx context.Context, prompt string, wait time.Duration) (string, error) {
	if err := t.change(func(m *unix.Termios) { m.Lflag &^= unix.ECHO }); err != nil {
		return "", err
	}
	// What was typed ahead must not become part of it.
	t.lines.Reset(t.File)
	if _, err := t.WriteString(prompt); err != nil {
		t.Reset()
		return "", err
	}
	line, err := t.ReadLine(ctx, wait)
	t.Reset() // before the new line, after which the next answer may be typed
	t.WriteString("\n")
	return line, err
}

// Attach makes the main console standard input, output and error of this
// process: the kernel gives it none when its initial file system has no
// device.
func Attach() error {
	f, err := os.OpenFile(Main, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("attach %s: %w", Main, err)
		}
	}
	return nil
}
