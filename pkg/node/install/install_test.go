package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
)

const gb = 1e9

func blankDisk(name string, size int64) Disk {
	return Disk{Name: name, Path: "/dev/" + name, Size: size, Transport: "sata"}
}

func TestChoose(t *testing.T) {
	sda, sdb := blankDisk("sda", 100*gb), blankDisk("sdb", 500*gb)
	sdb.Serial, sdb.Model, sdb.Links = "S123", "Vendor Fast 9", []string{"/dev/disk/by-id/ata-S123"}
	full := sda
	full.Holds = []string{"a partition table with 3 partitions"}
	medium := blankDisk("sdc", 100*gb)
	medium.Medium = true
	usb := blankDisk("sdd", 100*gb)
	usb.Transport = "usb"
	locked := blankDisk("sde", 100*gb)
	locked.ReadOnly = true
	small := blankDisk("sdf", 1*gb)
	match := func(m config.DiskMatch) config.Install { return config.Install{Disk: config.DiskSelection{Match: m}} }
	for _, c := range []struct {
		name  string
		disks []Disk
		want  config.Install
		disk  string
		err   error
		says  string
	}{
		{"the only one", []Disk{sda}, config.Install{}, "/dev/sda", nil, ""},
		{"the only one besides the medium", []Disk{medium, sda}, config.Install{}, "/dev/sda", nil, ""},
		{"one of two", []Disk{sda, sdb}, config.Install{}, "", ErrDoubt, "/dev/sdb 500.0 GB sata Vendor Fast 9 serial S123"},
		{"by path", []Disk{sda, sdb}, config.Install{Device: "/dev/sdb"}, "/dev/sdb", nil, ""},
		{"by link", []Disk{sda, sdb}, config.Install{Device: "/dev/disk/by-id/ata-S123"}, "/dev/sdb", nil, ""},
		{"by path that is not there", []Disk{sda}, config.Install{Device: "/dev/sdx"}, "", ErrNoDisk, "this machine has /dev/sda"},
		{"by serial", []Disk{sda, sdb}, match(config.DiskMatch{Serial: "s1*"}), "/dev/sdb", nil, ""},
		{"by model", []Disk{sda, sdb}, match(config.DiskMatch{Model: "vendor*"}), "/dev/sdb", nil, ""},
		{"by size", []Disk{sda, sdb}, match(config.DiskMatch{MaxSize: "200GB"}), "/dev/sda", nil, ""},
		{"by size of a floor", []Disk{sda, sdb}, match(config.DiskMatch{MinSize: "200GiB"}), "/dev/sdb", nil, ""},
		{"none fits", []Disk{sda}, match(config.DiskMatch{Serial: "x"}), "", ErrNoDisk, `its serial number is ""`},
		{"no disk", nil, config.Install{}, "", ErrNoDisk, "has none"},
		{"only the medium", []Disk{medium}, config.Install{}, "", ErrNoDisk, "runs from it"},
		{"the medium by name", []Disk{medium}, config.Install{Device: "/dev/sdc"}, "", ErrNoDisk, "runs from it"},
		{"a USB disk", []Disk{usb}, config.Install{}, "", ErrNoDisk, "USB"},
		{"a USB disk by name", []Disk{usb}, config.Install{Device: "/dev/sdd"}, "/dev/sdd", nil, ""},
		{"a USB disk by transport", []Disk{usb, sda}, match(config.DiskMatch{Transport: "usb"}), "/dev/sdd", nil, ""},
		{"read-only", []Disk{locked}, config.Install{}, "", ErrNoDisk, "read-only"},
		{"too small", []Disk{small}, config.Install{Device: "/dev/sdf"}, "", ErrTooSmall, "it has 1000000000 bytes, 3000000000 are needed"},
		{"data", []Disk{full}, config.Install{}, "/dev/sda", ErrData, "3 partitions"},
		{"data by name", []Disk{full}, config.Install{Device: "/dev/sda"}, "/dev/sda", ErrData, "wipe"},
		{"data to be lost", []Disk{full}, config.Install{Wipe: true}, "/dev/sda", nil, ""},
		{"wipe does not choose", []Disk{full, sdb}, config.Install{Wipe: true}, "", ErrDoubt, ""},
	} {
		d, err := Choose(c.disks, c.want, 3*gb)
		if d.Path != c.disk || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: Choose = %q, %v; want %q, %v", c.name, d.Path, err, c.disk, c.err)
		}
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want it to say %q", c.name, err, c.says)
		}
	}
}

