package qemu

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestBootFigures(t *testing.T) {
	stages := []Stage{{"initrd", 0.5, 3500 * time.Millisecond}, {"root", 2, 5 * time.Second}, {"ready", 60.123, 63123 * time.Millisecond}, {"later", 61, 64 * time.Second}}
	const want = `vm_power_on_to_ready_seconds 63.12 s
vm_power_on_to_ready_seconds.firmware 3 s
vm_power_on_to_ready_seconds.initrd 0.5 s
vm_power_on_to_ready_seconds.root 1.5 s
vm_power_on_to_ready_seconds.ready 58.12 s`
	var got []string
	for _, f := range BootFigures(stages) {
		got = append(got, fmt.Sprint(f))
	}
	if strings.Join(got, "\n") != want {
		t.Errorf("BootFigures =\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if got := BootFigures(nil); got != nil {
		t.Errorf("BootFigures(nil) = %v", got)
	}
	if got := BootFigures(stages[:2]); got[0].Name != "vm_power_on_to_ready_seconds.firmware" {
		t.Errorf("a boot that is not ready has a total: %v", got)
	}
}

func TestMemoryUsed(t *testing.T) {
	got, err := memoryUsed("MemTotal:        1000 kB\nMemFree:  1 kB\nMemAvailable:     400 kB\n")
	if got != 600<<10 || err != nil {
		t.Errorf("memoryUsed = %d, %v", got, err)
	}
	if _, err := memoryUsed("MemTotal: 5 kB\n"); err == nil {
		t.Error("half a meminfo was taken")
	}
}
