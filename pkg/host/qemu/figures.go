package qemu

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Figure is one measured value.
type Figure struct {
	Name  string
	Value float64
	Unit  string
}

func (f Figure) String() string {
	return fmt.Sprintf("%s %s %s", f.Name, strconv.FormatFloat(f.Value, 'f', -1, 64), f.Unit)
}

// BootFigures returns how long a boot took on the host's clock, from power on
// to ready, and each step of it. Firmware and boot loader end where the
// kernel's clock starts; every other step is named after the stage it reaches.
func BootFigures(stages []Stage) []Figure {
	if len(stages) == 0 {
		return nil
	}
	const name = "vm_power_on_to_ready_seconds"
	kernel := stages[0].At - time.Duration(stages[0].Seconds*float64(time.Second))
	steps := []Figure{{name + ".firmware", round(kernel), "s"}}
	before := kernel
	for _, s := range stages {
		steps = append(steps, Figure{name + "." + s.Name, round(s.At - before), "s"})
		before = s.At
		if s.Name == "ready" {
			return append([]Figure{{name, round(s.At), "s"}}, steps...)
		}
	}
	return steps
}

// round gives seconds in hundredths.
func round(d time.Duration) float64 {
	return float64(d.Round(10*time.Millisecond)/(10*time.Millisecond)) / 100
}

// MemoryUsed returns the bytes of the guest's memory that are not available
// to new programs: MemTotal less MemAvailable.
func (g *Guest) MemoryUsed(ctx context.Context) (Figure, error) {
	text, err := g.Output(ctx, "cat /proc/meminfo")
	if err != nil {
		return Figure{}, err
	}
	used, err := memoryUsed(text)
	return Figure{"vm_memory_used_bytes", float64(used), "bytes"}, err
}

func memoryUsed(meminfo string) (int64, error) {
	kib := map[string]int64{}
	for _, line := range strings.Split(meminfo, "\n") {
		name, value, _ := strings.Cut(line, ":")
		value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			kib[name] = n
		}
	}
	if kib["MemTotal"] == 0 || kib["MemAvailable"] == 0 {
		return 0, fmt.Errorf("read the guest's memory: no MemTotal or MemAvailable in %q", meminfo)
	}
	return (kib["MemTotal"] - kib["MemAvailable"]) << 10, nil
}
