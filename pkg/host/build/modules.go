package build

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/therootcompany/xz"

	"github.com/kedgeos/kedge/pkg/format/modalias"
	"github.com/kedgeos/kedge/pkg/host/rootfs"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// aliasIndex is the file that holds the modalias.Index of a modules folder.
const aliasIndex = "kedge.alias"

// kernel is what the build needs of the kernel's package.
type kernel struct {
	version string
	digest  string // of the package
	image   rootfs.Content
	modules string   // tar file of usr/lib/modules/VERSION: the selection, decompressed, with depmod's tables
	leftOut []string // paths of the modules that were not selected
}

// buildKernel unpacks the kernel and makes the selection of its modules.
func (b *builder) buildKernel(ctx context.Context) (kernel, error) {
	k := kernel{version: kernelVersion(b.lock.Kernel)}
	file, err := b.unpack(b.lock.Kernel)
	if err != nil {
		return k, err
	}
	all := rootfs.New()
	if err := all.AddTar(file, "kernel", nil); err != nil {
		return k, err
	}
	e, ok := all.Get("boot/vmlinuz-" + k.version)
	if !ok {
		return k, fmt.Errorf("unpack %s: it has no boot/vmlinuz-%s", b.lock.Kernel, k.version)
	}
	k.image = e.Content
	selection, err := ReadSelection(b.recipe.path(b.recipe.Kernel.Modules))
	if err != nil {
		return k, err
	}
	locked, _ := b.lock.find(b.lock.Kernel)
	k.digest = locked.SHA256
	key := NewKey("modules 4").Add(k.digest, selection.String(), b.lock.Date.String(), fmt.Sprint(b.recipe.Kernel.Strip))
	step := b.step("select kernel modules")
	k.modules, err = b.cache.make("modules", key, func(temporary string) error {
		return b.packModules(ctx, all, k.version, selection, temporary, step)
	})
	if err != nil {
		return k, fmt.Errorf("select kernel modules: %w", err)
	}
	kept := rootfs.New()
	if err := kept.AddTar(k.modules, "modules", nil); err != nil {
		return k, err
	}
	k.leftOut = leftOut(moduleFiles(all), moduleFiles(kept))
	step.Done(fmt.Sprintf("%d kept, %d left out", len(moduleFiles(kept)), len(k.leftOut)))
	return k, nil
}

// moduleFiles returns the paths of all modules in a tree.
func moduleFiles(t *rootfs.Tree) []string {
	var files []string
	for _, p := range t.Paths() {
		if strings.HasPrefix(p, "usr/lib/modules/") && strings.Contains(path.Base(p), ".ko") {
			files = append(files, p)
		}
	}
	return files
}

func leftOut(all, kept []string) []string {
	have := map[string]bool{}
	for _, p := range kept {
		have[modalias.Name(p)] = true
	}
	var out []string
	for _, p := range all {
		if !have[modalias.Name(p)] {
			out = append(out, p)
		}
	}
	return out
}

// packModules writes the tar file of the selected modules and their tables.
func (b *builder) packModules(ctx context.Context, all *rootfs.Tree, version string, sel Selection, file string, step Step) error {
	dir, err := os.MkdirTemp("", "kedge-modules-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	folder := filepath.Join(dir, "lib/modules", version)
	if err := expandModules(all, version, sel, folder, b.recipe.Kernel.Strip, step); err != nil {
		return err
	}
	for _, table := range []string{"modules.builtin", "modules.builtin.modinfo", "modules.order"} {
		e, ok := all.Get("usr/lib/modules/" + version + "/" + table)
		if !ok {
			return fmt.Errorf("the kernel's package has no %s", table)
		}
		text, err := e.Content.Read()
		if err != nil {
			return err
		}
		text = bytes.ReplaceAll(text, []byte(".ko.xz\n"), []byte(".ko\n"))
		if err := os.WriteFile(filepath.Join(folder, table), text, 0o644); err != nil {
			return err
		}
	}
	if err := (process.Tool{Path: "depmod", Args: []string{"-b", dir, version}}).Run(ctx); err != nil {
		return err
	}
	if err := writeIndex(folder); err != nil {
		return err
	}
	// The one is depmod's own; of the other modprobe reads the binary form.
	for _, table := range []string{"modules.order", "modules.symbols"} {
		if err := os.Remove(filepath.Join(folder, table)); err != nil {
			return err
		}
	}
	t := rootfs.New()
	if err := t.AddDir(filepath.Join(dir, "lib"), "modules", nil); err != nil {
		return err
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	tree := rootfs.New()
	for _, p := range t.Paths() {
		if e, _ := t.Get(p); e.Mode.IsRegular() {
			e.Mode = 0o644
			if err := tree.Put("usr/lib/"+p, e); err != nil {
				return err
			}
		}
	}
	return errors.Join(tree.WriteTar(out, b.lock.Date), out.Close())
}

// writeIndex makes the alias index from the table depmod wrote.
func writeIndex(folder string) error {
	f, err := os.Open(filepath.Join(folder, "modules.alias"))
	if err != nil {
		return err
	}
	defer f.Close()
	index, err := modalias.Build(f, nil)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, aliasIndex), index.Encode(), 0o644)
}

