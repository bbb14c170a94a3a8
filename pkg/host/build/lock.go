package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Lock pins every Debian package of a recipe for one architecture.
type Lock struct {
	Suite    string
	Arch     string
	Date     time.Time // when it was made; every file in the image gets this time
	Kernel   string    // name of the kernel's package
	Packages []Locked  // sorted by name
}

// Locked is one package file. Path is where it lies below the archive's
// address, which is not part of a lock: any mirror will do.
type Locked struct {
	Name    string
	Version string
	SHA256  string
	Size    int64
	Archive string // "debian" or "debian-security"
	Path    string
}

// Names of the archives a package can come from.
const (
	archiveMain     = "debian"
	archiveSecurity = "debian-security"
)

const lockHead = `# Debian packages of this image, one a line: name, version, sha256, size, archive, path.
# Written by "kedge lock"; do not edit.
`

// Encode returns the lock as it is written to its file.
func (l Lock) Encode() []byte {
	var b strings.Builder
	b.WriteString(lockHead)
	fmt.Fprintf(&b, "suite %s\narch %s\ndate %s\nkernel %s\n\n", l.Suite, l.Arch, l.Date.UTC().Format(time.RFC3339), l.Kernel)
	for _, p := range l.Packages {
		fmt.Fprintf(&b, "%s %s %s %d %s %s\n", p.Name, p.Version, p.SHA256, p.Size, p.Archive, p.Path)
	}
	return []byte(b.String())
}

// ReadLock reads a lock file. The error names file and line.
func ReadLock(file string) (Lock, error) {
	f, err := os.Open(file)
	if err != nil {
		return Lock{}, fmt.Errorf("read lock: %w", err)
	}
	defer f.Close()
	l, err := DecodeLock(f)
	if err != nil {
		return l, fmt.Errorf("read lock %s: %w", file, err)
	}
	return l, nil
}

// DecodeLock reads what Encode wrote.
func DecodeLock(r io.Reader) (l Lock, err error) {
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		f := strings.Fields(s.Text())
		switch {
		case len(f) == 0 || strings.HasPrefix(f[0], "#"):
		case len(f) == 2:
			err = l.field(f[0], f[1])
		default:
			var p Locked
			p, err = parseLocked(f)
			l.Packages = append(l.Packages, p)
		}
		if err != nil {
			return l, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := s.Err(); err != nil {
		return l, err
	}
	if l.Suite == "" || l.Arch == "" || l.Date.IsZero() || l.Kernel == "" {
		return l, errors.New("suite, arch, date and kernel are needed")
	}
	return l, nil
}

func (l *Lock) field(name, value string) (err error) {
	switch name {
	case "suite":
		l.Suite = value
	case "arch":
		l.Arch = value
	case "kernel":
		l.Kernel = value
	case "date":
		l.Date, err = time.Parse(time.RFC3339, value)
	default:
		err = fmt.Errorf("unknown field %q", name)
	}
	return err
}

var (
	digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
	poolForm   = regexp.MustCompile(`^pool/[A-Za-z0-9.+~_/%:-]+$`)
)

func parseLocked(f []string) (Locked, error) {
	if len(f) != 6 {
		return Locked{}, fmt.Errorf("%d fields instead of 6", len(f))
	}
	p := Locked{Name: f[0], Version: f[1], SHA256: f[2], Archive: f[4], Path: f[5]}
	var err error
	if p.Size, err = strconv.ParseInt(f[3], 10, 64); err != nil || p.Size <= 0 {
		return p, fmt.Errorf("%s: %q is not a size", p.Name, f[3])
	}
	switch {
	case !digestForm.MatchString(p.SHA256):
		return p, fmt.Errorf("%s: %q is not a sha256", p.Name, p.SHA256)
	case p.Archive != archiveMain && p.Archive != archiveSecurity:
		return p, fmt.Errorf("%s: unknown archive %q", p.Name, p.Archive)
	case !poolForm.MatchString(p.Path) || slices.Contains(strings.Split(p.Path, "/"), ".."):
		return p, fmt.Errorf("%s: %q is not a pool path", p.Name, p.Path)
	}
	return p, nil
}

// covers checks that a lock has exactly what a recipe asks for.
func (l Lock) covers(r *Recipe, arch string) error {
	if l.Arch != arch || l.Suite != r.Debian.Suite {
		return fmt.Errorf("it is for %s %s, wanted is %s %s", l.Suite, l.Arch, r.Debian.Suite, arch)
	}
	want := forArch(r.Packages, arch)
	for name := range forArch(r.Tools, arch) {
		want[name] = "tools"
	}
	want[l.Kernel] = "kernel"
	var missing []string
	for name := range want {
		if _, ok := l.find(name); !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("it has no %s", strings.Join(missing, ", "))
	}
	return nil
}

func (l Lock) find(name string) (Locked, bool) {
	i := slices.IndexFunc(l.Packages, func(p Locked) bool { return p.Name == name })
	if i < 0 {
		return Locked{}, false
	}
	return l.Packages[i], true
}

// ErrLock means that the lock file cannot serve: it is absent, damaged or made
// for another recipe.
var ErrLock = errors.New("lock file does not serve")

// WriteLock makes a new lock file beside the recipe and returns its path and,
// in words, what changed.
func WriteLock(ctx context.Context, recipe, arch, mirror string) (file string, changes []string, err error) {
	b, err := prepare(Options{Recipe: recipe, Arch: arch, Mirror: mirror, Cache: os.TempDir()})
	if err != nil {
		return "", nil, err
	}
	if err := b.findMirrors(ctx); err != nil {
		return "", nil, err
	}
	lock, err := MakeLock(ctx, b.recipe, arch, b.mirrors, b.Now())
	if err != nil {
		return "", nil, fmt.Errorf("lock %s for %s: %w", recipe, arch, err)
	}
	file = b.recipe.LockPath(arch)
	old, _ := ReadLock(file) // an absent or damaged one is replaced
	changes = compare(old, lock)
	return file, changes, finishFrom(file, fromBytes(lock.Encode()))
}

// compare tells how a lock differs from an older one.
func compare(old, now Lock) (changes []string) {
	for _, p := range now.Packages {
		switch was, ok := old.find(p.Name); {
		case !ok:
			changes = append(changes, fmt.Sprintf("%s: + %s %s", now.Arch, p.Name, p.Version))
		case was.Version != p.Version:
			changes = append(changes, fmt.Sprintf("%s: %s %s -> %s", now.Arch, p.Name, was.Version, p.Version))
		}
	}
	for _, p := range old.Packages {
		if _, ok := now.find(p.Name); !ok {
			changes = append(changes, fmt.Sprintf("%s: - %s %s", now.Arch, p.Name, p.Version))
		}
	}
	return changes
}
