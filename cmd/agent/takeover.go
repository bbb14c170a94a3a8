package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/node/takeover"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
	"github.com/kedgeos/kedge/pkg/sys/power"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// takeoverFolder is where the archive for the jump is written, on the disk of
// the running system; its name is gone before it is filled.
const takeoverFolder = "/var/tmp"

// takeOver installs an image over the system that runs: on Debian, Ubuntu and
// others with a kernel that can kexec. Up to the jump nothing is changed.
func takeOver(ctx context.Context, env cli.Env, o installOptions) error {
	if o.image == "" {
		return cli.Usagef("install: --takeover wants --image: the file or URL of the image")
	}
	facts, err := takeover.Look()
	if err != nil {
		return err
	}
	source, err := openNamed(ctx, o.image, takeoverFolder+"/kedge-takeover.iso", fetch.Options{Progress: newTransfer(env.Stderr)})
	if err != nil {
		return err
	}
	defer source.Close()
	image, err := openTakeoverImage(ctx, source, o.config)
	if err != nil {
		return err
	}
	if err := trustTakeover(ctx, image, o.unsigned, env.Stderr); err != nil {
		return err
	}
	if err := takeover.Check(facts, image.Manifest, takeover.Size(image)); err != nil {
		return stickHint(err)
	}
	disks, err := install.Disks("")
	if err != nil {
		return err
	}
	need := install.Need(image.Manifest.Arch, image.Size)
	disk, err := install.Choose(disks, config.Install{Device: o.device, Wipe: o.wipe}, need)
	if err != nil {
		return installHint(err)
	}
	if err := takeover.Distinct(disk, disks); err != nil {
		return stickHint(err)
	}
	running, err := kernel.Cmdline()
	if err != nil {
		return err
	}
	line := takeover.Params(image.Manifest, disk, running, o.powerOff)
	if err := foresee(image, disk, disks, line, need); err != nil {
		return err
	}
	fmt.Fprintf(env.Stderr, "Kedge %s (%s) goes to %s.\n", image.Manifest.Version, image.Manifest.ID, disk)
	if len(disk.Holds) > 0 {
		fmt.Fprintf(env.Stderr, "It has %s. ALL OF IT WILL BE LOST, and so does this system if it lives there.\n", strings.Join(disk.Holds, ", "))
	}
	if !o.yes && !confirmed(env, disk.Name) {
		return errors.New("install: not confirmed; nothing was changed")
	}
	fmt.Fprintln(env.Stderr, "kedge: install: verify image "+image.Manifest.ID)
	if err := image.Verify(ctx, func(int64) {}); err != nil {
		return err
	}
	fmt.Fprintln(env.Stderr, "kedge: install: load the image into memory")
	if err := loadTakeover(image, line); err != nil {
		return stickHint(loadError(err))
	}
	fmt.Fprintln(env.Stderr, "kedge: install: leaving this system; the console shows how it goes on")
	return jump(ctx)
}

// trustTakeover refuses an image that nobody has signed whom the configuration
// trusts, or the image that this program comes from.
func trustTakeover(ctx context.Context, image *release.Image, unsigned bool, w io.Writer) error {
	text, err := embeddedConfig(image)
	if err != nil {
		return err
	}
	layer, _ := config.Parse("configuration", text)
	policy := config.Merge(layer).Config.Kedge.Upgrade
	policy.AllowUnsigned = policy.AllowUnsigned || unsigned
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return trustImage(ctx, image, policy, filepath.Join(filepath.Dir(self), "..", strings.TrimPrefix(keyFiles, "/usr/")), w)
}

// embeddedConfig returns the configuration in an image's embed area.
func embeddedConfig(image *release.Image) ([]byte, error) {
	area, err := image.Embedded()
	if err != nil {
		return nil, err
	}
	return isoimage.DecodeEmbed(area)
}

