package cri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/kedgeos/kedge/cmd/kube/args"
)

// imageDirs are the folders whose image files are imported at start: those of
// the OS, the user's, and those beside the OS on its medium.
func imageDirs(c args.Config) []string {
	system := "/usr/share/kedge/images"
	if dir := os.Getenv("KUBE_IMAGES_DIR"); dir != "" {
		system = dir
	}
	return []string{system, c.ImagesDir(), "/run/kedge/medium/kedge/images"}
}

// Files lists the image files, in order.
func files(dirs []string) (out []string) {
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // an absent folder has no images
		for _, e := range entries {
			name := e.Name()
			if !e.IsDir() && slices.ContainsFunc([]string{".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"}, func(s string) bool { return strings.HasSuffix(name, s) }) {
				out = append(out, filepath.Join(dir, name))
			}
		}
	}
	return out
}

// Import loads every image file into containerd. It must be done before the
// kubelet starts: the kubelet's statistics stumble over the mounts that
// unpacking makes. A bad file is reported and costs no other.
func Import(ctx context.Context, c args.Config) (problems []error) {
	list := files(imageDirs(c))
	if len(list) == 0 {
		return nil
	}
	cl, err := client.New(args.ContainerdSocket)
	if err != nil {
		return []error{fmt.Errorf("connect to containerd: %w", err)}
	}
	defer cl.Close()
	ctx = namespaces.WithNamespace(ctx, "k8s.io")
	for _, file := range list {
		if err := load(ctx, cl, c.Snapshotter, file); err != nil {
			problems = append(problems, fmt.Errorf("import %s: %w", file, err))
		}
	}
	return problems
}

// imported marks an image with the file it came from, so that the next start
// need not read the file again.
const imported = "kedgeos.io/imported-from"

func load(ctx context.Context, cl *client.Client, snapshotter, file string) error {
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	mark := fmt.Sprintf("%s %d %d", filepath.Base(file), st.Size(), st.ModTime().Unix())
	known, err := cl.ListImages(ctx, fmt.Sprintf("labels.%q==%q", imported, mark))
	if err == nil && len(known) > 0 {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := cl.Import(ctx, f, client.WithImageLabels(map[string]string{imported: mark, "io.cri-containerd.image": "managed"}))
	if err != nil {
		return err
	}
	for _, img := range found {
		// Once containerd knows an image as unpacked, nobody unpacks it again:
		// its files are on the disk before that.
		if err := client.NewImage(cl, img).Unpack(ctx, snapshotter, client.WithUnpackApplyOpts(diff.WithSyncFs(true))); err != nil {
			return fmt.Errorf("unpack %s: %w", img.Name, err)
		}
	}
	return nil
}
