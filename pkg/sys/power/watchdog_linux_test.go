package power

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

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

func TestUsable(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		timeout time.Duration
		want    bool
	}{
		{"any timeout", nil, 60 * time.Second, true},
		{"any, and does not tell", nil, 0, true},
		{"15 s at most", unix.EINVAL, 15 * time.Second, true},
		{"no timeout at all", unix.EINVAL, 0, false},
		{"none can be set", unix.ENOTTY, 60 * time.Second, false},
	} {
		if got := usable(c.err, c.timeout); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestOpenWatchdogStops: a device that is of no use has been started by then.
func TestOpenWatchdogStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWatchdog(path, time.Minute); err == nil {
		t.Error("a file is a watchdog")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "V" {
		t.Errorf("it was told %q, %v", b, err)
	}
}
