package table

import (
	"slices"
	"testing"
)

func TestWhole(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		m := memory{b: make([]byte, 64*mib)}
		if Whole(&m, 64*mib, sector) {
			t.Error("a blank disk is whole")
		}
		if err := Write(&m, 64*mib, sector, diskID, sample()); err != nil {
			t.Fatal(err)
		}
		if !Whole(&m, 64*mib, sector) {
			t.Errorf("sectors of %d: what was written is not whole", sector)
		}
		for _, at := range []int{sector + 20, 2*sector + 5, 64*mib - sector + 50, 64*mib - sector - 100} {
			broken := memory{b: slices.Clone(m.b)}
			broken.b[at] ^= 1
			if Whole(&broken, 64*mib, sector) {
				t.Errorf("sectors of %d: whole with byte %d wrong", sector, at)
			}
		}
		m.b = append(m.b, make([]byte, 64*mib)...)
		if Whole(&m, 128*mib, sector) {
			t.Error("a disk that became larger is whole")
		}
		id, parts, err := ReadID(&m, 128*mib, sector)
		if err != nil || id != diskID || len(parts) != len(sample()) {
			t.Errorf("ReadID = %q, %d partitions, %v", id, len(parts), err)
		}
	}
}
