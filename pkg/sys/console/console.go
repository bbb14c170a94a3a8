// Package console speaks on the machine's consoles: lines on /dev/console, a
// terminal for a shell, and passwords read without an echo.
//
// Source: tty_ioctl(4), termios(3), sysfs-tty of the kernel's ABI list.
package console

import (
	"os"
	"strings"
)

// Main is the device that the kernel's messages go to.
const Main = "/dev/console"

// Names returns the terminals of all consoles that are in use, without /dev,
// the main one last: "tty1", "ttyS0". The console tty0, which means the
// terminal in front, becomes tty1.
func Names() []string { return names("/sys/class/tty/console/active") }

func names(active string) []string {
	b, err := os.ReadFile(active)
	if err != nil {
		return nil
	}
	all := strings.Fields(string(b))
	for i, name := range all {
		if name == "tty0" {
			all[i] = "tty1"
		}
	}
	return all
}

// Write writes text to the main console. Its lines end as a terminal wants.
func Write(text string) error {
	f, err := os.OpenFile(Main, os.O_WRONLY|noControl, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(strings.ReplaceAll(text, "\n", "\r\n"))
	return err
}
