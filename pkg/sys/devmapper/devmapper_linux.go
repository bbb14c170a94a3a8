package devmapper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlNode is where the device mapper listens.
const controlNode = "/dev/mapper/control"

// bufferSize is what a request may take, in bytes; an answer has to fit too. It
// has room for a target's longest parameters that make sense.
const bufferSize = 16 << 10

const (
	headSize = int(unsafe.Sizeof(unix.DmIoctl{}))
	specSize = int(unsafe.Sizeof(unix.DmTargetSpec{}))
)

// A control sends requests to the kernel.
type control struct {
	io.Closer
	ioctl func(request uint, buffer []byte) error // the kernel's, or a test's
}

func open() (*control, error) {
	f, err := os.OpenFile(controlNode, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no device mapper in this kernel", ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return &control{f, func(request uint, buffer []byte) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(&buffer[0]))); errno != 0 {
			return errno
		}
		return nil
	}}, nil
}

// create makes a device, gives it its table and starts it.
func (c *control) create(name string, t Target) (string, error) {
	if err := check(name, t); err != nil {
		return "", err
	}
	answer, err := c.send(unix.DM_DEV_CREATE, "create", name, 0, nil)
	if err != nil {
		return "", err
	}
	if _, err = c.send(unix.DM_TABLE_LOAD, "load table", name, unix.DM_READONLY_FLAG, &t); err == nil {
		_, err = c.send(unix.DM_DEV_SUSPEND, "resume", name, 0, nil) // without DM_SUSPEND_FLAG
	}
	if err != nil {
		return "", errors.Join(err, c.remove(name))
	}
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(head(answer).Dev)), nil
}

func (c *control) remove(name string) error {
	_, err := c.send(unix.DM_DEV_REMOVE, "remove", name, 0, nil)
	return err
}

// status returns the status of the first target, or its parameters.
func (c *control) status(name string, params bool) (string, error) {
	var flags uint32
	if params {
		flags = unix.DM_STATUS_TABLE_FLAG
	}
	answer, err := c.send(unix.DM_TABLE_STATUS, "status", name, flags, nil)
	if err != nil {
		return "", err
	}
	h := head(answer)
	start := int(h.Data_start) + specSize
	if h.Flags&unix.DM_BUFFER_FULL_FLAG != 0 || h.Target_count == 0 || start >= len(answer) {
		return "", fmt.Errorf("status: answer with %d targets in %d bytes", h.Target_count, h.Data_size)
	}
	text, _, ended := bytes.Cut(answer[start:], []byte{0})
	if !ended {
		return "", errors.New("status: answer without an end")
	}
	return string(text), nil
}

// send asks one thing of the kernel and returns its answer in the same form.
func (c *control) send(request uint, verb, name string, flags uint32, t *Target) ([]byte, error) {
	buffer := encode(name, flags, t)
	err := c.ioctl(request, buffer)
	if errors.Is(err, unix.ENXIO) && t == nil { // of a table it is about a device in it
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return buffer, nil
}

// encode lays a request out in a buffer: head, then target, then its parameters
// and a zero byte.
func encode(name string, flags uint32, t *Target) []byte {
	buffer := newBuffer()
	h := head(buffer)
	h.Version = [3]uint32{unix.DM_VERSION_MAJOR, 0, 0} // the oldest kernel that knows this form
	h.Data_size, h.Data_start, h.Flags = uint32(len(buffer)), uint32(headSize), flags
	copy(h.Name[:], name)
	if t != nil {
		h.Target_count = 1
		spec := (*unix.DmTargetSpec)(unsafe.Pointer(&buffer[headSize]))
		spec.Length = uint64(t.Sectors)
		copy(spec.Target_type[:], t.Type)
		n := copy(buffer[headSize+specSize:], t.Params)
		spec.Next = uint32((specSize + n + 1 + 7) &^ 7)
	}
	return buffer
}

// newBuffer returns bytes that lie where the kernel's structures may lie.
func newBuffer() []byte {
	words := make([]uint64, bufferSize/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), bufferSize)
}

// head is the start of a buffer.
func head(buffer []byte) *unix.DmIoctl { return (*unix.DmIoctl)(unsafe.Pointer(&buffer[0])) }

// check says what would not fit into a request.
func check(name string, t Target) error {
	switch {
	case name == "" || len(name) >= len(unix.DmIoctl{}.Name) || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("check name %q: %w", name, unix.EINVAL)
	case t.Type == "" || len(t.Type) >= len(unix.DmTargetSpec{}.Target_type):
		return fmt.Errorf("check target %q: %w", t.Type, unix.EINVAL)
	case t.Sectors <= 0:
		return fmt.Errorf("check size of %d sectors: %w", t.Sectors, unix.EINVAL)
	case headSize+specSize+len(t.Params)+8 > bufferSize || strings.Contains(t.Params, "\x00"):
		return fmt.Errorf("check parameters of %d bytes: %w", len(t.Params), unix.EINVAL)
	}
	return nil
}
