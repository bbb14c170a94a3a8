package build

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/release"
)

// report tells what is in an image, how large it is, and what was left out.
func (b *builder) report(m release.Manifest, p parts, iso string) []byte {
	var w strings.Builder
	fmt.Fprintf(&w, "Kedge %s %s, release %s\nkernel %s, Kubernetes %s, packages of %s (%s), compression %s\n\n",
		m.Version, m.Arch, m.ID, m.Kernel, m.Kubernetes, b.lock.Suite, b.lock.Date.Format("2006-01-02"), b.Compression)
	fmt.Fprintf(&w, "Image, bytes\n")
	if info, err := os.Stat(iso); err == nil {
		fmt.Fprintf(&w, "  %11d  %s\n", info.Size(), path.Base(iso))
	}
	for _, f := range m.Files {
		fmt.Fprintf(&w, "  %11d  %s\n", f.Size, f.Path)
	}
	fmt.Fprintf(&w, "\nRoot by group, bytes before compression\n")
	groups := b.sizesByGroup(p)
	for _, name := range bySize(groups) {
		fmt.Fprintf(&w, "  %11d  %s\n", groups[name], name)
	}
	fmt.Fprintf(&w, "\nRoot by package, bytes before compression\n")
	sizes := p.root.Sizes()
	for _, name := range bySize(sizes) {
		fmt.Fprintf(&w, "  %11d  %s\n", sizes[name], name)
	}
	fmt.Fprintf(&w, "\nKernel modules: %d kept, %d left out:\n", len(moduleFiles(p.root)), len(p.kernel.leftOut))
	for _, f := range p.kernel.leftOut {
		_, bare, _ := strings.Cut(f, "/kernel/")
		fmt.Fprintf(&w, "  %s\n", strings.TrimSuffix(strings.TrimSuffix(bare, ".xz"), ".ko"))
	}
	return []byte(w.String())
}

// sizesByGroup adds up the layers of the root: packages by their group in the
// recipe, modules by their place in the kernel's tree.
func (b *builder) sizesByGroup(p parts) map[string]int64 {
	groups := forArch(b.recipe.Packages, b.arch)
	sizes := map[string]int64{}
	for _, name := range p.root.Paths() {
		e, _ := p.root.Get(name)
		switch group, isPackage := groups[e.Layer]; {
		case strings.HasPrefix(name, firmwareFolder):
			sizes["firmware"] += e.Content.Size
		case isPackage:
			sizes["packages: "+group] += e.Content.Size
		case e.Layer == "modules":
			sizes["modules: "+moduleGroup(name)] += e.Content.Size
		default:
			sizes[e.Layer] += e.Content.Size
		}
	}
	return sizes
}

// moduleGroup returns the first parts of a module's path, such as drivers/net.
func moduleGroup(name string) string {
	_, bare, ok := strings.Cut(name, "/kernel/")
	if !ok {
		return "tables"
	}
	parts := strings.SplitN(bare, "/", 3)
	return strings.Join(parts[:min(2, len(parts)-1)], "/")
}

func bySize(sizes map[string]int64) []string {
	return slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), strings.Compare(a, b))
	})
}