func TestUnchanged(t *testing.T) {
	chosen := blankDisk("sda", 100*gb)
	chosen.Serial = "S1"
	change := func(f func(*Disk)) []Disk {
		d := chosen
		d.Slots = []string{"a"} // not looked at
		f(&d)
		return []Disk{blankDisk("sdb", 1), d}
	}
	for _, c := range []struct {
		name string
		now  []Disk
		says string // "" when it is the same
	}{
		{"the same", change(func(*Disk) {}), ""},
		{"gone", []Disk{blankDisk("sdb", 1)}, "/dev/sda 100.0 GB sata serial S1 is gone"},
		{"another size", change(func(d *Disk) { d.Size = 200 * gb }), "it is /dev/sda 200.0 GB"},
		{"another serial number", change(func(d *Disk) { d.Serial = "S2" }), "serial S2"},
		{"not blank any more", change(func(d *Disk) { d.Holds = []string{"a partition table"} }), "with nothing on it, it is /dev/sda 100.0 GB sata serial S1 with a partition table"},
	} {
		d, err := Unchanged(chosen, c.now)
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), c.says)) || err == nil && len(d.Slots) == 0 {
			t.Errorf("%s: %+v, %v, want %q", c.name, d, err, c.says)
		}
		if SameDisks([]Disk{chosen}, c.now[len(c.now)-1:]) != (c.says == "") {
			t.Errorf("%s: SameDisks is %v", c.name, c.says != "")
		}
	}
}

// image makes a small image that has the boot loader's files.
func image(t *testing.T, arch string) *release.Image {
	t.Helper()
	folder := t.TempDir()
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: "0.1.0", Arch: arch, Kernel: "6.12"}
	m.ID = m.ComputeID()
	efi, _ := release.EFILoader(arch)
	area, err := isoimage.EncodeEmbed(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		release.ManifestPath: m.Encode(), isoimage.EmbedPath[1:]: area, efi: []byte("efi"), release.CoreImagePath: make([]byte, 2048), release.BootImagePath: make([]byte, 512),
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "image.iso")
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "-o", file, folder).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	i, err := release.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// machine writes down what it is asked, and fails where it is told to.
type machine struct {
	log  []string
	fail string
}

func (m *machine) note(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	m.log = append(m.log, line)
	if m.fail != "" && strings.HasPrefix(line, m.fail) {
		return errors.New("input/output error")
	}
	return nil
}

func (m *machine) Verify(_ context.Context, i *release.Image, _ func(int64)) error {
	return m.note("verify")
}
func (m *machine) Erase(_ context.Context, d Disk) error { return m.note("erase %s", d.Path) }
func (m *machine) Partition(_ context.Context, d Disk, parts []table.Partition) error {
	var names []string
	for _, p := range parts {
		names = append(names, fmt.Sprintf("%d %s", p.Index, p.Name))
	}
	return m.note("partition %s: %s", d.Path, strings.Join(names, ", "))
}
func (m *machine) Copy(_ context.Context, _ *release.Image, device string, _ func(int64)) error {
	return m.note("copy to %s", device)
}
func (m *machine) Format(_ context.Context, kind, device, label string) error {
	return m.note("format %s %s %s", kind, device, label)
}
func (m *machine) Mount(kind, device, dir string) error { return m.note("mount %s %s", kind, device) }
func (m *machine) Unmount(string) error                 { return m.note("unmount") }
func (m *machine) Write(path string, data []byte) error { return m.note("write %s", path) }
func (m *machine) Record(dir, slot string) error        { return m.note("record %s %s", dir, slot) }
func (m *machine) Patch(device string, offset int64, data []byte) error {
	return m.note("patch %s %d+%d", device, offset, len(data))
}

