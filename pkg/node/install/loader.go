package install

import (
	"bytes"
	_ "embed" // the boot loader's configuration
	"encoding/binary"
	"fmt"
	"io"
	"text/template"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/slot"
)

//go:embed grub.cfg
var grubConfig string

// configText is GRUB's configuration on the EFI system partition, for BIOS too.
func configText() ([]byte, error) {
	t, err := template.New("grub.cfg").Option("missingkey=error").Parse(grubConfig)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Record": slot.Script(), "A": layout.SlotANumber, "B": layout.SlotBNumber, "SlotConfig": release.SlotConfig,
	})
	return out.Bytes(), err
}

// A loader is what starts a disk: files of the EFI system partition, the one
// that firmware starts last, and for BIOS the two parts outside of it.
type loader struct {
	files      []file
	core, boot []byte
}

func loaders(i *release.Image, arch string) (l loader, err error) {
	config, err := configText()
	if err != nil {
		return l, err
	}
	inImage, onDisk := release.EFILoader(arch)
	efi, err := content(i, inImage)
	if err != nil {
		return l, err
	}
	l.files = []file{{slot.Folder + "/grub.cfg", config}, {onDisk, efi}}
	if arch != "amd64" {
		return l, nil
	}
	if l.core, err = content(i, release.CoreImagePath); err != nil {
		return l, err
	}
	l.boot, err = content(i, release.BootImagePath)
	return l, err
}

func content(i *release.Image, path string) ([]byte, error) {
	r, err := i.File(path)
	if err != nil {
		return nil, fmt.Errorf("read boot loader of the image: %w", err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s of the image: %w", path, err)
	}
	return b, nil
}

// Places in GRUB's images for BIOS, in bytes, and what a boot sector may take.
// Source: grub-core/boot/i386/pc/boot.S and diskboot.S of GRUB 2.12, by their
// symbols kernel_sector, boot_drive, boot_drive_check and firstlist.
const (
	kernelSector   = 0x5C
	bootDrive      = 0x64
	driveCheck     = 0x66
	firstBlocklist = 0x1F4
	bootCodeSize   = 440
	biosSector     = 512
)

// bios returns the core image and the boot code of a disk on whose byte start
// the core will lie.
func (l loader) bios(start int64) (core, mbr []byte, err error) {
	if len(l.boot) < 512 || len(l.core) < 1024 {
		return nil, nil, fmt.Errorf("install boot loader: images of %d and %d bytes are too short", len(l.boot), len(l.core))
	}
	core, mbr = bytes.Clone(l.core), bytes.Clone(l.boot[:bootCodeSize])
	sector := uint64(start / biosSector)
	binary.LittleEndian.PutUint64(mbr[kernelSector:], sector)
	mbr[bootDrive] = 0xFF                           // the drive that the BIOS started
	mbr[driveCheck], mbr[driveCheck+1] = 0x90, 0x90 // nop: trust the BIOS
	binary.LittleEndian.PutUint64(core[firstBlocklist:], sector+1)
	return core, mbr, nil
}