// openTakeoverImage opens the image, with the configuration that its system
// gets in its embed area.
func openTakeoverImage(ctx context.Context, source *os.File, file string) (*release.Image, error) {
	size, err := source.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	image, err := release.Open(source, size)
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", source.Name(), err)
	}
	if file == "" {
		area, err := image.Embedded()
		if err != nil {
			return nil, err
		}
		if embedded, err := isoimage.DecodeEmbed(area); err == nil && len(embedded) > 0 {
			return image, nil
		}
		return nil, cli.Hint(errors.New("install: the new system would have no configuration, and nobody could log in"), "--config FILE gives it one")
	}
	data, err := readConfig(ctx, file, "")
	if err != nil {
		return nil, err
	}
	area, err := isoimage.EncodeEmbed(data)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", file, err)
	}
	return image, image.SetEmbedded(area)
}

// foresee refuses a jump after which another disk, or none, would be installed to.
func foresee(image *release.Image, disk install.Disk, disks []install.Disk, line string, need int64) error {
	configuration, err := embeddedConfig(image)
	if err != nil {
		return err
	}
	if err := takeover.Foresee(disk, disks, configuration, line, need); err != nil {
		return cli.Hint(fmt.Errorf("install: %w", err), "let kedge.install in the configuration name the same disk, or none, without no_format")
	}
	return nil
}

func confirmed(env cli.Env, name string) bool {
	fmt.Fprintf(env.Stderr, "Type the disk's name, %s, to go on: ", name)
	line, err := bufio.NewReader(env.Stdin).ReadString('\n')
	return err == nil && strings.TrimSpace(line) == name
}

// loadTakeover hands kernel and archive to the running kernel. It copies both:
// the files are not needed after that.
func loadTakeover(image *release.Image, line string) error {
	vmlinuz, err := unnamedFile(func(w io.Writer) error {
		r, err := image.File(release.KernelPath)
		if err == nil {
			_, err = io.Copy(w, r)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer vmlinuz.Close()
	initrd, err := unnamedFile(func(w io.Writer) error { return takeover.WriteInitrd(w, image) })
	if err != nil {
		return err
	}
	defer initrd.Close()
	return power.LoadKernel(vmlinuz, initrd, line)
}

// unnamedFile writes a file that goes when it is closed. It is open for reading
// only: the kernel takes none that somebody may write to.
func unnamedFile(write func(io.Writer) error) (*os.File, error) {
	f, err := os.CreateTemp(takeoverFolder, "kedge-takeover-")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if err := write(f); err != nil {
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return os.Open(f.Name())
}

// loadError says what the kernel's refusal means.
func loadError(err error) error {
	for _, c := range []struct {
		of   []syscall.Errno
		what string
	}{
		{[]syscall.Errno{syscall.EPERM, syscall.EACCES}, "its kernel is locked (Secure Boot, a container, or kernel.kexec_load_disabled)"},
		{[]syscall.Errno{syscall.ENOSYS}, "its kernel starts no other one (it lacks kexec)"},
		{[]syscall.Errno{syscall.EKEYREJECTED, syscall.ENOKEY, syscall.ENODATA, syscall.EBADMSG}, "its kernel starts only kernels with a signature that it knows"},
		{[]syscall.Errno{syscall.ENOMEM, syscall.EADDRNOTAVAIL}, "its memory does not do"},
	} {
		if slices.ContainsFunc(c.of, func(e syscall.Errno) bool { return errors.Is(err, e) }) {
			return fmt.Errorf("%w: %s: %w", takeover.ErrUnable, c.what, err)
		}
	}
	return err
}

func stickHint(err error) error {
	if errors.Is(err, takeover.ErrUnable) {
		return cli.Hint(err, "write the image to a USB stick and start the machine from that; nothing here was changed")
	}
	return err
}

// jump stops the running system in its own way, and starts the loaded kernel.
func jump(ctx context.Context) error {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return process.Tool{Path: "systemctl", Args: []string{"kexec"}}.Run(ctx)
	}
	power.Sync()
	return power.StartKernel()
}
