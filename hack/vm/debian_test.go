package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kedgeos/kedge/pkg/host/qemu"
)

// debianRoot is a root of the host's Debian with its stock kernel, as an archive; it
// is made once for each architecture and kept.
func debianRoot(arch string) string {
	return filepath.Join(os.TempDir(), "kedge-vm-debian-"+arch+".tar")
}

// debianPackages make a Debian that starts by itself, with the kernel of an
// architecture.
const debianPackages = "systemd-sysv,udev,initramfs-tools,kmod,linux-image-"

// makeDebian makes a disk with a Debian whose root is the whole disk, and some
// files in it; of @TARGET it makes a symbolic link. Its kernel and initrd lie beside it, to start it by. It needs
// root, mmdebstrap, and the apt sources of a Debian host; for arm64 on another
// host also QEMU's user emulation.
func makeDebian(ts *script, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: debian ARCH FILE SIZE SOURCE|@TARGET=PATH…")
	}
	arch, args := args[0], args[1:]
	_, size, err := qemu.ParseDisk("disk:" + args[1])
	if err != nil {
		return err
	}
	archive := debianRoot(arch)
	if err := bootstrap(arch, archive); err != nil {
		return err
	}
	root, err := os.MkdirTemp("", "kedge-debian-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if out, err := exec.Command("tar", "-C", root, "--exclude=./dev/*", "-xpf", archive).CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	for _, a := range args[2:] {
		source, path, _ := strings.Cut(a, "=")
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if to, link := strings.CutPrefix(source, "@"); link {
			if err := os.Symlink(to, path); err != nil {
				return err
			}
			continue
		}
		if err := qemu.CopyFile(ts.MkAbs(source), path); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o755); err != nil {
			return err
		}
	}
	disk := ts.MkAbs(args[0])
	for pattern, to := range map[string]string{"boot/vmlinuz-*": ".vmlinuz", "boot/initrd.img-*": ".initrd"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		if len(found) != 1 {
			return fmt.Errorf("%s has %d files %s", archive, len(found), pattern)
		}
		if err := qemu.CopyFile(found[0], disk+to); err != nil {
			return err
		}
	}
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(disk, size); err != nil {
		return err
	}
	if out, err := exec.Command("/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-L", "debian", "-d", root, disk).CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, out)
	}
	return nil
}

func bootstrap(arch, archive string) error {
	if _, err := os.Stat(archive); err == nil {
		return nil
	}
	sources := "/etc/apt/sources.list.d/debian.sources"
	if _, err := os.Stat(sources); err != nil {
		sources = "/etc/apt/sources.list"
	}
	out, err := exec.Command("mmdebstrap", "--format=tar", "--variant=minbase", "--architectures="+arch, "--include="+debianPackages+arch,
		"", archive+".new", sources).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", err, out)
	}
	return os.Rename(archive+".new", archive)
}
