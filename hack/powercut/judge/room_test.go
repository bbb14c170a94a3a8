package judge

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What fsck.fat finds counts, but for the marks of a file system in use.
func TestFATProblem(t *testing.T) {
	for name, c := range map[string]struct {
		at      int64
		bytes   []byte
		problem bool
	}{
		"sound":                         {0, []byte{0xeb}, false},
		"mounted":                       {65, []byte{1}, false},
		"mounted, and torn":             {64, []byte{0x55, 1}, true},
		"a FAT whose copy is different": {32*512 + 20, []byte{0x55}, true},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "fat")
			if out, err := exec.Command("/sbin/mkfs.fat", "-F", "32", "-C", file, "40000").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(c.bytes, c.at); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err := fatProblem(t.Context(), file); err != nil || (got != "") != c.problem {
				t.Errorf("problem %q, error %v", got, err)
			}
		})
	}
}
