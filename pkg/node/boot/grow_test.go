package boot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/table"
)

// A cutDisk loses its power in the middle of a write.
type cutDisk struct {
	*os.File
	writes, cutAt int
}

var errCut = errors.New("power cut")

func (d *cutDisk) WriteAt(b []byte, at int64) (int, error) {
	d.writes++
	if d.cutAt > 0 && d.writes >= d.cutAt {
		if d.writes == d.cutAt {
			d.File.WriteAt(b[:len(b)/2], at)
		}
		return 0, errCut
	}
	return d.File.WriteAt(b, at)
}

// installedDisk makes the table of an installed system on a file of a size, which
// then becomes larger.
func installedDisk(t *testing.T, size, larger int64, sector int) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	parts, err := layout.Plan("amd64", size, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range parts {
		parts[i].ID = fmt.Sprintf("AAAAAAAA-BBBB-4CCC-8DDD-%012X", i)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := table.Write(f, size, sector, "AAAAAAAA-BBBB-4CCC-8DDD-0000000000FF", parts); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(larger); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestGrowTable cuts the power in the middle of every write: each time a sound
// table is left, at one of the two places where the kernel looks, and the next
// boot ends the work.
func TestGrowTable(t *testing.T) {
	const before, after = 4 << 30, 9<<30 + 12288
	for _, sector := range []int{512, 4096} {
		for cut := 0; cut <= 6; cut++ {
			disk := &cutDisk{File: installedDisk(t, before, after, sector), cutAt: cut}
			_, written, err := growTable(disk, after, sector)
			if err != nil && strings.Contains(err.Error(), errCut.Error()) || written && cut == 0 {
				parts, err := table.Read(disk, after, sector)
				if err != nil {
					t.Fatalf("cut at %d: no table: %v", cut, err)
				}
				if _, err := layout.Find(parts); err != nil {
					t.Errorf("cut at %d: %v", cut, err)
				}
			} else if cut <= 5 {
				t.Errorf("cut at %d: %v, %v", cut, written, err)
			}
			disk.cutAt = 0
			state, _, err := growTable(disk, after, sector)
			if err != nil || !table.Whole(disk, after, sector) {
				t.Errorf("cut at %d, then: %v", cut, err)
			}
			if end := state.Start + state.Size; end != 9<<30-layout.Align {
				t.Errorf("cut at %d: the state ends at %d", cut, end)
			}
			if _, again, err := growTable(disk, after, sector); again || err != nil {
				t.Errorf("cut at %d: once more = %v, %v", cut, again, err)
			}
			if sector == 512 && cut == 0 {
				out, err := exec.Command("sgdisk", "--verify", disk.Name()).CombinedOutput()
				if err != nil || !containsAll(string(out), "No problems found") {
					t.Errorf("sgdisk: %v\n%s", err, out)
				}
			}
		}
	}
}

// TestGrowTableMends writes a damaged copy again, and leaves foreign disks alone.
func TestGrowTableMends(t *testing.T) {
	const size = 4 << 30
	for _, at := range []int64{512 + 20, 1024 + 700, size - 512 + 20, size - 1024} {
		f := installedDisk(t, size, size, 512)
		if _, written, err := growTable(f, size, 512); written || err != nil {
			t.Fatalf("a sound table: %v, %v", written, err)
		}
		f.WriteAt([]byte{0xA5, 0x5A}, at)
		if _, written, err := growTable(f, size, 512); !written || err != nil || !table.Whole(f, size, 512) {
			t.Errorf("damage at %d: %v, %v", at, written, err)
		}
	}
	f := installedDisk(t, size, size, 512)
	foreign := []table.Partition{{Index: 1, Name: layout.StateName, Type: layout.StateType, ID: "AAAAAAAA-BBBB-4CCC-8DDD-000000000001", Start: 1 << 20, Size: 1 << 20}}
	if err := table.Write(f, size, 512, "AAAAAAAA-BBBB-4CCC-8DDD-0000000000FE", foreign); err != nil {
		t.Fatal(err)
	}
	if _, written, err := growTable(f, size, 512); written || err == nil {
		t.Errorf("a foreign disk: %v, %v", written, err)
	}
}
