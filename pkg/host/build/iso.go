package build

import (
	"bytes"
	"context"
	_ "embed" // the boot loader's configuration
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/host/rootfs"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// serial is the serial console of each architecture's machines.
var serial = map[string]string{"amd64": "ttyS0,115200", "arm64": "ttyAMA0,115200"}

var (
	//go:embed grub.cfg
	grubConfig string
	//go:embed slot.cfg
	slotConfig string
)

// A grubTarget is one kind of firmware that GRUB is built for.
type grubTarget struct {
	folder  string // below usr/lib/grub
	format  string // for grub-mkimage
	image   string // file it is written to, in the ISO
	modules string
	disk    bool // starts a disk that the system is installed to, not this image
}

// grubModules is what every GRUB needs to find and start the kernel.
const grubModules = "part_gpt part_msdos fat iso9660 ext2 normal configfile search search_fs_file search_label echo test linux loadenv serial terminal reboot halt sleep true"

// diskModules is what GRUB on a disk needs more: to name the slots, to read the
// boot record and to know a damaged kernel.
const diskModules = grubModules + " regexp probe hashsum gcry_sha256"

var grubTargets = map[string][]grubTarget{
	"amd64": {
		{"i386-pc", "i386-pc-eltorito", "boot/grub/eltorito.img", grubModules + " biosdisk", false},
		{"x86_64-efi", "x86_64-efi", "EFI/BOOT/BOOTX64.EFI", grubModules + " efi_gop efi_uga", false},
		{"i386-pc", "i386-pc", release.CoreImagePath, diskModules + " biosdisk", true},
		{"x86_64-efi", "x86_64-efi", release.LoadersPath + "/BOOTX64.EFI", diskModules + " efi_gop efi_uga", true},
	},
	"arm64": {
		{"arm64-efi", "arm64-efi", "EFI/BOOT/BOOTAA64.EFI", grubModules + " efi_gop gzio", false},
		{"arm64-efi", "arm64-efi", release.LoadersPath + "/BOOTAA64.EFI", diskModules + " efi_gop gzio", true},
	},
}

// buildISO makes the hybrid image: a disc, and a disk with the same bytes.
// It completes the manifest with the boot loader's files.
func (b *builder) buildISO(ctx context.Context, m *release.Manifest, files map[string]string, to string) error {
	step := b.step("build ISO image")
	dir, err := os.MkdirTemp("", "kedge-iso-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	iso := isoFiles{tree: filepath.Join(dir, "tree"), esp: filepath.Join(dir, "efi.img"), files: files}
	do := func() error {
		if iso.grub, err = b.unpackGrub(filepath.Join(dir, "grub")); err != nil {
			return err
		}
		if err := b.isoTree(*m, iso.tree); err != nil {
			return err
		}
		if err := b.loaders(ctx, *m, iso.grub, iso.tree); err != nil {
			return err
		}
		if err := complete(m, iso.tree); err != nil {
			return err
		}
		return b.packISO(ctx, *m, iso, to)
	}
	if err := do(); err != nil {
		return fmt.Errorf("build ISO image: %w", err)
	}
	info, err := os.Stat(to)
	if err != nil {
		return err
	}
	step.Done(megabytes(info.Size()))
	return nil
}

// complete adds the small files to the manifest, and the manifest to them.
func complete(m *release.Manifest, tree string) (err error) {
	if m.Loaders, err = vouch(tree); err != nil {
		return err
	}
	return writeBelow(tree, release.ManifestPath, m.Encode())
}

// vouch lists what of the image's small files the manifest vouches for: all but
// what is written later or names the image only. xorriso changes the image for
// discs, which nothing but a BIOS reads.
func vouch(tree string) ([]release.File, error) {
	var files []release.File
	for _, folder := range []string{"boot/grub", "EFI", release.LoadersPath} {
		err := filepath.WalkDir(filepath.Join(tree, folder), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() == "eltorito.img" {
				return err
			}
			size, sum, err := digest(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(tree, path)
			files = append(files, release.File{Path: name, Size: size, SHA256: sum})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// isoFiles is what an ISO image is packed from.
type isoFiles struct {
	grub  string            // folder of GRUB's modules
	tree  string            // folder of small files
	esp   string            // where to make the file system for UEFI
	files map[string]string // large files by their path in the image
}

func (b *builder) packISO(ctx context.Context, m release.Manifest, iso isoFiles, to string) error {
	if err := b.efiImage(ctx, filepath.Join(iso.tree, "EFI"), iso.esp); err != nil {
		return err
	}
	return finish(to, func(temporary string) error { return b.xorriso(ctx, m, iso, temporary) })
}

// unpackGrub unpacks GRUB's modules out of the locked packages.
func (b *builder) unpackGrub(dir string) (string, error) {
	t := rootfs.New()
	for name, group := range forArch(b.recipe.Tools, b.arch) {
		if group != "grub" {
			continue
		}
		file, err := b.unpack(name)
		if err != nil {
			return "", err
		}
		if err := t.AddTar(file, name, nil); err != nil {
			return "", err
		}
	}
	folder := filepath.Join(dir, "usr/lib/grub")
	for _, g := range grubTargets[b.arch] {
		if _, ok := t.Get("usr/lib/grub/" + g.folder + "/kernel.img"); !ok {
			return "", fmt.Errorf("find GRUB for %s: no tool package brings it", g.folder)
		}
	}
	return folder, t.Extract(dir, func(p string) bool { return strings.HasPrefix(p, "usr/lib/grub/") })
}

// isoTree writes the small files of the image below dir.
func (b *builder) isoTree(m release.Manifest, dir string) error {
	values := map[string]string{"ID": m.ID, "Version": m.Version, "Arch": m.Arch, "Serial": serial[m.Arch]}
	config, err := fillIn(grubConfig, values)
	if err != nil {
		return err
	}
	slot, err := fillIn(slotConfig, values)
	if err != nil {
		return err
	}
	sums, err := bootSums(m)
	if err != nil {
		return err
	}
	area, err := isoimage.EncodeEmbed(nil)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"boot/grub/grub.cfg":     config,
		release.SlotConfig:       slot,
		bootSumsPath:             sums,
		release.MarkerPath(m.ID): nil,
		release.SignaturePath:    make([]byte, release.SignatureSize),
		isoimage.EmbedPath[1:]:   area,
	} {
		if err := writeBelow(dir, name, content); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(dir, release.ImagesPath), 0o755)
}

// bootSumsPath has the digests of what GRUB starts from a slot, as sha256sum writes
// them: it takes a kernel of which a bit is wrong for a kernel.
const bootSumsPath = "boot/grub/sums"

func bootSums(m release.Manifest) (sums []byte, err error) {
	for _, path := range []string{release.KernelPath, release.InitrdPath} {
		f, ok := m.File(path)
		if !ok {
			return nil, fmt.Errorf("the manifest has no %s", path)
		}
		sums = fmt.Appendf(sums, "%s  /%s\n", f.SHA256, path)
	}
	return sums, nil
}

// loaders builds GRUB for each kind of firmware. For the image, its first
// configuration only finds the image by the marker that no other image has, and
// goes on to the one that lies there. On a disk, GRUB reads the one on the
// partition beside it.
func (b *builder) loaders(ctx context.Context, m release.Manifest, grub, dir string) error {
	early := filepath.Join(dir, "..", "early.cfg")
	text := fmt.Sprintf("search --file --set=root /%s\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n", release.MarkerPath(m.ID))
	if err := os.WriteFile(early, []byte(text), 0o644); err != nil {
		return err
	}
	for _, g := range grubTargets[b.arch] {
		out := filepath.Join(dir, g.image)
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return err
		}
		args := []string{"-O", g.format, "-d", filepath.Join(grub, g.folder), "-o", out}
		if g.disk {
			args = append(args, "-p", fmt.Sprintf("(,gpt%d)/%s", layout.ESPNumber, layout.BootFolder))
		} else {
			args = append(args, "-p", "/boot/grub", "-c", early)
		}
		if err := (process.Tool{Path: "grub-mkimage", Args: append(args, strings.Fields(g.modules)...)}).Run(ctx); err != nil {
			return err
		}
	}
	if b.arch != "amd64" {
		return nil
	}
	boot, err := os.ReadFile(filepath.Join(grub, "i386-pc/boot.img"))
	if err != nil {
		return err
	}
	return writeBelow(dir, release.BootImagePath, boot)
}

func writeBelow(dir, name string, content []byte) error {
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o644)
}

func fillIn(text string, values map[string]string) ([]byte, error) {
	t, err := template.New("").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, values)
	return out.Bytes(), err
}

// efiLabel is not that of config sticks, KEDGE: this file system holds no
// configuration.
const efiLabel = "KEDGE_EFI"

// efiImage makes the FAT file system from which UEFI firmware starts GRUB. Its
// size is what the loader needs and a little more, in whole 64 KiB.
func (b *builder) efiImage(ctx context.Context, efi, to string) error {
	size := int64(64 << 10)
	err := filepath.WalkDir(efi, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			size += info.Size()
		}
		if err == nil {
			err = os.Chtimes(p, b.lock.Date, b.lock.Date)
		}
		return err
	})
	if err != nil {
		return err
	}
	size = (size + 64<<10 - 1) >> 16 << 16
	if err := os.WriteFile(to, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(to, size); err != nil {
		return err
	}
	env := []string{"TZ=UTC", "MTOOLSRC=" + os.DevNull, "MTOOLS_SKIP_CHECK=1", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.lock.Date.Unix())}
	sectors := fmt.Sprint(size / 512)
	for _, t := range []process.Tool{
		{Path: "mformat", Args: []string{"-i", to, "-N", "4b454447", "-v", efiLabel, "-T", sectors, "-h", "4", "-s", "32", "::"}, Env: env},
		{Path: "mcopy", Args: []string{"-i", to, "-s", "-m", efi, "::"}, Env: env},
	} {
		if err := t.Run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// xorriso writes the image. Large files come from where they are by graft
// points; everything gets the lock's date and belongs to root.
func (b *builder) xorriso(ctx context.Context, m release.Manifest, iso isoFiles, to string) error {
	date := b.lock.Date.UTC().Format("20060102150405") + "00"
	args := []string{"-as", "mkisofs", "-quiet", "-r", "-J", "-joliet-long", "-V", release.VolumeID,
		"--modification-date=" + date, "--set_all_file_dates", date}
	guid, err := hex.DecodeString(m.ID)
	if err != nil || len(guid) != 8 {
		return fmt.Errorf("release id %q is not 16 hex digits", m.ID)
	}
	if b.arch == "amd64" {
		args = append(args, "-b", "boot/grub/eltorito.img", "-c", "boot/boot.cat", "-no-emul-boot", "-boot-load-size", "4",
			"-boot-info-table", "--grub2-boot-info", "--grub2-mbr", filepath.Join(iso.grub, "i386-pc/boot_hybrid.img"), "-eltorito-alt-boot")
	}
	args = append(args, "-e", "--interval:appended_partition_2:all::", "-no-emul-boot", "-append_partition", "2", "0xef", iso.esp,
		"-partition_offset", "16", "-appended_part_as_gpt", "-partition_cyl_align", "off", "--gpt_disk_guid", m.ID+m.ID,
		"-o", to, "-graft-points")
	for _, name := range largeFiles {
		args = append(args, name+"="+iso.files[name])
	}
	return full(to, process.Tool{
		Path: "xorriso", Args: append(args, "/="+iso.tree),
		Env: []string{"TZ=UTC", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.lock.Date.Unix())},
	}.Run(ctx))
}

// full makes a plain error of what tools say of a disk that is full, in their
// own words.
func full(file string, err error) error {
	if err == nil {
		return nil
	}
	for _, words := range []string{"exceeds free space", "No space left on device"} {
		if strings.Contains(err.Error(), words) {
			return fmt.Errorf("write %s: %w", file, syscall.ENOSPC)
		}
	}
	return err
}
