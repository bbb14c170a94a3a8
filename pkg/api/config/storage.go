package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Storage is a further disk that is mounted at Path; see Format for blank ones.
type Storage struct {
	Path       string    `key:"path,required" check:"mount point"`
	Device     string    `key:"device" check:"path"`
	Match      DiskMatch `key:"match"`
	Label      string    `key:"label" check:"fs label"`
	Filesystem string    `key:"filesystem" check:"file system"`
	Format     string    `key:"format" check:"format"` // FormatIfBlank or FormatNever; "" is the first
	Options    string    `key:"options" check:"mount options"`
	Required   bool      `key:"required"`
}

// Values of Storage.Format.
const (
	FormatIfBlank = "if_blank"
	FormatNever   = "never"
)

// Places for mounts, and the folders of the system that must not be covered. A
// mount at or above one of the latter would hide what the machine lives on.
var (
	mountBelow  = []string{"/var", "/opt", "/home", "/usr/local", "/mnt", "/media", "/srv"}
	mountAt     = []string{"/mnt", "/media", "/srv"}
	systemPaths = []string{"/var/lib/kedge", "/var/log/kedge", "/var/run", "/var/lock", "/var/tmp", "/var/spool", "/var/cache", "/var/empty"}
)

func checkMountPoint(_, s string) error {
	if path.Clean(s) != s || !path.IsAbs(s) || strings.ContainsAny(s, "\x00\n") {
		return fmt.Errorf("an absolute path without . and .. is wanted, not %s", quoted(s))
	}
	if slices.Contains(mountAt, s) {
		return nil
	}
	if !slices.ContainsFunc(mountBelow, func(p string) bool { return strings.HasPrefix(s, p+"/") }) {
		return fmt.Errorf("%s: a folder below %s is wanted", quoted(s), strings.Join(mountBelow, ", "))
	}
	for _, p := range append([]string{"/var/home", "/var/opt", "/var/local", "/var/root"}, systemPaths...) {
		if s == p || strings.HasPrefix(s, p+"/") || strings.HasPrefix(p, s+"/") {
			return fmt.Errorf("%s: the system needs %s itself", quoted(s), p)
		}
	}
	return nil
}
