// Package devmapper makes, asks and removes devices of the kernel's device
// mapper. It knows devices of one read-only target; what the target's parameters
// mean is for the caller.
//
// A device is named as in dmsetup(8). Its node is /dev/dm-N: nothing here makes
// the link /dev/mapper/NAME. Sectors have 512 bytes.
//
// Source: include/uapi/linux/dm-ioctl.h of the kernel.
package devmapper

import (
	"errors"
	"fmt"
)

// A Target is what a device consists of.
type Target struct {
	Sectors int64  // its size
	Type    string // such as "verity"; at most 15 letters
	Params  string // as the kernel's manual of the type has them
}

// ErrNotExist means that there is no device of that name, or no device mapper.
var ErrNotExist = errors.New("no such mapped device")

// Create makes a device, starts it, and returns the path of its node. What went
// wrong leaves no device behind. The kernel loads no module for a target when
// nobody answers its request for one.
func Create(name string, t Target) (node string, err error) {
	c, err := open()
	if err != nil {
		return "", fmt.Errorf("make mapped device %s: %w", name, err)
	}
	defer c.Close()
	if node, err = c.create(name, t); err != nil {
		return "", fmt.Errorf("make mapped device %s: %w", name, err)
	}
	return node, nil
}

// Remove takes a device away. It fails while the device is in use.
func Remove(name string) error {
	_, err := once(name, func(c *control) (string, error) { return "", c.remove(name) })
	if err != nil {
		return fmt.Errorf("remove mapped device %s: %w", name, err)
	}
	return nil
}

// Status returns what the target of a device says of how it is doing. The error
// wraps ErrNotExist.
func Status(name string) (string, error) {
	text, err := once(name, func(c *control) (string, error) { return c.status(name, false) })
	if err != nil {
		return "", fmt.Errorf("read status of mapped device %s: %w", name, err)
	}
	return text, nil
}

// Params returns the parameters of the target of a device, with its devices as
// MAJOR:MINOR. The error wraps ErrNotExist.
func Params(name string) (string, error) {
	text, err := once(name, func(c *control) (string, error) { return c.status(name, true) })
	if err != nil {
		return "", fmt.Errorf("read table of mapped device %s: %w", name, err)
	}
	return text, nil
}

func once(name string, do func(*control) (string, error)) (string, error) {
	c, err := open()
	if err != nil {
		return "", err
	}
	defer c.Close()
	return do(c)
}
