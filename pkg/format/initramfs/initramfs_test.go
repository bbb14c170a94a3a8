package initramfs

import (
	"bytes"
	"io/fs"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func sample(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, time.Unix(1_700_000_000, 0))
	write := func(e Entry, body string) {
		t.Helper()
		e.Size = int64(len(body))
		if err := w.Write(e, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	write(Entry{Name: "bin", Mode: fs.ModeDir | 0o755}, "")
	write(Entry{Name: "bin/busybox", Mode: 0o755 | fs.ModeSetuid}, "#!/bin/true\n")
	write(Entry{Name: "dev", Mode: fs.ModeDir | 0o755}, "")
	write(Entry{Name: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1}, "")
	write(Entry{Name: "sh", Mode: fs.ModeSymlink | 0o777, Link: "bin/busybox"}, "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestCpioReads lets cpio judge the archive.
func TestCpioReads(t *testing.T) {
	cmd := exec.Command("cpio", "-itvn", "--quiet")
	cmd.Stdin = bytes.NewReader(sample(t))
	cmd.Env = []string{"TZ=UTC", "LC_ALL=C", "PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	want := `drwxr-xr-x   2 0        0               0 Nov 14  2023 bin
-rwsr-xr-x   1 0        0              12 Nov 14  2023 bin/busybox
drwxr-xr-x   2 0        0               0 Nov 14  2023 dev
crw-------   1 0        0          5,   1 Nov 14  2023 dev/console
lrwxrwxrwx   1 0        0              11 Nov 14  2023 sh -> bin/busybox
`
	if string(out) != want {
		t.Errorf("cpio lists\n%s\nwant\n%s", out, want)
	}
}

func TestSameBytes(t *testing.T) {
	if !bytes.Equal(sample(t), sample(t)) {
		t.Error("two archives of the same files differ")
	}
}

func TestWriteRefuses(t *testing.T) {
	w := NewWriter(&bytes.Buffer{}, time.Time{})
	for _, c := range []struct {
		e    Entry
		body string
		want string
	}{
		{Entry{Name: "socket", Mode: fs.ModeSocket}, "", "has no place in an initramfs"},
		{Entry{Name: "short", Size: 5}, "abc", "3 bytes came instead of 5"},
		{Entry{Name: "huge", Size: 1 << 33}, "", "more than newc can hold"},
	} {
		if err := w.Write(c.e, strings.NewReader(c.body)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Write(%s) = %v, want %q", c.e.Name, err, c.want)
		}
	}
}