const nvmeLog = `verify
erase /dev/nvme0n1
partition /dev/nvme0n1: 1 KEDGE-BIOS, 2 KEDGE-ESP, 3 KEDGE-A, 4 KEDGE-B, 5 KEDGE-STATE
copy to /dev/nvme0n1p3
format ext4 /dev/nvme0n1p5 KEDGE-STATE
mount ext4 /dev/nvme0n1p5
write /run/kedge/install/lib/kedge/config.d/50-install.yaml
unmount
format vfat /dev/nvme0n1p2 KEDGE-ESP
mount vfat /dev/nvme0n1p2
record /run/kedge/install/kedge a
write /run/kedge/install/kedge/grub.cfg
write /run/kedge/install/EFI/BOOT/BOOTX64.EFI
unmount
patch /dev/nvme0n1p1 0+2048
patch /dev/nvme0n1 0+440
patch /dev/nvme0n1p3 32768+512`

func TestSteps(t *testing.T) {
	o := Options{Disk: blankDisk("nvme0n1", 64*gb), Image: image(t, "amd64"), Config: []byte("hostname: a\n")}
	steps, err := Steps(o)
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.Split(nvmeLog, "\n")
	m := &machine{}
	if err := Run(context.Background(), m, steps, func(Step, int64) {}); err != nil || strings.Join(m.log, "\n") != nvmeLog {
		t.Errorf("Run = %v, did\n%s\nwant\n%s", err, strings.Join(m.log, "\n"), nvmeLog)
	}
	// Whatever fails, nothing more is written, but what is mounted is unmounted.
	for n, line := range whole {
		m := &machine{fail: line}
		err := Run(context.Background(), m, steps, func(Step, int64) {})
		if err == nil || !strings.Contains(err.Error(), "input/output error") {
			t.Errorf("%s fails: Run = %v", line, err)
		}
		for _, more := range m.log[min(n+1, len(m.log)):] {
			if more != "unmount" {
				t.Errorf("%s fails: then %s", line, more)
			}
		}
	}
}

func TestStepsARM(t *testing.T) {
	steps, err := Steps(Options{Disk: blankDisk("mmcblk0", 8*gb), Image: image(t, "arm64")})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{}
	if err := Run(context.Background(), m, steps, func(Step, int64) {}); err != nil {
		t.Fatal(err)
	}
	last := m.log[len(m.log)-3:]
	if last[0] != "write /run/kedge/install/EFI/BOOT/BOOTAA64.EFI" || last[2] != "patch /dev/mmcblk0p3 32768+512" || strings.Contains(strings.Join(m.log, " "), "BIOS") {
		t.Errorf("did %s", strings.Join(m.log, "\n"))
	}
}

// TestConfigText lets GRUB's own parser judge what it will read.
func TestConfigText(t *testing.T) {
	text, err := configText()
	if err != nil {
		t.Fatal(err)
	}
	check := exec.Command("grub-script-check")
	check.Stdin = strings.NewReader(string(text))
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("grub-script-check: %v\n%s", err, out)
	}
	for _, want := range []string{"gpt3", "gpt4", "trial.env", "/boot/grub/slot.cfg"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the configuration has no %s", want)
		}
	}
}

func TestNeed(t *testing.T) {
	for _, size := range []int64{140 << 20, 300 << 20} {
		need := Need("amd64", size)
		i := image(t, "amd64")
		i.Size = size
		if _, err := Steps(Options{Disk: blankDisk("sda", need), Image: i}); err != nil {
			t.Errorf("a disk of what is needed: %v", err)
		}
		if _, err := Steps(Options{Disk: blankDisk("sda", need-1), Image: i}); err == nil {
			t.Error("a smaller disk is taken")
		}
	}
}

