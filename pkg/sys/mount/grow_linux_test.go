package mount

import (
	"strings"
	"testing"
)

// What grows is seen by the story install_grow of hack/vm: the kernel wants
// more of who asks than the root of a container may.
func TestGrowExt4Refuses(t *testing.T) {
	if err := GrowExt4("/proc", 1<<30); err == nil || !strings.Contains(err.Error(), "not ext4") {
		t.Errorf("GrowExt4(/proc) = %v", err)
	}
}
