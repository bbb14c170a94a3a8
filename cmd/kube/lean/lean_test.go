package lean

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// resident returns the pages of files in this process's memory, in KiB.
func resident(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "RssFile:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

func TestProgramGivesPagesBack(t *testing.T) {
	before := resident(t)
	if err := Program(); err != nil {
		t.Fatal(err)
	}
	after := resident(t)
	t.Logf("%d KiB of files before, %d after", before, after)
	if after >= before {
		t.Errorf("%d KiB of files before, %d after", before, after)
	}
}
