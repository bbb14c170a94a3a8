package devmapper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fake is a kernel with one device. It reads requests by the offsets in
// dm-ioctl.h, not by the structures that wrote them.
type fake struct {
	fail    map[uint]error // by request
	answers string         // status of the target
	log     strings.Builder
}

var requests = map[uint]string{
	0xc138fd03: "create", 0xc138fd04: "remove", 0xc138fd06: "suspend", 0xc138fd09: "load", 0xc138fd0c: "status",
}

func text(b []byte) string { s, _, _ := strings.Cut(string(b), "\x00"); return s }

func (f *fake) ioctl(request uint, b []byte) error {
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	fmt.Fprintf(&f.log, "%s v%d.%d %s flags %#x", requests[request], u32(0), u32(4), text(b[48:176]), u32(28))
	if int(u32(12)) != len(b) || u32(16) != 312 {
		fmt.Fprintf(&f.log, " BAD size %d start %d", u32(12), u32(16))
	}
	for at, i := int(u32(16)), uint32(0); i < u32(20); i++ {
		fmt.Fprintf(&f.log, "\n  %d+%d %s: %s (next %d)", u64(at), u64(at+8), text(b[at+24:at+40]), text(b[at+40:]), u32(at+20))
		at += int(u32(at + 20))
	}
	f.log.WriteString("\n")
	if err := f.fail[request]; err != nil {
		return err
	}
	switch requests[request] {
	case "create":
		binary.NativeEndian.PutUint64(b[40:], 254<<8|3)
	case "status":
		binary.NativeEndian.PutUint32(b[20:], 1)
		copy(b[312+40:], f.answers+"\x00")
	}
	return nil
}

var sample = Target{Sectors: 80, Type: "verity", Params: "1 /dev/loop0 /dev/loop1 4096 4096 10 0 sha256 ab -"}

func TestCreate(t *testing.T) {
	f := &fake{}
	c := &control{io.NopCloser(nil), f.ioctl}
	node, err := c.create("kedge-root", sample)
	if err != nil || node != "/dev/dm-3" {
		t.Errorf("create = %q, %v; want /dev/dm-3", node, err)
	}
	want := "create v4.0 kedge-root flags 0x0\n" +
		"load v4.0 kedge-root flags 0x1\n" +
		"  0+80 verity: 1 /dev/loop0 /dev/loop1 4096 4096 10 0 sha256 ab - (next 96)\n" +
		"suspend v4.0 kedge-root flags 0x0\n"
	if f.log.String() != want {
		t.Errorf("the kernel was asked\n%swant\n%s", &f.log, want)
	}
}

