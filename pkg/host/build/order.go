package build

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/host/rootfs"
)

// packOrder is the order in which the root's files are packed: folders and links
// first, then what changes seldom before what changes with every release, and
// what one package brings side by side. Small files share blocks, and a block
// changes as a whole; an upgrade fetches only the blocks that changed.
func (b *builder) packOrder(t *rootfs.Tree) []string {
	paths := t.Paths()
	rank := func(p string) (int, string) {
		e, _ := t.Get(p)
		if !e.Mode.IsRegular() {
			return 0, ""
		}
		return b.changes(e.Layer), e.Layer
	}
	slices.SortStableFunc(paths, func(p, q string) int {
		m, a := rank(p)
		n, b := rank(q)
		return cmp.Or(cmp.Compare(m, n), cmp.Compare(a, b))
	})
	return paths
}

// changes says how often what a layer brings becomes another: the higher, the
// more often.
func (b *builder) changes(layer string) int {
	const packages, modules, others, ours, site = 1, 2, 3, 4, 5
	for _, p := range b.recipe.Programs {
		if p.Name == layer && p.Module == "" {
			return ours
		}
		if p.Name == layer {
			return others
		}
	}
	for _, i := range b.recipe.Images {
		if i.Name == layer {
			return others
		}
	}
	if _, ok := b.lock.find(layer); ok {
		return packages
	}
	if layer == "modules" {
		return modules
	}
	return site // overlays, and what the recipe makes
}

// segments divides the initrd's paths. Each is an archive of its own, packed for
// itself: a changed byte changes all that is packed behind it. The kernel
// unpacks them one after the other.
func (b *builder) segments(t *rootfs.Tree) [][]string {
	var programs, modules, rest []string
	ours := map[string]bool{initrdMarker: true}
	for _, p := range b.recipe.Programs {
		ours[strings.TrimPrefix(p.Initrd, "/")] = true
	}
	for _, p := range t.Paths() {
		e, _ := t.Get(p)
		switch {
		case ours[p]:
			programs = append(programs, p)
		case e.Mode.IsRegular() && strings.HasPrefix(p, "usr/lib/modules/"):
			modules = append(modules, p)
		default:
			rest = append(rest, p)
		}
	}
	return [][]string{rest, modules, programs}
}