// person answers from a list, and keeps what was shown.
type person struct {
	answers []string
	shown   strings.Builder
}

func (p *person) WriteString(s string) (int, error) { return p.shown.WriteString(s) }

func (p *person) ReadLine(_ context.Context, wait time.Duration) (string, error) {
	if len(p.answers) > 0 && p.answers[0] == "(leaves)" && wait > 0 {
		p.answers = p.answers[1:]
		return "", os.ErrDeadlineExceeded
	}
	if len(p.answers) == 0 {
		return "", errors.New("nobody answers")
	}
	answer := p.answers[0]
	p.answers = p.answers[1:]
	p.shown.WriteString(answer + "\n")
	return answer, nil
}

func (p *person) ReadPassword(ctx context.Context, prompt string, wait time.Duration) (string, error) {
	p.shown.WriteString(prompt)
	return p.ReadLine(ctx, wait)
}

func TestAsk(t *testing.T) {
	full := blankDisk("sdb", 500*gb)
	full.Holds = []string{"a partition table with 3 partitions"}
	known := Known{Version: "0.1.0", Links: []string{"eth0"}, Disks: []Disk{blankDisk("sda", 100*gb), full}, Need: 3 * gb, Hostname: "kedge-1"}
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG8JzJo+nv/iTKm8zwNrEGpOMUM0Ig07kbykEy567NO9"
	said := config.Config{Hostname: "told", SSHAuthorizedKeys: []string{key}, Kedge: config.Kedge{Password: "x", ServerURL: "https://a:6443", Install: config.Install{Device: "/dev/sda"}}}
	for _, c := range []struct {
		name    string
		config  config.Config
		answers []string
		want    string
		err     error
	}{
		{"all open", config.Config{}, []string{"1", "", key, "", "", "yes"}, "hostname: kedge-1\nssh_authorized_keys:\n  - " + key + "\nkedge:\n  install:\n    device: /dev/sda\n    wipe: true\n", nil},
		{"joins", config.Config{}, []string{"7", "x", "1", "no name", "edge-2", "", "secret", "other", "secret", "secret", "http://a", "https://10.0.0.1:6443", "", "word", "no", "yes"},
			"hostname: edge-2\nkedge:\n  password: secret\n  server_url: https://10.0.0.1:6443\n  token: word\n  install:\n    device: /dev/sda\n    wipe: true\n", nil},
		{"nothing open", said, []string{"yes"}, "kedge:\n  install:\n    device: /dev/sda\n    wipe: true\n", nil},
		{"data", config.Config{Hostname: "a", SSHAuthorizedKeys: []string{key}, Kedge: config.Kedge{Password: "x"}}, []string{"2", "", "yes", "sdb"}, "kedge:\n  install:\n    device: /dev/sdb\n    wipe: true\n", nil},
		{"quits", config.Config{}, []string{"1", "quit"}, "", ErrQuit},
		{"quits at the password", config.Config{}, []string{"1", "", key, "quit"}, "", ErrQuit},
		{"quits at the password's second", config.Config{}, []string{"1", "", key, "secret", "quit"}, "", ErrQuit},
		{"does not answer", config.Config{}, []string{"1", "(leaves)"}, "", ErrQuit},
		{"does not answer for a password", config.Config{}, []string{"1", "", key, "(leaves)"}, "", ErrQuit},
	} {
		p := &person{answers: c.answers}
		known.Config = c.config
		got, err := Ask(context.Background(), p, known)
		text, _ := config.Marshal(got)
		if string(text) != c.want || !errors.Is(err, c.err) || len(p.answers) > 0 {
			t.Errorf("%s: Ask =\n%s%v, unasked %q; want\n%s\n--- shown:\n%s", c.name, text, err, p.answers, c.want, p.shown.String())
		}
	}
}
