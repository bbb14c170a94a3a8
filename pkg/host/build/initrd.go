package build

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/format/initramfs"
	"github.com/kedgeos/kedge/pkg/format/modalias"
	"github.com/kedgeos/kedge/pkg/host/rootfs"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// initrdMarker is the file by which cmd/init knows that it runs in the initrd.
const initrdMarker = "etc/initrd-release"

// buildInitrd makes the initrd: the programs that belong there, a shell for
// emergencies, and the modules it takes to find a medium.
func (b *builder) buildInitrd(ctx context.Context, k kernel, root *rootfs.Tree, programs map[string]string) (string, error) {
	step := b.step("build initrd")
	t, err := b.initrdTree(k, root, programs)
	if err != nil {
		return "", fmt.Errorf("build initrd: %w", err)
	}
	sum, err := t.Digest()
	if err != nil {
		return "", err
	}
	level := map[string]string{"fast": "-3"}[b.Compression]
	if level == "" {
		level = "-19"
	}
	microcode, err := microcodeArchive(root, b)
	if err != nil {
		return "", err
	}
	key := NewKey("initrd 2").Add(sum, level, string(microcode))
	file, err := b.cache.make("initrd", key, func(temporary string) error {
		return b.compressInitrd(ctx, t, microcode, level, temporary)
	})
	if err == nil {
		info, _ := os.Stat(file)
		step.Done(megabytes(info.Size()))
	}
	return file, err
}

func (b *builder) compressInitrd(ctx context.Context, t *rootfs.Tree, microcode []byte, level, file string) error {
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.Write(microcode); err != nil {
		return err
	}
	for _, paths := range b.segments(t) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(writeArchive(w, t, paths)) }()
		err = process.Tool{Path: "zstd", Args: []string{"-q", level, "-T1", "-c", "-"}, Stdin: r, Stdout: out}.Run(ctx)
		r.CloseWithError(err)
		if err != nil {
			return err
		}
	}
	return nil
}

// initrdTime is the time of every file in the initrd. It is always the same, so
// that what does not change from release to release is packed as before.
var initrdTime = time.Unix(0, 0)

func writeArchive(w io.Writer, t *rootfs.Tree, paths []string) error {
	a := initramfs.NewWriter(w, initrdTime)
	for _, p := range paths {
		e, _ := t.Get(p)
		body, err := e.Content.Open()
		if err != nil {
			return err
		}
		err = a.Write(initramfs.Entry{Name: p, Mode: e.Mode, Size: e.Content.Size, Link: e.Link}, body)
		body.Close()
		if err != nil {
			return err
		}
	}
	if !slices.Contains(paths, "dev") {
		return a.Close()
	}
	console := initramfs.Entry{Name: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1}
	if err := a.Write(console, nil); err != nil {
		return err
	}
	return a.Close()
}

func (b *builder) initrdTree(k kernel, root *rootfs.Tree, programs map[string]string) (*rootfs.Tree, error) {
	t := rootfs.New()
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "etc", "root"} {
		t.Folder(dir, 0o755, "initrd")
	}
	marker := fmt.Sprintf("ID=%s\nVERSION_ID=%s\n", b.recipe.Name, b.version)
	if err := t.File(initrdMarker, 0o644, rootfs.Bytes([]byte(marker)), "initrd"); err != nil {
		return nil, err
	}
	for _, p := range b.recipe.Programs {
		if p.Initrd == "" {
			continue
		}
		info, err := os.Stat(programs[p.Name])
		if err != nil {
			return nil, err
		}
		if err := t.File(p.Initrd, 0o755, rootfs.Content{Path: programs[p.Name], Size: info.Size()}, p.Name); err != nil {
			return nil, err
		}
	}
	for _, p := range []string{"usr/bin/busybox", caBundle} {
		if e, ok := root.Get(p); ok {
			if err := t.Put(p, e); err != nil {
				return nil, err
			}
		}
	}
	return t, b.addInitrdModules(t, k)
}