// expandModules decompresses the selected modules, and those they depend on,
// into folder.
func expandModules(all *rootfs.Tree, version string, sel Selection, folder string, strip bool, step Step) error {
	prefix := "usr/lib/modules/" + version + "/"
	byName := map[string]string{}
	var todo []string
	for _, p := range moduleFiles(all) {
		byName[modalias.Name(p)] = p
		bare := strings.TrimSuffix(strings.TrimPrefix(p, prefix+"kernel/"), ".xz")
		if sel.Keep(strings.TrimSuffix(bare, ".ko")) {
			todo = append(todo, p)
		}
	}
	seen := map[string]bool{}
	for _, p := range todo {
		seen[p] = true
	}
	for done := 0; len(todo) > 0; {
		needs := make([][]string, len(todo))
		err := parallel(len(todo), func(i int) (err error) {
			e, _ := all.Get(todo[i])
			needs[i], err = expandModule(e.Content, todo[i], filepath.Join(folder, strings.TrimPrefix(todo[i], prefix)), strip)
			return err
		}, func(n int) { step.Bytes(int64(done+n), int64(len(seen))) })
		if err != nil {
			return err
		}
		done += len(todo)
		todo = todo[:0]
		for _, name := range slices.Concat(needs...) {
			if p := byName[modalias.Name(name)]; p != "" && !seen[p] {
				seen[p] = true
				todo = append(todo, p)
			}
		}
	}
	return nil
}

// parallel calls do for 0..n-1 on all processors and returns the first error.
func parallel(n int, do func(i int) error, progress func(done int)) error {
	var lock sync.Mutex
	var wait sync.WaitGroup
	var first error
	next, done := 0, 0
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for {
				lock.Lock()
				i := next
				next++
				stop := i >= n || first != nil
				lock.Unlock()
				if stop {
					return
				}
				err := do(i)
				lock.Lock()
				if first == nil {
					first = err
				}
				done++
				progress(done)
				lock.Unlock()
			}
		})
	}
	wait.Wait()
	return first
}

// expandModule writes one module, stripped if so wanted, and returns the names of those it needs.
func expandModule(c rootfs.Content, name, to string, strip bool) ([]string, error) {
	raw, err := c.Read()
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(name, ".xz") {
		z, err := xz.NewReader(bytes.NewReader(raw), 0)
		if err != nil {
			return nil, fmt.Errorf("decompress %s: %w", name, err)
		}
		if raw, err = io.ReadAll(z); err != nil {
			return nil, fmt.Errorf("decompress %s: %w", name, err)
		}
		to = strings.TrimSuffix(to, ".xz")
	}
	needs, err := moduleNeeds(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if strip {
		if raw, err = stripModule(raw); err != nil {
			return nil, fmt.Errorf("strip %s: %w", name, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return nil, err
	}
	return needs, os.WriteFile(to, raw, 0o644)
}

// moduleNeeds reads the "depends" and "softdep" fields of a module's .modinfo.
func moduleNeeds(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	var needs []string
	for _, field := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			needs = append(needs, strings.Split(list, ",")...)
		}
		if list, ok := strings.CutPrefix(field, "softdep="); ok {
			for _, name := range strings.Fields(list) {
				if name != "pre:" && name != "post:" {
					needs = append(needs, name)
				}
			}
		}
	}
	return needs, nil
}
