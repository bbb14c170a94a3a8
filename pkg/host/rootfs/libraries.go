package rootfs

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Missing is a shared library that a program of the tree asks for and that is
// not in the tree.
type Missing struct{ Library, NeededBy string }

func (m Missing) String() string {
	return fmt.Sprintf("%s is needed by %s", m.Library, m.NeededBy)
}

// MissingLibraries reads every ELF file below usr and returns the shared
// libraries that the loader would not find. Kernel modules have no loader and
// are passed over.
func (t *Tree) MissingLibraries() ([]Missing, error) {
	var missing []Missing
	for _, p := range t.Paths() {
		e := t.entries[p]
		if !e.Mode.IsRegular() || e.Content.Size < 64 || strings.HasPrefix(p, "usr/lib/modules/") || !strings.HasPrefix(p, "usr/") {
			continue
		}
		want, where, err := needed(e.Content)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", p, err)
		}
		for _, lib := range want {
			if !t.findLibrary(lib, p, where) {
				missing = append(missing, Missing{lib, p})
			}
		}
	}
	slices.SortFunc(missing, func(a, b Missing) int { return strings.Compare(a.String(), b.String()) })
	return missing, nil
}

// needed returns the libraries an ELF file names, its interpreter included, and
// the folders in which it wants them looked up.
func needed(c Content) (libraries, folders []string, err error) {
	r, err := c.Open()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	magic := make([]byte, 4)
	if n, _ := r.Read(magic); n < 4 || string(magic) != elf.ELFMAG {
		return nil, nil, nil
	}
	b, err := c.Read()
	if err != nil {
		return nil, nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, nil, nil // not for this loader: firmware, an odd architecture
	}
	libraries, _ = f.ImportedLibraries()
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		s, _ := f.DynString(tag)
		for _, list := range s {
			folders = append(folders, strings.Split(list, ":")...)
		}
	}
	if len(libraries) > 0 {
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				name := make([]byte, p.Filesz)
				if _, err := p.ReadAt(name, 0); err == nil {
					libraries = append(libraries, strings.TrimRight(string(name), "\x00"))
				}
			}
		}
	}
	return libraries, folders, nil
}

// loaderFolders are where Debian's loader looks by itself.
var loaderFolders = []string{
	"usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib", "usr/lib64",
}

func (t *Tree) findLibrary(lib, user string, folders []string) bool {
	if path.IsAbs(lib) {
		return t.regular(lib)
	}
	for _, dir := range append(folders, loaderFolders...) {
		dir = strings.NewReplacer("$ORIGIN", "/"+path.Dir(user), "${ORIGIN}", "/"+path.Dir(user)).Replace(dir)
		if t.regular(path.Join(dir, lib)) {
			return true
		}
	}
	return false
}

func (t *Tree) regular(name string) bool {
	p, err := t.Resolve(name)
	if err != nil {
		return false
	}
	return t.entries[p].Mode&fs.ModeType == 0
}
