// Package takeover starts an image from within another system, so that the disk
// of that system can be overwritten: kernel, initial RAM file system and image
// go to memory, and the running kernel jumps into them by kexec.
//
// The image travels as a second archive behind the image's own initrd; the
// initrd finds it at ImagePath and starts from it as from a medium. What to do
// then stands on the kernel command line. Sizes are bytes.
package takeover

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/format/initramfs"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/install"
)

// Facts are what decides whether a system can be taken over.
type Facts struct {
	Kedge     bool   // this system is Kedge itself
	Arch      string // of the running kernel, amd64 or arm64
	Total     int64  // memory
	Available int64  // memory that can be had without swapping
	Disabled  bool   // kernel.kexec_load_disabled is set
	Lockdown  string // none, integrity or confidentiality; "" when the kernel has none
}

// Memory that the jump takes: kernel and archive are read into a buffer and then
// into the pages that they are started from; after the jump the archive lies
// there once more until it is unpacked, and the system itself needs some.
const (
	loadSlack = 64 << 20
	runSlack  = 512 << 20
)

// ErrUnable means that this system cannot be taken over.
var ErrUnable = errors.New("this system cannot be taken over")

// Check tells why a system cannot be taken over by an image of which kernel and
// archive have size bytes.
func Check(f Facts, m release.Manifest, size int64) error {
	const mb = 1 << 20
	load, run := 2*size+loadSlack, 2*size+runSlack
	switch {
	case f.Kedge:
		return fmt.Errorf("%w: it is Kedge already; \"kedge upgrade\" changes its release, \"kedge install\" on a medium installs it anew", ErrUnable)
	case f.Arch != m.Arch:
		return fmt.Errorf("%w: it runs on %s, the image is for %s", ErrUnable, f.Arch, m.Arch)
	case f.Disabled:
		return fmt.Errorf("%w: kernel.kexec_load_disabled is 1 until the next restart", ErrUnable)
	case f.Lockdown != "" && f.Lockdown != "none":
		return fmt.Errorf("%w: its kernel is locked down (%s), as with Secure Boot, and starts no kernel but one with a signature that it knows", ErrUnable, f.Lockdown)
	case f.Total < run:
		return fmt.Errorf("%w: it has %d MiB of memory; the image needs %d while it installs itself", ErrUnable, f.Total/mb, run/mb)
	case f.Available < load:
		return fmt.Errorf("%w: %d MiB of memory are free, %d are needed to load the image; stop what uses it", ErrUnable, f.Available/mb, load/mb)
	}
	return nil
}

// Params returns the kernel command line that installs the image to a disk
// without a question. Consoles are those of the running system.
func Params(m release.Manifest, d install.Disk, running []cmdline.Param, powerOff bool) string {
	params := []cmdline.Param{{Key: "kedge.id", Value: m.ID, HasValue: true}, {Key: "panic", Value: "10", HasValue: true}, {Key: "quiet"}, {Key: "loglevel", Value: "4", HasValue: true}}
	set := func(key, value string) {
		params = append(params, cmdline.Param{Key: key, Value: value, HasValue: true})
	}
	consoles := cmdline.All(running, "console")
	if len(consoles) == 0 {
		consoles = []string{"tty0"}
	}
	for _, c := range consoles {
		set("console", c)
	}
	set("kedge.mode", boot.ModeInstall)
	set("kedge.install.silent", "true")
	set("kedge.install.wipe", "true")
	if powerOff {
		set("kedge.install.power_off", "true")
	}
	// Another kernel may count disks in another order: a serial number does not
	// change, nor does a size. See Distinct.
	if named(d) {
		set("kedge.install.disk.match.serial", d.Serial)
	} else {
		set("kedge.install.device", d.Path)
	}
	if d.Transport != "" {
		set("kedge.install.disk.match.transport", d.Transport)
	}
	size := strconv.FormatInt(d.Size, 10)
	set("kedge.install.disk.match.min_size", size)
	set("kedge.install.disk.match.max_size", size)
	return cmdline.String(params)
}

// named tells whether a disk has a serial number that matches only itself.
func named(d install.Disk) bool { return d.Serial != "" && !strings.ContainsAny(d.Serial, `*?[\"`) }

// Distinct tells why another kernel could take another of the disks for d.
func Distinct(d install.Disk, all []install.Disk) error {
	for _, other := range all {
		if !named(d) && other.Path != d.Path && other.Size == d.Size && other.Transport == d.Transport {
			return fmt.Errorf("%w: %s has no usable serial number, and %s is as large: the new kernel may count them in another order, and the wrong one would be wiped",
				ErrUnable, d.Path, other.Path)
		}
	}
	return nil
}

// Foresee tells why the new system would not install to d: its configuration,
// with a kernel command line of Params, says something else of the same disks.
// Need is the smallest disk that does, in bytes.
func Foresee(d install.Disk, all []install.Disk, configuration []byte, line string, need int64) error {
	said, _ := config.Parse("config.yaml", configuration)
	forced, _ := config.FromCmdline(cmdline.Parse(line))
	c := config.Merge(said, forced).Config.Kedge.Install
	if c.NoFormat {
		need = 0
	}
	got, err := install.Choose(all, c, need)
	if err != nil {
		return fmt.Errorf("with its configuration, the new system would not install to %s: %w", d.Path, err)
	}
	if got.Path != d.Path {
		return fmt.Errorf("with its configuration, the new system would install to %s, not to %s", got.Path, d.Path)
	}
	return nil
}

// WriteInitrd writes the image's initrd with the image itself behind it.
func WriteInitrd(w io.Writer, i *release.Image) error {
	initrd, err := i.File(release.InitrdPath)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, initrd); err != nil {
		return err
	}
	// An archive begins at a multiple of four bytes.
	if _, err := w.Write(make([]byte, -initrd.Size()&3)); err != nil {
		return err
	}
	a := initramfs.NewWriter(w, time.Unix(0, 0))
	dir, name := boot.TakeoverDir[1:], boot.TakeoverImage[1:]
	if err := a.Write(initramfs.Entry{Name: dir, Mode: fs.ModeDir | 0o700}, nil); err != nil {
		return err
	}
	if err := a.Write(initramfs.Entry{Name: name, Mode: 0o600, Size: i.Size}, i.Reader()); err != nil {
		return err
	}
	return a.Close()
}

// Size is what kernel and archive of an image take, in bytes.
func Size(i *release.Image) int64 {
	size := i.Size + 4096
	for _, name := range []string{release.KernelPath, release.InitrdPath} {
		if f, known := i.Manifest.File(name); known {
			size += f.Size
		}
	}
	return size
}

// Arch is the architecture of this program, which is the kernel's.
const Arch = runtime.GOARCH
