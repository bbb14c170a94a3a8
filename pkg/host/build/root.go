package build

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/host/rootfs"
)

// caBundle is the file in which programs look for the authorities they trust.
const caBundle = "etc/ssl/certs/ca-certificates.crt"

const (
	firmwareFolder = "usr/lib/firmware/"
	caFolder       = "usr/share/ca-certificates/"
)

// buildRoot puts the root together. The layers come in this order, later ones
// win: packages, kernel modules, programs, container images, overlays, links,
// modes.
func (b *builder) buildRoot(k kernel, programs, images map[string]string) (*rootfs.Tree, error) {
	t := rootfs.New()
	steps := []func(*rootfs.Tree) error{
		b.addPackages,
		b.addCertificates,
		b.prune,
		b.addFolders,
		func(t *rootfs.Tree) error { return t.AddTar(k.modules, "modules", nil) },
		func(t *rootfs.Tree) error { return b.addPrograms(t, programs) },
		func(t *rootfs.Tree) error { return b.addKubeVersion(t, programs) },
		func(t *rootfs.Tree) error { return b.addImages(t, images) },
		b.addOverlays,
		b.addLinks,
		b.setModes,
		checkLibraries,
	}
	for _, do := range steps {
		if err := do(t); err != nil {
			return nil, fmt.Errorf("build root: %w", err)
		}
	}
	return t, nil
}

func (b *builder) addPackages(t *rootfs.Tree) error {
	groups := forArch(b.recipe.Packages, b.arch)
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		file, err := b.unpack(name)
		if err != nil {
			return err
		}
		if err := t.AddTar(file, name, b.choose(name)); err != nil {
			return err
		}
		for _, p := range b.recipe.Only[name] {
			if e, ok := t.Get(p); !ok || e.Layer != name {
				return fmt.Errorf("only: package %s has no %s", name, p)
			}
		}
	}
	return nil
}

// choose returns what decides which files of a package are taken, nil for all.
func (b *builder) choose(name string) func(path string) string {
	only, ok := b.recipe.Only[name]
	if !ok {
		return nil
	}
	return func(p string) string {
		if slices.Contains(only, "/"+rootfs.Place(p)) {
			return p
		}
		return ""
	}
}

// addCertificates joins the certificates of ca-certificates into one file, as
// its maintainer script would.
func (b *builder) addCertificates(t *rootfs.Tree) error {
	bundle, err := concatenate(t, func(p string, _ rootfs.Entry) bool {
		return strings.HasPrefix(p, caFolder) && path.Ext(p) == ".crt"
	})
	if err != nil || len(bundle) == 0 {
		return err
	}
	t.Remove(func(p string, e rootfs.Entry) bool { return strings.HasPrefix(p+"/", caFolder) })
	return t.File(caBundle, 0o644, rootfs.Bytes(bundle), "ca-certificates")
}

// prune takes out what the recipe does without, and the firmware that its list
// does not keep.
func (b *builder) prune(t *rootfs.Tree) error {
	var drop, keep, firmware Selection
	for _, p := range b.recipe.Prune {
		drop = append(drop, rule{true, strings.Trim(p, "/")})
	}
	for _, p := range b.recipe.Keep {
		keep = append(keep, rule{true, strings.Trim(p, "/")})
	}
	if b.recipe.Firmware != "" {
		var err error
		if firmware, err = ReadSelection(b.recipe.path(b.recipe.Firmware)); err != nil {
			return err
		}
	}
	kept := map[string]bool{} // folders on the way to something kept
	for _, p := range t.Paths() {
		if keep.Keep(p) {
			for dir := p; dir != "."; dir = path.Dir(dir) {
				kept[dir] = true
			}
		}
	}
	t.Remove(func(p string, e rootfs.Entry) bool {
		if name, ok := strings.CutPrefix(p, firmwareFolder); ok && !e.Mode.IsDir() {
			return !firmware.Keep(name)
		}
		return !kept[p] && drop.Keep(p)
	})
	removeEmpty(t, firmwareFolder)
	return nil
}