// addInitrdModules adds the selected modules, those they need, and tables that
// speak of these only.
func (b *builder) addInitrdModules(t *rootfs.Tree, k kernel) error {
	selection, err := ReadSelection(b.recipe.path(b.recipe.Kernel.Initrd))
	if err != nil {
		return err
	}
	all := rootfs.New()
	if err := all.AddTar(k.modules, "modules", nil); err != nil {
		return err
	}
	folder := "usr/lib/modules/" + k.version + "/"
	tables := map[string][]byte{}
	for _, name := range []string{"modules.dep", "modules.softdep", "modules.alias", "modules.builtin"} {
		e, _ := all.Get(folder + name)
		if tables[name], err = e.Content.Read(); err != nil {
			return err
		}
	}
	modules, err := modalias.ReadModules(bytes.NewReader(tables["modules.dep"]), bytes.NewReader(tables["modules.softdep"]))
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, file := range modules.Order(selected(modules, selection)...) {
		keep[modalias.Name(file)] = true
		e, ok := all.Get(folder + file)
		if !ok {
			return fmt.Errorf("modules.dep names %s, which is not there", file)
		}
		if err := t.Put(folder+file, e); err != nil {
			return err
		}
	}
	index, err := modalias.Build(bytes.NewReader(tables["modules.alias"]), func(m string) bool { return keep[modalias.Name(m)] })
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		aliasIndex:        index.Encode(),
		"modules.dep":     filterLines(tables["modules.dep"], func(f []string) bool { return keep[modalias.Name(strings.TrimSuffix(f[0], ":"))] }),
		"modules.softdep": filterLines(tables["modules.softdep"], func(f []string) bool { return len(f) > 1 && keep[modalias.Name(f[1])] }),
		"modules.builtin": tables["modules.builtin"],
	} {
		if err := t.File(folder+name, 0o644, rootfs.Bytes(text), "modules"); err != nil {
			return err
		}
	}
	return nil
}

func selected(m modalias.Modules, s Selection) []string {
	var names []string
	for _, name := range m.Names() {
		if s.Keep(strings.TrimSuffix(strings.TrimPrefix(m.File(name), "kernel/"), ".ko")) {
			names = append(names, name)
		}
	}
	return names
}

func filterLines(text []byte, keep func(fields []string) bool) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) > 0 && keep(f) {
			out = append(out, line...)
		}
	}
	return out
}

// microcodeArchive returns the uncompressed archive from which the kernel
// updates processors before anything else, nil when the root has no microcode.
func microcodeArchive(root *rootfs.Tree, b *builder) ([]byte, error) {
	vendors := []struct{ folder, file string }{
		{"usr/lib/firmware/amd-ucode/", "kernel/x86/microcode/AuthenticAMD.bin"},
		{"usr/lib/firmware/intel-ucode/", "kernel/x86/microcode/GenuineIntel.bin"},
	}
	var out bytes.Buffer
	a := initramfs.NewWriter(&out, initrdTime)
	made := map[string]bool{}
	for _, v := range vendors {
		blob, err := concatenate(root, func(p string, e rootfs.Entry) bool {
			return strings.HasPrefix(p, v.folder) && path.Ext(p) != ".asc" && path.Base(p) != "README"
		})
		if err != nil {
			return nil, err
		}
		if len(blob) == 0 {
			continue
		}
		for _, dir := range []string{"kernel", "kernel/x86", "kernel/x86/microcode"} {
			if !made[dir] {
				made[dir] = true
				if err := a.Write(initramfs.Entry{Name: dir, Mode: fs.ModeDir | 0o755}, nil); err != nil {
					return nil, err
				}
			}
		}
		e := initramfs.Entry{Name: v.file, Mode: 0o644, Size: int64(len(blob))}
		if err := a.Write(e, bytes.NewReader(blob)); err != nil {
			return nil, err
		}
	}
	if len(made) == 0 {
		return nil, nil
	}
	if err := a.Close(); err != nil {
		return nil, err
	}
	return append(out.Bytes(), make([]byte, (512-out.Len()%512)%512)...), nil
}

// concatenate joins the regular files that want accepts, in order of path.
func concatenate(t *rootfs.Tree, want func(string, rootfs.Entry) bool) ([]byte, error) {
	var parts [][]byte
	for _, p := range t.Paths() {
		e, _ := t.Get(p)
		if !e.Mode.IsRegular() || !want(p, e) {
			continue
		}
		b, err := e.Content.Read()
		if err != nil {
			return nil, err
		}
		parts = append(parts, b)
	}
	return slices.Concat(parts...), nil
}
