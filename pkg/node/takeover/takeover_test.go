package takeover

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/node/install"
)

func TestCheck(t *testing.T) {
	const size = 170 << 20
	good := Facts{Arch: "amd64", Total: 2 << 30, Available: 1 << 30, Lockdown: "none"}
	for _, c := range []struct {
		name   string
		change func(*Facts)
		says   string
	}{
		{"a usual machine", func(*Facts) {}, ""},
		{"no lockdown in the kernel", func(f *Facts) { f.Lockdown = "" }, ""},
		{"Kedge", func(f *Facts) { f.Kedge = true }, "it is Kedge already"},
		{"another architecture", func(f *Facts) { f.Arch = "arm64" }, "it runs on arm64, the image is for amd64"},
		{"kexec disabled", func(f *Facts) { f.Disabled = true }, "kexec_load_disabled"},
		{"locked down", func(f *Facts) { f.Lockdown = "integrity" }, "locked down (integrity)"},
		{"little memory", func(f *Facts) { f.Total = 800 << 20 }, "it has 800 MiB of memory; the image needs 852"},
		{"little free memory", func(f *Facts) { f.Available = 400 << 20 }, "400 MiB of memory are free, 404 are needed"},
	} {
		f := good
		c.change(&f)
		err := Check(f, release.Manifest{Arch: "amd64"}, size)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || !errors.Is(err, ErrUnable)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

func TestParams(t *testing.T) {
	m := release.Manifest{ID: "0123456789abcdef"}
	running := cmdline.Parse("BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet console=tty0 console=ttyS0,115200n8")
	for _, c := range []struct {
		name    string
		disk    install.Disk
		running []cmdline.Param
		off     bool
		want    string
	}{
		{"serial number", install.Disk{Path: "/dev/sda", Serial: "WD 12", Transport: "sata", Size: 1000204886016}, running, false,
			`kedge.id=0123456789abcdef panic=10 quiet loglevel=4 console=tty0 console=ttyS0,115200n8 kedge.mode=install kedge.install.silent=true kedge.install.wipe=true ` +
				`kedge.install.disk.match.serial="WD 12" kedge.install.disk.match.transport=sata kedge.install.disk.match.min_size=1000204886016 kedge.install.disk.match.max_size=1000204886016`},
		{"none, and powered off", install.Disk{Path: "/dev/vda", Transport: "virtio", Size: 6 << 30}, nil, true,
			`kedge.id=0123456789abcdef panic=10 quiet loglevel=4 console=tty0 kedge.mode=install kedge.install.silent=true kedge.install.wipe=true ` +
				`kedge.install.power_off=true kedge.install.device=/dev/vda kedge.install.disk.match.transport=virtio kedge.install.disk.match.min_size=6442450944 kedge.install.disk.match.max_size=6442450944`},
		{"a serial number like a pattern", install.Disk{Path: "/dev/sdb", Serial: "A*", Size: 512}, nil, false,
			`kedge.id=0123456789abcdef panic=10 quiet loglevel=4 console=tty0 kedge.mode=install kedge.install.silent=true kedge.install.wipe=true ` +
				`kedge.install.device=/dev/sdb kedge.install.disk.match.min_size=512 kedge.install.disk.match.max_size=512`},
	} {
		if got := Params(m, c.disk, c.running, c.off); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestDistinct(t *testing.T) {
	d := func(path, serial, transport string, size int64) install.Disk {
		return install.Disk{Path: path, Serial: serial, Transport: transport, Size: size}
	}
	for _, c := range []struct {
		name     string
		chosen   install.Disk
		other    install.Disk
		distinct bool
	}{
		{"no serial number, as large", d("/dev/vda", "", "virtio", 6<<30), d("/dev/vdb", "", "virtio", 6<<30), false},
		{"a pattern, as large", d("/dev/sda", "A*", "sata", 6<<30), d("/dev/sdb", "B", "sata", 6<<30), false},
		{"a serial number, as large", d("/dev/sda", "A", "sata", 6<<30), d("/dev/sdb", "", "sata", 6<<30), true},
		{"another size", d("/dev/vda", "", "virtio", 6<<30), d("/dev/vdb", "", "virtio", 7<<30), true},
		{"another transport", d("/dev/vda", "", "virtio", 6<<30), d("/dev/sda", "", "usb", 6<<30), true},
	} {
		if err := Distinct(c.chosen, []install.Disk{c.other, c.chosen}); (err == nil) != c.distinct || err != nil && !errors.Is(err, ErrUnable) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestForesee: what is installed after the jump is what was asked for before.
func TestForesee(t *testing.T) {
	sda := install.Disk{Path: "/dev/sda", Serial: "A", Transport: "sata", Size: 8 << 30, Holds: []string{"a partition table"}}
	sdb := install.Disk{Path: "/dev/sdb", Serial: "B", Transport: "sata", Size: 9 << 30}
	twin := sda
	twin.Path = "/dev/sdc"
	for _, c := range []struct {
		name, config string
		disks        []install.Disk
		says         string // "" when it is the same disk
	}{
		{"no install", "hostname: a\n", []install.Disk{sda, sdb}, ""},
		{"the same device", "kedge: {install: {device: /dev/sda}}\n", []install.Disk{sda, sdb}, ""},
		{"another device", "kedge: {install: {device: /dev/sdb}}\n", []install.Disk{sda, sdb}, `would not install to /dev/sda: no disk to install to: install.device /dev/sdb: its serial number is "B"`},
		{"another model", "kedge: {install: {disk: {match: {model: fast*}}}}\n", []install.Disk{sda, sdb}, `its model is ""`},
		{"a state to be kept", "kedge: {install: {no_format: true}}\n", []install.Disk{sda, sdb}, "would not install to /dev/sda: "},
		{"one serial number twice", "", []install.Disk{sda, twin}, "more than one disk fits"},
	} {
		err := Foresee(sda, c.disks, []byte(c.config), Params(release.Manifest{}, sda, nil, false), 3<<30)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	bare := sda
	bare.Serial = ""
	if err := Foresee(bare, []install.Disk{bare, sdb}, nil, Params(release.Manifest{}, bare, nil, false), 3<<30); err != nil {
		t.Errorf("no serial number: %v", err)
	}
	if err := Foresee(sdb, []install.Disk{bare, sdb}, nil, Params(release.Manifest{}, bare, nil, false), 3<<30); err == nil || !strings.Contains(err.Error(), "to /dev/sda, not to /dev/sdb") {
		t.Errorf("another disk: %v", err)
	}
}

// TestWriteInitrd asks cpio for what lies behind the image's initrd.
func TestWriteInitrd(t *testing.T) {
	folder, file := t.TempDir(), filepath.Join(t.TempDir(), "image.iso")
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: "0.1.0", Arch: "amd64", Kernel: "6.12"}
	m.ID = m.ComputeID()
	for name, data := range map[string]string{release.ManifestPath: string(m.Encode()), release.InitrdPath: "initrd!", release.KernelPath: "kernel"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "-o", file, folder).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	iso, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	i, err := release.Open(bytes.NewReader(iso), int64(len(iso)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteInitrd(&out, i); err != nil {
		t.Fatal(err)
	}
	archive, whole := bytes.CutPrefix(out.Bytes(), []byte("initrd!\x00"))
	if !whole {
		t.Fatalf("begins with %q", out.Bytes()[:16])
	}
	to := t.TempDir()
	cpio := exec.Command("cpio", "-idm", "--quiet")
	cpio.Dir, cpio.Stdin = to, bytes.NewReader(archive)
	if text, err := cpio.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, text)
	}
	got, err := os.ReadFile(filepath.Join(to, "takeover/kedge.iso"))
	if err != nil || !bytes.Equal(got, iso[:i.Size]) {
		t.Errorf("the image in the archive: %d bytes, %v; want %d", len(got), err, i.Size)
	}
}

func TestFacts(t *testing.T) {
	total, available := readMemory("MemTotal:        2014364 kB\nMemFree:          100 kB\nMemAvailable:    1500000 kB\nHugePages_Total:  0\n")
	if total != 2014364<<10 || available != 1500000<<10 {
		t.Errorf("readMemory = %d, %d", total, available)
	}
	for text, want := range map[string]string{"none [integrity] confidentiality": "integrity", "[none] integrity": "none", "": ""} {
		if got := chosen(text); got != want {
			t.Errorf("chosen(%q) = %q", text, got)
		}
	}
	if f, err := Look(); err != nil || f.Total == 0 || f.Available == 0 || f.Kedge {
		t.Errorf("Look = %+v, %v", f, err)
	}
}
