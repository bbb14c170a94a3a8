// Package kernel works the knobs of the running kernel: modules, parameters
// under /proc/sys, host name, clock, log, random pool and device events.
//
// Source: the manual pages named at each function.
package kernel

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
)

// Cmdline returns the parameters that the kernel was started with.
func Cmdline() ([]cmdline.Param, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	return cmdline.Parse(string(line)), nil
}

// SetSysctl writes a kernel parameter, named with dots or slashes as sysctl(8)
// takes them.
func SetSysctl(key, value string) error { return setSysctl("/proc/sys", key, value) }

func setSysctl(root, key, value string) error {
	path := filepath.Join(root, sysctlPath(key))
	if !strings.HasPrefix(path, root+"/") {
		return fmt.Errorf("set %s: not a kernel parameter", key)
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %q: %w", key, value, err)
	}
	return nil
}

// sysctlPath turns net.ipv4.conf.eth0/1.forwarding into its path: the first
// separator that stands in the key is the one that separates.
func sysctlPath(key string) string {
	first := strings.IndexAny(key, "./")
	if first < 0 || key[first] == '/' {
		return key
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

// A Sysctl is one line of a sysctl.d file.
type Sysctl struct {
	Key, Value string
	Optional   bool // written with a leading "-": a failure does not count
}

// ParseSysctls reads a file of sysctl.d(5). Lines that it does not understand
// are passed over.
func ParseSysctls(r io.Reader) ([]Sysctl, error) {
	var all []Sysctl
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		key, value, found := strings.Cut(line, "=")
		if !found || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		key, optional := strings.CutPrefix(strings.TrimSpace(key), "-")
		all = append(all, Sysctl{strings.TrimSpace(key), strings.TrimSpace(value), optional})
	}
	return all, lines.Err()
}

// An Event is what the kernel tells about a device that comes, goes or changes.
type Event struct {
	Action string // add, remove, change, bind, unbind …
	Path   string // below /sys
	Values map[string]string
}

// parseEvent reads one message of NETLINK_KOBJECT_UEVENT: "action@path" and
// KEY=value strings, each ended by a zero byte.
func parseEvent(message []byte) (Event, bool) {
	fields := strings.Split(strings.TrimRight(string(message), "\x00"), "\x00")
	action, path, found := strings.Cut(fields[0], "@")
	if !found {
		return Event{}, false
	}
	e := Event{Action: action, Path: path, Values: map[string]string{}}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		e.Values[key] = value
	}
	return e, true
}

// A LogWriter writes to the kernel's log, each Write one message, so that what
// init says stands in order with what the kernel says.
type LogWriter struct{ f *os.File }

// OpenLog opens the kernel's log for writing.
func OpenLog() (*LogWriter, error) {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return &LogWriter{f}, nil
}

// Write logs one message of level "informational" from a daemon.
func (w *LogWriter) Write(b []byte) (int, error) {
	const daemonInfo, longest = 3<<3 | 6, 900
	text := b[:min(len(b), longest)]
	if _, err := fmt.Fprintf(w.f, "<%d>kedge: %s", daemonInfo, text); err != nil {
		return 0, err
	}
	return len(b), nil
}
