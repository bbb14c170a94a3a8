package boot

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/mount"
	"github.com/kedgeos/kedge/pkg/sys/systest"
)

// asked runs the steps against a stand-in and returns what it was asked.
func asked(t *testing.T, steps []Step) string {
	t.Helper()
	var m systest.Machine
	if err := Run(&m, steps, func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	return m.Log()
}

func TestEarlySteps(t *testing.T) {
	want := `
mkdir -m -rwxr-xr-x /dev
mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
mkdir -m -rwxr-xr-x /proc
mount -t proc -o nosuid,nodev,noexec proc /proc
mkdir -m -rwxr-xr-x /sys
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mkdir -m -rwxr-xr-x /run
mount -t tmpfs -o nosuid,nodev,mode=0755,size=60% tmpfs /run
mkdir -m -rwxr-xr-x /run/kedge
`
	if got := asked(t, earlySteps); got != want[1:] {
		t.Errorf("steps:\n%swant:%s", got, want)
	}
}

func TestHandOver(t *testing.T) {
	got := asked(t, handOver())
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		if line := "mount -o move " + dir + " /sysroot" + dir + "\n"; !strings.Contains(got, line) {
			t.Errorf("%q is missing in:\n%s", line, got)
		}
	}
}

// TestVarSteps compares the order that matters: filled before it covers the
// image's /var, bound after.
func TestVarSteps(t *testing.T) {
	want := `
mount -t ext4 -o nosuid,nodev,noatime /dev/sda5 /run/kedge/var
ln -s /run /run/kedge/var/run
ln -s /run/lock /run/kedge/var/lock
fill /run/kedge/var from /var
fill /run/kedge/var/home from /home
fill /run/kedge/var/opt from /opt
fill /run/kedge/var/local from /usr/local
fill /run/kedge/var/root from /root
mount -o move /run/kedge/var /var
mount -o bind /var/home /home
mount -o bind /var/opt /opt
mount -o bind /var/local /usr/local
mount -o bind /var/root /root
`
	var got strings.Builder
	for line := range strings.Lines(asked(t, varSteps("/dev/sda5"))) {
		if !strings.HasPrefix(line, "mkdir ") {
			got.WriteString(line)
		}
	}
	if got.String() != want[1:] {
		t.Errorf("steps:\n%swant:%s", got.String(), want)
	}
	if live := asked(t, varSteps("")); !strings.Contains(live, "mount -t tmpfs -o nosuid,nodev,mode=0755,size=80% tmpfs /run/kedge/var\n") {
		t.Errorf("live mode does not keep /var in memory:\n%s", live)
	}
}

func TestRootSteps(t *testing.T) {
	got := asked(t, rootSteps)
	for _, line := range []string{
		"mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup",
		"mount -t overlay -o lowerdir=/etc,upperdir=/run/kedge/etc/upper,workdir=/run/kedge/etc/work etc /etc",
		"ln -s /proc/self/fd /dev/fd",
		"link up lo",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("%q is missing in:\n%s", line, got)
		}
	}
	if got := asked(t, lastSteps(false)); strings.Contains(got, "efivarfs") || !strings.Contains(got, "mount -o rshared /\n") {
		t.Errorf("last steps without UEFI:\n%s", got)
	}
}

func TestRunStopsAtFirst(t *testing.T) {
	steps := []Step{
		Optional{Mount{mount.Spec{Source: "a", Target: "/a", Type: "x"}}},
		Folder{"/b", 0o755},
		Hostname("c"),
	}
	m := systest.Machine{Fail: map[string]error{"mount": syscall.ENODEV, "mkdir -m -rwxr-xr-x /b": syscall.EROFS}}
	var survived []error
	err := Run(&m, steps, func(err error) { survived = append(survived, err) })
	if !errors.Is(err, syscall.EROFS) || err.Error() != "mkdir -m -rwxr-xr-x /b: read-only file system" {
		t.Errorf("Run = %v", err)
	}
	if len(survived) != 1 || !errors.Is(survived[0], syscall.ENODEV) {
		t.Errorf("survived %v, want the mount", survived)
	}
	if strings.Contains(m.Log(), "hostname") {
		t.Errorf("went on after the failure:\n%s", m.Log())
	}
}

