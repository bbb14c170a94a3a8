package build

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kedgeos/kedge/pkg/host/rootfs"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// buildImages makes the container images of the recipe and returns their files
// by name: OCI image layouts as tar files, one zstd layer each.
func (b *builder) buildImages(ctx context.Context, programs map[string]string) (map[string]string, error) {
	files := map[string]string{}
	for _, i := range b.recipe.Images {
		step := b.step("build container image " + i.Name)
		_, sum, err := digest(programs[i.Program])
		if err != nil {
			return nil, err
		}
		key := NewKey("image 1").Add(sum, fmt.Sprint(i), b.arch, b.lock.Date.String())
		files[i.Name], err = b.cache.make("image", key, func(temporary string) error {
			return b.buildImage(ctx, i, programs[i.Program], temporary)
		})
		if err != nil {
			return nil, fmt.Errorf("build container image %s: %w", i.Name, err)
		}
		info, err := os.Stat(files[i.Name])
		if err != nil {
			return nil, err
		}
		step.Done(megabytes(info.Size()))
	}
	return files, nil
}

func (b *builder) buildImage(ctx context.Context, i Image, program, file string) error {
	plain, err := b.imageLayer(i, program)
	if err != nil {
		return err
	}
	var layer bytes.Buffer
	zstd := process.Tool{Path: "zstd", Args: []string{"-q", "-19", "-T1", "-c", "-"}, Stdin: bytes.NewReader(plain), Stdout: &layer}
	if err := zstd.Run(ctx); err != nil {
		return err
	}
	return b.writeLayout(i, plain, layer.Bytes(), file)
}

// imageLayer returns the tar file of an image's only layer: the program and
// nothing else.
func (b *builder) imageLayer(i Image, program string) ([]byte, error) {
	info, err := os.Stat(program)
	if err != nil {
		return nil, err
	}
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	name := strings.TrimPrefix(path.Clean("/"+i.Path), "/")
	var folders []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		folders = append([]string{dir}, folders...)
	}
	for _, dir := range folders {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: b.lock.Date, Format: tar.FormatGNU}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: info.Size(), ModTime: b.lock.Date, Format: tar.FormatGNU}
	if err := w.WriteHeader(h); err != nil {
		return nil, err
	}
	r, err := rootfs.Content{Path: program, Size: info.Size()}.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := io.Copy(w, r); err != nil {
		return nil, err
	}
	return plain.Bytes(), w.Close()
}

// writeLayout writes an OCI image layout of one image with one layer.
func (b *builder) writeLayout(i Image, plain, layer []byte, file string) error {
	diff, _, err := v1.SHA256(bytes.NewReader(plain))
	if err != nil {
		return err
	}
	config, err := json.Marshal(v1.ConfigFile{
		Architecture: b.arch, OS: "linux", Created: v1.Time{Time: b.lock.Date},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diff}},
		Config:  v1.Config{Entrypoint: i.Entrypoint, User: i.User, WorkingDir: "/", Env: []string{"PATH=/"}},
		History: []v1.History{{Created: v1.Time{Time: b.lock.Date}, CreatedBy: "kedge build"}},
	})
	if err != nil {
		return err
	}
	blobs := map[v1.Hash][]byte{}
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: describe(blobs, types.OCIConfigJSON, config),
		Layers: []v1.Descriptor{describe(blobs, types.OCILayerZStd, layer)},
	})
	if err != nil {
		return err
	}
	d := describe(blobs, types.OCIManifestSchema1, manifest)
	_, tag, _ := strings.Cut(path.Base(i.Name), ":")
	d.Annotations = map[string]string{"io.containerd.image.name": i.Name, "org.opencontainers.image.ref.name": tag}
	d.Platform = &v1.Platform{OS: "linux", Architecture: b.arch}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d}})
	if err != nil {
		return err
	}
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": index}
	for sum, blob := range blobs {
		files["blobs/sha256/"+sum.Hex] = blob
	}
	t := rootfs.New()
	for name, content := range files {
		if err := t.File(name, 0o644, rootfs.Bytes(content), i.Name); err != nil {
			return err
		}
	}
	t.Remove(func(p string, e rootfs.Entry) bool { return e.Layer != i.Name })
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	return errors.Join(t.WriteTar(out, b.lock.Date), out.Close())
}

// describe adds a blob and returns its descriptor.
func describe(blobs map[v1.Hash][]byte, kind types.MediaType, blob []byte) v1.Descriptor {
	sum, size, err := v1.SHA256(bytes.NewReader(blob))
	if err != nil {
		panic(err) // reading from memory
	}
	blobs[sum] = blob
	return v1.Descriptor{MediaType: kind, Size: size, Digest: sum}
}
