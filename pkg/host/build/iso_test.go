package build

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/host/embed"
	"github.com/kedgeos/kedge/pkg/sys/block"
)

// packSample packs an image around files that stand in for kernel and loaders.
func packSample(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	b := &builder{arch: arch, lock: Lock{Date: time.Unix(1_700_000_000, 0)}}
	m := release.Manifest{Schema: release.Schema, Name: "small", Version: "0.1.0", Arch: arch}
	iso := isoFiles{grub: filepath.Join(dir, "grub"), tree: filepath.Join(dir, "tree"), esp: filepath.Join(dir, "efi.img"), files: map[string]string{}}
	writeFiles(t, dir, map[string]string{
		"vmlinuz": "kernel\n", "initrd": "initrd\n", "root": strings.Repeat("root of 16 bytes", 1024), "verity": strings.Repeat("v", 4096),
		"grub/i386-pc/boot_hybrid.img":        strings.Repeat("\x90", 512),
		"tree/boot/grub/eltorito.img":         strings.Repeat("\x00", 4096),
		"tree/EFI/BOOT/" + loaderFile(arch):   "MZ stands in for GRUB\n",
		"tree/kedge/boot/" + loaderFile(arch): "MZ stands in for GRUB on a disk\n",
	})
	iso.files[release.KernelPath] = filepath.Join(dir, "vmlinuz")
	iso.files[release.InitrdPath] = filepath.Join(dir, "initrd")
	iso.files[release.RootPath] = filepath.Join(dir, "root")
	iso.files[release.VerityPath] = filepath.Join(dir, "verity")
	for _, name := range largeFiles {
		size, sum, err := digest(iso.files[name])
		if err != nil {
			t.Fatal(err)
		}
		m.Files = append(m.Files, release.File{Path: name, Size: size, SHA256: sum})
	}
	m.ID = m.ComputeID()
	out := filepath.Join(dir, "image.iso")
	if err := b.isoTree(m, iso.tree); err != nil {
		t.Fatal(err)
	}
	if err := complete(&m, iso.tree); err != nil {
		t.Fatal(err)
	}
	if err := b.packISO(context.Background(), m, iso, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// extract lets xorriso take one file out of an image.
func extract(t *testing.T, image, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "file")
	runTool(t, "xorriso", "-osirrox", "on", "-indev", image, "-extract", path, to)
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func loaderFile(arch string) string {
	return map[string]string{"amd64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}[arch]
}

// TestISO lets xorriso and sgdisk judge the image.
func TestISO(t *testing.T) {
	for _, arch := range Architectures {
		t.Run(arch, func(t *testing.T) {
			image := packSample(t, arch)
			toc := runTool(t, "xorriso", "-indev", image, "-report_el_torito", "plain", "-find", "/", "-exec", "lsdl")
			want := []string{"Volume id    : 'KEDGE_OS'", "UEFI", "/boot/vmlinuz", "/boot/initrd", "/kedge/root.squashfs", "/kedge/root.verity", "/kedge/release.json", "/kedge/config", "/kedge/images", "/boot/grub/grub.cfg", "/boot/kedge-"}
			if arch == "amd64" {
				want = append(want, "BIOS")
			}
			for _, text := range want {
				if !strings.Contains(toc, text) {
					t.Errorf("xorriso does not see %q in\n%s", text, toc)
				}
			}
			if got := extract(t, image, "/boot/initrd"); got != "initrd\n" {
				t.Errorf("boot/initrd = %q", got)
			}
			verify(t, image, "boot/grub/slot.cfg", "EFI/BOOT/"+loaderFile(arch))
			partitions := runTool(t, "sgdisk", "-p", image)
			if !strings.Contains(partitions, "EF00") {
				t.Errorf("sgdisk sees no EFI partition:\n%s", partitions)
			}
		})
	}
}

// verify reads an image as a machine does that is to be upgraded with it.
func verify(t *testing.T, image string, vouched ...string) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	i, err := release.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	if i.Size != info.Size() {
		t.Errorf("the image has %d bytes, its partition table says %d", info.Size(), i.Size)
	}
	if err := i.Verify(context.Background(), nil); err != nil {
		t.Error(err)
	}
	for _, name := range vouched {
		if !slices.ContainsFunc(i.Manifest.Loaders, func(f release.File) bool { return f.Path == name }) {
			t.Errorf("nobody vouches for %s", name)
		}
	}
	if _, err := i.VerifySignature(nil); !errors.Is(err, release.ErrUnsigned) {
		t.Errorf("VerifySignature = %v, want ErrUnsigned: the place is there and empty", err)
	}
}

func TestISOSameBytes(t *testing.T) {
	_, one, err := digest(packSample(t, "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TZ", "Asia/Tokyo")
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	_, two, err := digest(packSample(t, "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	if one != two {
		t.Error("two images of the same files differ")
	}
}

// TestEmbedArea shows that only the embed area changes, and that it is where
// init looks for it.
func TestEmbedArea(t *testing.T) {
	image := packSample(t, "amd64")
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	config := []byte("hostname: edge\n")
	if _, err := embed.Set(image, "config.yaml", config, false); err != nil {
		t.Fatal(err)
	}
	area := extract(t, image, isoimage.EmbedPath)
	if got, err := isoimage.DecodeEmbed([]byte(area)); err != nil || string(got) != string(config) {
		t.Errorf("embedded is %q, %v", got, err)
	}
	if err := embed.Clear(image); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(image)
	if err != nil || string(after) != string(before) {
		t.Errorf("cleared image differs from the new one: %v", err)
	}
}

func TestGrubConfig(t *testing.T) {
	for _, arch := range Architectures {
		got, err := fillIn(grubConfig, map[string]string{"ID": "0123456789abcdef", "Version": "0.1.0", "Arch": arch, "Serial": serial[arch]})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "grub."+arch+".cfg", string(got))
	}
}

func TestBootScript(t *testing.T) {
	got, err := fillIn(ipxeScript, map[string]string{"Version": "0.1.0", "Prefix": "kedge-0.1.0-amd64", "ID": "0123456789abcdef", "RootSHA256": strings.Repeat("a", 64), "Serial": serial["amd64"]})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "boot.ipxe", string(got))
}

// TestFull takes the words of tools for what they mean.
func TestFull(t *testing.T) {
	for said, want := range map[string]bool{
		"xorriso: exit status 32: FAILURE : Image size 71289s exceeds free space on media 30720s": true,
		"mksquashfs: exit status 1: Write failed because No space left on device":                 true,
		"xorriso: exit status 1: no such file":                                                    false,
	} {
		if err := full("a.iso", errors.New(said)); errors.Is(err, syscall.ENOSPC) != want {
			t.Errorf("%q becomes %v", said, err)
		}
	}
	if full("a.iso", nil) != nil {
		t.Error("no error becomes one")
	}
}

// TestEFIImage: its label is not that of a stick with a configuration.
func TestEFIImage(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"efi/BOOT/BOOTX64.EFI": "MZ stands in for GRUB\n"})
	b, image := &builder{lock: Lock{Date: time.Unix(1_700_000_000, 0)}}, filepath.Join(dir, "efi.img")
	if err := b.efiImage(t.Context(), filepath.Join(dir, "efi"), image); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fs, err := block.Probe(f); err != nil || fs.Type != "vfat" || fs.Label != efiLabel || strings.EqualFold(fs.Label, "kedge") {
		t.Errorf("Probe = %+v, %v", fs, err)
	}
}