func TestSourceOf(t *testing.T) {
	sum := strings.Repeat("Ab", 32)
	for _, c := range []struct {
		line string
		want Source
		err  string
	}{
		{"kedge.id=0123", Source{ID: "0123"}, ""},
		{"kedge.id=1 kedge.slot=b kedge.partition=AA kedge.trial=1", Source{ID: "1", Slot: "b", Partition: "aa", Trial: true}, ""},
		{"kedge.id=1 kedge.slot=b kedge.trial=0", Source{ID: "1", Slot: "b"}, ""},
		{"quiet", Source{}, "no kedge.id= on the kernel command line: any medium could be the wrong one"},
		{"kedge.root=http://h/r kedge.root_sha256=" + sum, Source{URL: "http://h/r", SHA256: strings.ToLower(sum)}, ""},
		{"kedge.id=1 kedge.root=https://h/r kedge.root_sha256=" + sum, Source{ID: "1", URL: "https://h/r", SHA256: strings.ToLower(sum)}, ""},
		{"kedge.id=1 kedge.root=http://h/r", Source{}, "kedge.root=http://h/r: refused without kedge.root_sha256="},
		{"kedge.root=http://h/r kedge.root_sha256=12", Source{}, "kedge.root_sha256=12: not a SHA-256 in hexadecimal"},
		{"kedge.root=ftp://h/r kedge.root_sha256=" + sum, Source{}, "kedge.root=ftp://h/r: not an http or https address"},
	} {
		got, err := sourceOf(cmdline.Parse(c.line))
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || text != c.err {
			t.Errorf("sourceOf(%q) = %+v, %q; want %+v, %q", c.line, got, text, c.want, c.err)
		}
	}
}

func TestClock(t *testing.T) {
	const far = 16000 // days: 2069
	day := func(n int) time.Time {
		if n == 0 {
			return time.Time{}
		}
		return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC)
	}
	for _, c := range []struct {
		now, built, seen, best int
		source                 string
	}{
		{9, 3, 5, 9, ""},
		{1, 3, 2, 3, "the image"},
		{1, 3, 5, 5, "the last shutdown"},
		{far, 3, 0, 3, "the image"},
		{far, 3, 5, 5, "the last shutdown"},
		{far, 3, far, 3, "the image"},
		{1, 3, far, 3, "the image"},
		{far, 0, 0, far, ""},
		{3000, 3, 0, 3000, ""},
	} {
		best, source := Clock(day(c.now), day(c.built), day(c.seen))
		if !best.Equal(day(c.best)) || source != c.source {
			t.Errorf("Clock(%d, %d, %d) = %v, %q", c.now, c.built, c.seen, best, source)
		}
	}
}

func TestFill(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for path, content := range map[string]string{"lib/a": "image", "lib/b": "image"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, path)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, path), []byte(content), 0o604); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(from, "lib/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(to, "lib"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "lib/b"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing is left to do
		if err := (Host{}).Fill(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{"lib/a": "image", "lib/b": "kept", "lib/link": "image"} {
		if got, err := os.ReadFile(filepath.Join(to, path)); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", path, got, err, want)
		}
	}
	if info, _ := os.Stat(filepath.Join(to, "lib/a")); info.Mode() != 0o604 {
		t.Errorf("mode = %v", info.Mode())
	}
	if err := (Host{}).Fill(filepath.Join(from, "absent"), to); err != nil {
		t.Errorf("Fill from nothing = %v", err)
	}
}

func TestDetachable(t *testing.T) {
	table := []mount.Mounted{{Target: "/"}, {Target: "/proc"}, {Target: "/run"}, {Target: "/run/kedge/medium"}, {Target: "/var"}, {Target: "/var/lib/kubelet/x"}}
	want := []string{"/var/lib/kubelet/x", "/var", "/run/kedge/medium"}
	if got := Detachable(table); !reflect.DeepEqual(got, want) {
		t.Errorf("Detachable = %v, want %v", got, want)
	}
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot.json")
	first, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	first.Update(func(r *Record) {
		r.Mode, r.ID = "live", "0123"
		r.Stages = append(r.Stages, Mark{StageInitrd, 1.25})
	})
	for range 2 * maxMessages {
		first.Note("again")
	}
	second, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := second.Record(); !reflect.DeepEqual(got, first.Record()) || len(got.Messages) != maxMessages {
		t.Errorf("read back %+v", got)
	}
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if j, err := OpenJournal(path); err == nil || j == nil {
		t.Errorf("a torn record: %v, %v; want a journal and an error", j, err)
	}
}

func TestMark(t *testing.T) {
	m := Mark{StageMedium, seconds(2345678 * time.Microsecond)}
	if want := "kedge: stage medium at 2.35s"; m.String() != want {
		t.Errorf("%q, want %q", m, want)
	}
}

func TestDiskLinks(t *testing.T) {
	links := map[string]string{}
	addDiskLinks(links, block.Device{Path: "/dev/sda"}, block.FileSystem{Label: "KEDGE OS", UUID: "1-2"}, "")
	addDiskLinks(links, block.Device{Path: "/dev/sda1"}, block.FileSystem{Label: "KEDGE OS", UUID: "1-2"}, "")
	addDiskLinks(links, block.Device{Path: "/dev/sdb"}, block.FileSystem{Type: "squashfs"}, "")
	want := map[string]string{`by-label/KEDGE\x20OS`: "../../sda", "by-uuid/1-2": "../../sda"}
	if !reflect.DeepEqual(links, want) {
		t.Errorf("links = %v, want %v", links, want)
	}
	dir := t.TempDir()
	for _, want := range []map[string]string{want, {"by-label/B": "../../sdb"}} {
		if err := replaceLinks(dir, want); err != nil {
			t.Fatal(err)
		}
		got, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
		if len(got) != len(want) {
			t.Errorf("links on disk: %v, want %v", got, want)
		}
	}
}
