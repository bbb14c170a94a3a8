package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kedgeos/kedge/pkg/host/rootfs"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// Compression of the root: "release" is small and takes minutes, "fast" is for
// trying things out.
var squashfsLevel = map[string][]string{
	"release": {"-comp", "zstd", "-Xcompression-level", "19", "-b", "1M"},
	"fast":    {"-comp", "zstd", "-Xcompression-level", "3", "-b", "128K"},
}

// buildSquashfs writes a tree as a squashfs file and returns its path in the
// cache. The tree goes in as a tar stream, so modes need no rights. Every file
// belongs to root: only that way mksquashfs gives the root folder itself to root,
// whoever runs the build.
func (b *builder) buildSquashfs(ctx context.Context, name string, t *rootfs.Tree) (string, error) {
	step := b.step("build " + name + ".squashfs")
	sum, err := t.Digest()
	if err != nil {
		return "", err
	}
	version, err := toolVersion(ctx, "mksquashfs")
	if err != nil {
		return "", fmt.Errorf("build %s.squashfs: %w", name, err)
	}
	options := squashfsLevel[b.Compression]
	order := b.packOrder(t)
	key := NewKey("squashfs 3").Add(sum, version, b.lock.Date.String()).Add(options...).Add(order...)
	file, err := b.cache.make(name, key, func(temporary string) error {
		return b.squash(ctx, t, order, options, temporary, step)
	})
	if err != nil {
		return "", fmt.Errorf("build %s.squashfs: %w", name, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	step.Done(megabytes(info.Size()))
	return file, nil
}

func (b *builder) squash(ctx context.Context, t *rootfs.Tree, order, options []string, file string, step Step) error {
	if err := os.Remove(file); err != nil { // mksquashfs wants to make it
		return err
	}
	r, w := io.Pipe()
	counted := &counter{w: w, total: t.Size(), step: step}
	go func() { w.CloseWithError(t.WriteTarOf(counted, b.lock.Date, order)) }()
	args := append([]string{"-", file, "-tar", "-noappend", "-quiet", "-no-progress", "-exports", "-all-root", "-root-mode", "0755"}, options...)
	err := process.Tool{
		Path: "mksquashfs", Args: args, Stdin: r,
		Env: []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.lock.Date.Unix())},
	}.Run(ctx)
	r.CloseWithError(err)
	return full(file, err)
}

// counter shows how much of a stream has passed.
type counter struct {
	w           io.Writer
	done, total int64
	step        Step
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.done += int64(n)
	c.step.Bytes(min(c.done, c.total), c.total)
	return n, err
}

// toolVersion returns the first line that a tool says of itself.
func toolVersion(ctx context.Context, tool string) (string, error) {
	out, err := process.Tool{Path: tool, Args: []string{"-version"}}.Output(ctx)
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(out, "\n")
	return first, nil
}
