package mount

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		options string
		flags   uintptr
		data    string
	}{
		{"", 0, ""},
		{"rw", 0, ""},
		{"ro,nosuid,size=10%,mode=0755", unix.MS_RDONLY | unix.MS_NOSUID, "size=10%,mode=0755"},
		{"bind,remount,ro", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, ""},
		{"rshared", unix.MS_SHARED | unix.MS_REC, ""},
		{"lowerdir=/etc,upperdir=/u,workdir=/w", 0, "lowerdir=/etc,upperdir=/u,workdir=/w"},
	} {
		if flags, data := split(c.options); flags != c.flags || data != c.data {
			t.Errorf("split(%q) = %#x, %q; want %#x, %q", c.options, flags, data, c.flags, c.data)
		}
	}
}

func TestParseTable(t *testing.T) {
	const text = `21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
36 35 98:0 /mnt1 /mnt\040two rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue
`
	got, err := ParseTable(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mounted{
		{21, 1, "/", "/", "ext4", "/dev/sda1", "rw,relatime", "rw"},
		{36, 35, "/mnt1", "/mnt two", "ext3", "/dev/root", "rw,noatime", "rw,errors=continue"},
	}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("entry %d = %+v, want %+v", i, got, want[i])
		}
	}
}

func TestTable(t *testing.T) {
	table, err := Table()
	if err != nil || len(table) == 0 {
		t.Errorf("Table = %d entries, %v", len(table), err)
	}
}
