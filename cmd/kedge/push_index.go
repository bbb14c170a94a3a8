package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kedgeos/kedge/pkg/api/chunk"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// publishIndexes puts the chunk indexes that lie beside images beside them in the
// registry too, or tells why a machine will have to fetch the whole image: that
// is no reason to fail. Ref is pinned.
func publishIndexes(ctx context.Context, ref string, files []string, o registry.Options, p *progress, w io.Writer) error {
	for _, file := range files {
		index, arch, err := readIndex(file)
		if err == nil && index == nil {
			continue
		}
		step := p.Step("push " + filepath.Base(file+chunk.Suffix))
		if err == nil {
			err = registry.Attach(ctx, ref, arch, registry.ChunksType, index, o)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			p.end()
			fmt.Fprintf(w, "no chunk index is published, upgrades to %s fetch the whole image: %v\n", file, err)
			continue
		}
		step.Done(fmt.Sprintf("%.1f MB", float64(len(index))/1e6))
	}
	return nil
}

// readIndex returns the chunk index that lies beside an image, and the
// architecture of that; nil for an image of Kubernetes alone, which is fetched
// whole. The error tells that there is none, or that it is of another image.
func readIndex(file string) (index []byte, arch string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	i, err := release.Open(f, info.Size())
	if err != nil || i.Manifest.Kind == release.Kubernetes {
		return nil, "", err
	}
	index, err = os.ReadFile(file + chunk.Suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("there is no %s", file+chunk.Suffix)
	}
	if err != nil {
		return nil, "", err
	}
	x, err := chunk.Of(i)
	if err != nil {
		return nil, "", err
	}
	if want, err := x.Encode(); err != nil {
		return nil, "", err
	} else if !bytes.Equal(index, want) {
		return nil, "", fmt.Errorf("%s is of another image", file+chunk.Suffix)
	}
	return index, i.Manifest.Arch, nil
}
