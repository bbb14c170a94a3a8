package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestToolCancelledGroup: when its time is over, a shell goes with what it has
// started, which holds its output.
func TestToolCancelledGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pid int
	go func() {
		defer cancel()
		for ; pid == 0 && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			if b, err := os.ReadFile(file); err == nil && strings.HasSuffix(string(b), "\n") {
				pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
			}
		}
	}()
	err := Tool{Path: "sh", Args: []string{"-c", `{ sleep 100000 & echo $! >"$0"; wait; } | cat >&2`, file}}.Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want the end of its time", err)
	}
	if <-ctx.Done(); pid == 0 {
		t.Fatal("nothing was started")
	}
	for end := time.Now().Add(10 * time.Second); !ended(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d runs on", pid)
		}
	}
}
