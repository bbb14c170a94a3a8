package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/table"
)

func TestGrow(t *testing.T) {
	plan := func(size int64) []table.Partition {
		parts, err := Plan("amd64", size, 0)
		if err != nil {
			t.Fatal(err)
		}
		return parts
	}
	old := plan(8 * gib)
	behind := append(plan(8*gib), table.Partition{Index: 6, Name: "data", Start: 8*gib - Align, Size: Align})
	for _, c := range []struct {
		name  string
		parts []table.Partition
		size  int64
		want  []table.Partition
		more  bool
	}{
		{"same disk", old, 8 * gib, old, false},
		{"a few sectors more", old, 8*gib + 4096, old, false},
		{"larger disk", old, 20*gib + 512, plan(20*gib + 512), true},
		{"smaller disk", old, 7 * gib, old, false},
		{"another partition behind it", behind, 20 * gib, behind, false},
		{"no state", old[:4], 20 * gib, old[:4], false},
	} {
		got, more := Grow(c.parts, c.size)
		if more != c.more || !slices.Equal(got, c.want) {
			t.Errorf("%s: Grow = %v\n%swant %v\n%s", c.name, more, show(got), c.more, show(c.want))
		}
	}
	if !slices.Equal(old, plan(8*gib)) {
		t.Error("Grow changed its argument")
	}
}

// TestPlanFor4K: on sectors of 4096 bytes the ESP has the clusters of FAT32,
// which mkfs.vfat and fsck.fat agree about.
func TestPlanFor4K(t *testing.T) {
	parts, err := PlanFor("amd64", 20*gib, 0, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if p.Start%4096 != 0 || p.Size%4096 != 0 {
			t.Errorf("%s: %d+%d", p.Name, p.Start, p.Size)
		}
		if p.Name != ESPName {
			continue
		}
		file := filepath.Join(t.TempDir(), "esp")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, p.Size); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mkfs.vfat", "-S", "4096", "-s", "1", "-F", "32", file).CombinedOutput(); err != nil || strings.Contains(string(out), "WARNING") {
			t.Errorf("mkfs.vfat: %v\n%s", err, out)
		}
		if out, err := exec.Command("fsck.fat", "-n", "-v", file).CombinedOutput(); err != nil || !strings.Contains(string(out), "32 bit entries") {
			t.Errorf("fsck.fat: %v\n%s", err, out)
		}
	}
}