// TestSlotConfig lets GRUB's emulator start slots of which some have no initrd
// that can be read, or nothing at all: it must not start a kernel alone.
func TestSlotConfig(t *testing.T) {
	if _, err := exec.LookPath("grub-emu"); err != nil {
		t.Skip(err)
	}
	slot, err := fillIn(slotConfig, map[string]string{"ID": "0123456789abcdef", "Serial": "ttyS0"})
	if err != nil {
		t.Fatal(err)
	}
	// The emulator has neither command, and no devices.
	stand := strings.NewReplacer("hashsum --hash=sha256 --check=/"+bootSumsPath, "compare", "linux /boot", "start_linux /boot", "initrd /boot", "start_initrd /boot",
		"-f /boot", "-f $prefix/$slot/boot", "sleep --interruptible 60", "echo @neither@", "reboot", "exit").Replace(string(slot))
	for _, c := range []struct{ name, start, bad, empty, garbled, want string }{
		{"sound", "a disk", "", "", "", "linux a, initrd a disk"},
		{"no initrd in a", "a disk", "a", "", "", "linux a, linux b, initrd b disk"},
		{"none in b, which runs", "b disk", "b", "", "", "linux b, linux a, initrd a disk"},
		{"rescue", "a rescue", "a", "", "", "linux a, linux b, initrd b rescue"},
		{"none in both", "a disk", "ab", "", "", "linux a, linux b, neither"},
		{"none in a, nothing in b", "a disk", "a", "b", "", "linux a, neither"},
		{"a loader that compares", "a disk", "", "", "-", "linux a, initrd a disk"},
		{"a wrong bit in b", "b disk", "", "", "b", "linux a, initrd a disk"},
		{"a wrong bit in a, no initrd in b", "a disk", "b", "", "a", "linux b, neither"},
		{"wrong bits in both", "a rescue", "", "", "ab", "neither"},
	} {
		dir := t.TempDir()
		// As kedge_boot in pkg/node/install/grub.cfg does it.
		config := `function start_linux { echo "@linux $slot@"; }
function start_initrd {
	if regexp "$slot" "$bad"; then
		false
	else
		echo "@initrd $slot $mode@"
	fi
}
function compare {
	if regexp "$slot" "$garbled"; then
		false
	fi
}
function kedge_boot {
	set slot="$1"
	set mode="$2"
	source "$prefix/$slot/boot/grub/slot.cfg"
}
set bad="` + c.bad + `"
set garbled="` + c.garbled + `"
if [ "$garbled" != "" ]; then
	set kedge_sums="1"
fi
kedge_boot ` + c.start + ` ""
exit
`
		files := map[string]string{"device.map": "", "grub.cfg": config}
		for _, s := range []string{"a", "b"} {
			if s != c.empty {
				files[s+"/boot/grub/slot.cfg"] = stand
			}
		}
		writeFiles(t, dir, files)
		out, err := exec.Command("grub-emu", "-d", dir, "-m", filepath.Join(dir, "device.map"), "-r", "host").CombinedOutput()
		if err != nil {
			t.Fatalf("grub-emu: %v\n%.2000s", err, out)
		}
		var did []string
		for _, m := range regexp.MustCompile(`@([a-z ]+)@`).FindAllStringSubmatch(string(out), -1) {
			did = append(did, m[1])
		}
		if got := strings.Join(did, ", "); got != c.want {
			t.Errorf("%s: %s, want %s\n%.1500s", c.name, got, c.want, out)
		}
	}
}
