package build

import (
	"context"
	_ "embed" // the example of a network boot script
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/chunk"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/host/delta"
	"github.com/kedgeos/kedge/pkg/host/rootfs"
)

//go:embed boot.ipxe
var ipxeScript string

// parts is all that an image is made of.
type parts struct {
	kernel   kernel
	root     *rootfs.Tree
	programs map[string]string
	images   map[string]string
	files    map[string]string // by path in the image
}

// deliver writes everything into the output folder.
func (b *builder) deliver(ctx context.Context, m release.Manifest, p parts) (Result, error) {
	result := Result{Manifest: m}
	prefix := fmt.Sprintf("%s-%s-%s", b.recipe.Name, m.Version, m.Arch)
	out := func(name string) string { return filepath.Join(b.Output, name) }
	add := func(name string, write func(io.Writer) error) error {
		result.Files = append(result.Files, out(name))
		if err := finishFrom(out(name), write); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		return nil
	}
	if b.recipe.wants("iso") {
		result.Files = append(result.Files, out(prefix+".iso"))
		if err := b.buildISO(ctx, &m, p.files, out(prefix+".iso")); err != nil {
			return result, err
		}
		result.Manifest = m
		for _, end := range []string{".iso", ".iso" + chunk.Suffix} {
			if err := pointTo(out(b.recipe.Name+"-"+m.Arch+end), prefix+end); err != nil {
				return result, err
			}
		}
	}
	if b.recipe.wants(outputKubernetes) {
		if err := b.addKubernetes(ctx, p.programs, p.images, &result); err != nil {
			return result, err
		}
	}
	step := b.step("write " + b.Output)
	type file struct {
		name  string
		write func(io.Writer) error
	}
	var list []file
	if b.recipe.wants("iso") {
		list = append(list, file{prefix + ".iso" + chunk.Suffix, func(w io.Writer) error { return delta.WriteIndex(out(prefix+".iso"), w) }})
	}
	if b.recipe.wants("netboot") {
		root, _ := m.File(release.RootPath)
		script, err := fillIn(ipxeScript, map[string]string{"Version": m.Version, "Prefix": prefix, "ID": m.ID, "RootSHA256": root.SHA256, "Serial": serial[m.Arch]})
		if err != nil {
			return result, err
		}
		list = append(list, file{prefix + "-vmlinuz", fromContent(p.kernel.image)}, file{prefix + "-initrd", fromFile(p.files[release.InitrdPath])},
			file{prefix + "-root.squashfs", fromFile(p.files[release.RootPath])}, file{prefix + "-boot.ipxe", fromBytes(script)})
	}
	if b.recipe.wants("sbom") {
		bom, err := b.billOfMaterials(m, p)
		if err != nil {
			return result, err
		}
		list = append(list, file{prefix + ".spdx.json", fromBytes(bom)})
	}
	list = append(list, file{prefix + ".release.json", fromBytes(m.Encode())}, file{prefix + ".report.txt", fromBytes(b.report(m, p, out(prefix+".iso")))})
	for _, f := range list {
		if err := add(f.name, f.write); err != nil {
			return result, err
		}
	}
	if err := writeSums(b.Output, result.Files); err != nil {
		return result, err
	}
	step.Done(fmt.Sprintf("%d files, release %s", len(result.Files), m.ID))
	return result, nil
}

func fromBytes(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

func fromContent(c rootfs.Content) func(io.Writer) error {
	return func(w io.Writer) error {
		r, err := c.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, r)
		return err
	}
}

func fromFile(path string) func(io.Writer) error {
	return func(w io.Writer) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	}
}

// pointTo makes name a symbolic link to target, whatever it was before.
func pointTo(name, target string) error {
	temporary := name + ".new"
	os.Remove(temporary)
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, name)
}

// sumsFile lists the digests of what is in the output folder.
const sumsFile = "SHA256SUMS"

// writeSums brings SHA256SUMS up to date: lines of files that were not built
// now and are still there stay.
func writeSums(dir string, files []string) error {
	sums := map[string]string{}
	old, _ := os.ReadFile(filepath.Join(dir, sumsFile))
	for line := range strings.Lines(string(old)) {
		if sum, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				sums[name] = sum
			}
		}
	}
	for _, f := range files {
		_, sum, err := digest(f)
		if err != nil {
			return err
		}
		sums[filepath.Base(f)] = sum
	}
	var lines []string
	for name, sum := range sums {
		lines = append(lines, sum+"  "+name+"\n")
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
	return finishFrom(filepath.Join(dir, sumsFile), fromBytes([]byte(strings.Join(lines, ""))))
}
