// Package lean keeps a process of kube small beside the others: each of them
// starts with all that Kubernetes registers at its start, and uses little of it
// afterwards.
package lean

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/kedgeos/kedge/cmd/kube/say"
)

// settled is how long after its start a process has most of it behind it.
const settled = 30 * time.Second

// Later gives back, in a while, the pages of the program that only its start
// needed.
func Later() {
	time.AfterFunc(settled, func() {
		if err := Program(); err != nil {
			say.Printf("memory of the start is kept: %v", err)
		}
	})
}

// Program has the kernel forget which pages of the program this process has
// used. What it still needs comes back from the page cache as it is used; the
// rest is memory that the kernel may take when it needs some. Source: madvise(2),
// MADV_DONTNEED; proc_pid_maps(5).
func Program() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var start, end uintptr
		var rights string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &start, &end, &rights); err != nil {
			return fmt.Errorf("read %s: %w", maps.Name(), err)
		}
		// What may be written is not the file's alone.
		if !strings.HasSuffix(lines.Text(), " "+program) || strings.Contains(rights, "w") {
			continue
		}
		if _, _, no := syscall.Syscall(syscall.SYS_MADVISE, start, end-start, syscall.MADV_DONTNEED); no != 0 {
			return fmt.Errorf("madvise: %w", no)
		}
	}
	return lines.Err()
}