// removeEmpty removes folders below prefix that hold nothing.
func removeEmpty(t *rootfs.Tree, prefix string) {
	used := map[string]bool{}
	paths := t.Paths()
	for _, p := range paths {
		if e, _ := t.Get(p); !e.Mode.IsDir() {
			for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
				used[dir] = true
			}
		}
	}
	t.Remove(func(p string, e rootfs.Entry) bool {
		return strings.HasPrefix(p, prefix) && e.Mode.IsDir() && !used[p]
	})
}

func (b *builder) addFolders(t *rootfs.Tree) error {
	for _, dir := range b.recipe.Folders {
		t.Folder(dir, 0o755, "recipe")
	}
	return nil
}

func (b *builder) addPrograms(t *rootfs.Tree, programs map[string]string) error {
	for _, p := range b.recipe.Programs {
		if p.Destination == "" {
			continue
		}
		if err := addProgram(t, p, programs[p.Name]); err != nil {
			return err
		}
	}
	return nil
}

func addProgram(t *rootfs.Tree, p Program, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	c := rootfs.Content{Path: file, Size: info.Size()}
	for _, to := range append([]string{p.Destination}, p.Copies...) {
		if err := t.File(to, 0o755, c, p.Name); err != nil {
			return err
		}
	}
	for name, target := range p.Links {
		if err := t.Symlink(name, target, p.Name); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) addImages(t *rootfs.Tree, images map[string]string) error {
	for _, i := range b.recipe.Images {
		info, err := os.Stat(images[i.Name])
		if err != nil {
			return err
		}
		c := rootfs.Content{Path: images[i.Name], Size: info.Size()}
		if err := t.File(i.File, 0o644, c, i.Name); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) addOverlays(t *rootfs.Tree) error {
	for _, dir := range b.recipe.Overlays {
		if err := t.AddDir(b.recipe.path(dir), "overlay", nil); err != nil {
			return fmt.Errorf("add overlay %s: %w", dir, err)
		}
	}
	return nil
}

// addLinks makes the recipe's links, and the names of multi-call programs where
// nothing else has the name.
func (b *builder) addLinks(t *rootfs.Tree) error {
	for name, target := range b.recipe.Links {
		if err := t.Symlink(name, target, "recipe"); err != nil {
			return err
		}
	}
	for _, m := range b.recipe.Applets {
		e, ok := t.Get(m.Program)
		if !ok {
			return fmt.Errorf("applets: %s is not in the root", m.Program)
		}
		program, err := e.Content.Read()
		if err != nil {
			return err
		}
		for _, name := range m.Names {
			if hasCommand(t, name) {
				continue
			}
			// Every build of busybox has other applets; their names stand in it.
			if !bytes.Contains(program, []byte("\x00"+name+"\x00")) {
				return fmt.Errorf("applets: %s has no %s", m.Program, name)
			}
			if err := t.Symlink("usr/bin/"+name, path.Base(m.Program), "recipe"); err != nil {
				return err
			}
		}
	}
	return nil
}

func hasCommand(t *rootfs.Tree, name string) bool {
	_, bin := t.Get("usr/bin/" + name)
	_, sbin := t.Get("usr/sbin/" + name)
	return bin || sbin
}

func (b *builder) setModes(t *rootfs.Tree) error {
	modes, err := b.recipe.modes()
	if err != nil {
		return err
	}
	for name, mode := range modes {
		e, ok := t.Get(name)
		if !ok {
			return fmt.Errorf("modes: /%s is not in the root", name)
		}
		e.Mode = e.Mode&fs.ModeType | mode
		if err := t.Put(name, e); err != nil {
			return err
		}
	}
	return nil
}

func checkLibraries(t *rootfs.Tree) error {
	missing, err := t.MissingLibraries()
	if err != nil || len(missing) == 0 {
		return err
	}
	var lines []string
	for _, m := range missing[:min(len(missing), 10)] {
		lines = append(lines, m.String())
	}
	if more := len(missing) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("shared libraries are missing, add their packages to the recipe: %s", strings.Join(lines, "; "))
}
