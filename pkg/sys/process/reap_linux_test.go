package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReap makes this process a reaper of orphans, leaves it some, and starts
// children of its own beside them: the orphans must go, and no child's exit
// status may be lost.
func TestReap(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var reaper, children sync.WaitGroup
	reaper.Go(func() { Reap(ctx) })
	for i := range 20 {
		children.Go(func() {
			var out bytes.Buffer
			err := Command{Args: []string{"/bin/sh", "-c", fmt.Sprintf("(sleep 0.01 & echo $!); exit %d", i%3)}, Stdout: &out}.Run(t.Context())
			want := map[int]string{0: "", 1: "exit status 1", 2: "exit status 2"}[i%3]
			if !strings.Contains(text(err), want) || (want == "") != (err == nil) {
				t.Errorf("child %d: %v, want %q", i, err, want)
			}
			orphan, _ := strconv.Atoi(strings.TrimSpace(out.String()))
			for orphan > 0 && exists(orphan) {
				time.Sleep(10 * time.Millisecond) // the test's own time limit is the only one
			}
		})
	}
	children.Wait()
	cancel()
	reaper.Wait()
}

func exists(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}