// TestCreateLeavesNothing breaks each request once.
func TestCreateLeavesNothing(t *testing.T) {
	for request, want := range map[uint]string{
		unix.DM_DEV_CREATE:  "create",
		unix.DM_TABLE_LOAD:  "create load remove",
		unix.DM_DEV_SUSPEND: "create load suspend remove",
	} {
		f := &fake{fail: map[uint]error{request: unix.ENOMEM}}
		c := &control{io.NopCloser(nil), f.ioctl}
		if _, err := c.create("kedge-root", sample); !errors.Is(err, unix.ENOMEM) {
			t.Errorf("create = %v, want ENOMEM", err)
		}
		var verbs []string
		for _, line := range strings.Split(strings.TrimSpace(f.log.String()), "\n") {
			if !strings.HasPrefix(line, " ") {
				verbs = append(verbs, strings.Fields(line)[0])
			}
		}
		if got := strings.Join(verbs, " "); got != want {
			t.Errorf("when %s fails: %s, want %s", requests[request], got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	f := &fake{answers: "V"}
	c := &control{io.NopCloser(nil), f.ioctl}
	if s, err := c.status("kedge-root", false); err != nil || s != "V" {
		t.Errorf("status = %q, %v", s, err)
	}
	if _, err := c.status("kedge-root", true); err != nil {
		t.Error(err)
	}
	if want := "status v4.0 kedge-root flags 0x0\nstatus v4.0 kedge-root flags 0x10\n"; f.log.String() != want {
		t.Errorf("the kernel was asked\n%swant\n%s", &f.log, want)
	}
	f.fail = map[uint]error{unix.DM_TABLE_STATUS: unix.ENXIO}
	if _, err := c.status("kedge-root", false); !errors.Is(err, ErrNotExist) {
		t.Errorf("status of nothing = %v, want ErrNotExist", err)
	}
	c.ioctl = func(uint, []byte) error { return nil } // answers without a target
	if s, err := c.status("kedge-root", false); err == nil {
		t.Errorf("status without a target = %q", s)
	}
}

func TestRefuses(t *testing.T) {
	for what, call := range map[string]func(*control) error{
		"no name": func(c *control) error { _, err := c.create("", sample); return err },
		"slash":   func(c *control) error { _, err := c.create("a/b", sample); return err },
		"long":    func(c *control) error { _, err := c.create(strings.Repeat("n", 128), sample); return err },
		"type":    func(c *control) error { _, err := c.create("n", Target{1, "0123456789abcdef", ""}); return err },
		"empty":   func(c *control) error { _, err := c.create("n", Target{0, "verity", ""}); return err },
		"params": func(c *control) error {
			_, err := c.create("n", Target{1, "verity", strings.Repeat("p", 16<<10)})
			return err
		},
	} {
		f := &fake{}
		if err := call(&control{io.NopCloser(nil), f.ioctl}); !errors.Is(err, unix.EINVAL) || f.log.Len() > 0 {
			t.Errorf("%s: %v, the kernel was asked %q", what, err, &f.log)
		}
	}
}

// TestHeader lets the C compiler and the kernel's own header judge the numbers
// that the fake above takes for granted.
func TestHeader(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler")
	}
	if _, err := os.Stat("/usr/include/linux/dm-ioctl.h"); err != nil {
		t.Skip("the kernel's headers are not there: ", err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "dm.c")
	program := `#include <stdio.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <linux/dm-ioctl.h>
int main() {
	printf("%zu %zu %zu %zu %zu %zu %zu %zu %zu ", sizeof(struct dm_ioctl), offsetof(struct dm_ioctl, data_size), offsetof(struct dm_ioctl, data_start),
		offsetof(struct dm_ioctl, target_count), offsetof(struct dm_ioctl, flags), offsetof(struct dm_ioctl, dev), offsetof(struct dm_ioctl, name),
		offsetof(struct dm_target_spec, target_type), sizeof(struct dm_target_spec));
	printf("%lx %lx %lx %lx %lx %x %x", (long)DM_DEV_CREATE, (long)DM_DEV_REMOVE, (long)DM_DEV_SUSPEND, (long)DM_TABLE_LOAD, (long)DM_TABLE_STATUS,
		DM_READONLY_FLAG, DM_STATUS_TABLE_FLAG);
}
`
	if err := os.WriteFile(source, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-o", filepath.Join(dir, "dm"), source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(filepath.Join(dir, "dm")).Output()
	want := "312 12 16 20 28 40 48 24 40 c138fd03 c138fd04 c138fd06 c138fd09 c138fd0c 1 10"
	if got := strings.ReplaceAll(string(out), "ffffffff", ""); err != nil || got != want {
		t.Errorf("the header says %s, %v; want %s", got, err, want)
	}
}

// TestKernel makes a real device where the kernel has a device mapper and we may
// use it.
func TestKernel(t *testing.T) {
	const name = "kedge-test"
	c, err := open()
	if err != nil {
		t.Skip(err)
	}
	c.Close()
	node, err := Create(name, Target{Sectors: 8, Type: "error"})
	if err != nil {
		t.Fatal(err)
	}
	defer Remove(name)
	f, err := os.Open(node)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 512)); !errors.Is(err, unix.EIO) {
		t.Errorf("read of an error target = %v, want EIO", err)
	}
	f.Close()
	if _, err := Status(name); err != nil {
		t.Error(err)
	}
	if err := Remove(name); err != nil {
		t.Error(err)
	}
	if _, err := Status(name); !errors.Is(err, ErrNotExist) {
		t.Errorf("Status after Remove = %v, want ErrNotExist", err)
	}
}
