package takeover

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Look returns the facts of the running system.
func Look() (Facts, error) {
	f := Facts{Arch: Arch}
	if _, err := os.Stat("/run/kedge/boot.json"); err == nil {
		f.Kedge = true
	}
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return f, fmt.Errorf("look at memory: %w", err)
	}
	f.Total, f.Available = readMemory(string(memory))
	text := func(path string) string {
		b, _ := os.ReadFile(path) // absent: the kernel has no such thing
		return strings.TrimSpace(string(b))
	}
	f.Disabled = text("/proc/sys/kernel/kexec_load_disabled") == "1"
	f.Lockdown = chosen(text("/sys/kernel/security/lockdown"))
	return f, nil
}

// readMemory reads /proc/meminfo, whose kB are KiB.
func readMemory(text string) (total, available int64) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		switch {
		case err != nil:
		case fields[0] == "MemTotal:":
			total = n << 10
		case fields[0] == "MemAvailable:":
			available = n << 10
		}
	}
	return total, available
}

// chosen returns the word in brackets, as in "none [integrity]".
func chosen(text string) string {
	_, rest, _ := strings.Cut(text, "[")
	word, _, _ := strings.Cut(rest, "]")
	return word
}
