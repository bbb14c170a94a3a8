package power

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBequeath keeps the watchdog running when nothing of this program holds it
// any more: whatever is executed next finds its file.
func TestBequeath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watchdog")
	file := func() string {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		file, err := (&Watchdog{f}).Bequeath()
		if err != nil {
			t.Fatal(err)
		}
		return file
	}()
	for range 3 {
		runtime.GC()
	}
	fd, err := strconv.Atoi(file)
	if err != nil {
		t.Fatal(err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
		t.Fatalf("file %s: flags %d, %v", file, flags, err)
	}
	dog, err := TakeWatchdog(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := dog.Pet(); err != nil {
		t.Error(err)
	}
	if err := dog.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "\x00V" {
		t.Errorf("the watchdog was told %q, %v", b, err)
	}
}
