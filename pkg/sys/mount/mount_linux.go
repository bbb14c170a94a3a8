package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

var flagOf = map[string]uintptr{
	"ro": unix.MS_RDONLY, "rw": 0, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"sync": unix.MS_SYNCHRONOUS, "remount": unix.MS_REMOUNT, "noatime": unix.MS_NOATIME, "relatime": unix.MS_RELATIME,
	"bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC, "move": unix.MS_MOVE,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
}

// split parts the options into flags of the kernel and those of the file
// system.
func split(options string) (flags uintptr, data string) {
	var rest []string
	for option := range strings.SplitSeq(options, ",") {
		flag, known := flagOf[option]
		flags |= flag
		if !known && option != "" {
			rest = append(rest, option)
		}
	}
	return flags, strings.Join(rest, ",")
}

// Mount does what s says. The folder (or file, for bind) at Target must exist.
func Mount(s Spec) error {
	flags, data := split(s.Options)
	if err := unix.Mount(s.Source, s.Target, s.Type, flags, data); err != nil {
		return fmt.Errorf("%v: %w", s, err)
	}
	return nil
}

// Unmount detaches the file system on target; it fails when it is in use.
func Unmount(target string) error { return unmount(target, unix.UMOUNT_NOFOLLOW) }

// Detach takes the file system on target out of sight at once; it goes when
// nobody uses it any more.
func Detach(target string) error { return unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH) }

func unmount(target string, flags int) error {
	if err := unix.Unmount(target, flags); err != nil {
		return fmt.Errorf("umount %s: %w", target, err)
	}
	return nil
}

// Table returns what is mounted in the name space of this process.
func Table() ([]Mounted, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ParseTable(f)
}

// Free returns how many bytes may still be written to the file system that path
// lies on, without those that are kept back for root.
func Free(path string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", path, err)
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}

// SwitchRoot makes the file system on root the root of this process, and
// deletes the files of the old one, which is the initial RAM file system. The
// mounts below the old root have been moved before. On an error after the
// move, the process stands in the new root already.
func SwitchRoot(root string) error {
	old, err := os.Open("/")
	if err != nil {
		return err
	}
	defer old.Close()
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter new root %s: %w", root, err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move new root %s to /: %w", root, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter new root %s: %w", root, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter new root %s: %w", root, err)
	}
	return clear(old)
}

// clear deletes everything below the open folder dir that lies on its own file
// system, which must be one in memory.
func clear(dir *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return err
	}
	const ramfs, tmpfs = 0x858458f6, 0x01021994
	if kind := uint32(fs.Type); kind != ramfs && kind != tmpfs {
		return nil
	}
	var own unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &own); err != nil {
		return err
	}
	return clearBelow(dir, own.Dev)
}

func clearBelow(dir *os.File, dev uint64) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, remove(dir, name, dev))
	}
	return errors.Join(errs...)
}

func remove(dir *os.File, name string, dev uint64) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Dev != dev {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.Unlinkat(int(dir.Fd()), name, 0)
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	sub := os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name))
	defer sub.Close()
	if err := clearBelow(sub, dev); err != nil {
		return err
	}
	err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
		return nil // a mount point that stays
	}
	return err
}
