package registry

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// Files of a layout (OCI image layout 1.1).
const (
	markerFile = "oci-layout"
	marker     = `{"imageLayoutVersion":"1.0.0"}`
	indexFile  = "index.json"
)

func blobFile(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// A layout is a source: a folder, or the same in a tar file.
type layout struct {
	ref  reference
	file func(name string) (file, error) // the error wraps fs.ErrNotExist
}

type file interface {
	io.ReadSeeker
	io.Closer
}

func openLayout(r reference) (source, error) {
	l := &layout{ref: r, file: func(name string) (file, error) { return os.Open(filepath.Join(r.path, name)) }}
	if r.kind == archive {
		parts, err := list(r.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		if err != nil {
			return nil, fmt.Errorf("read archive %s: %w", r.path, err)
		}
		l.file = func(name string) (file, error) { return openPart(r.path, name, parts) }
	}
	return l, nil
}

// An extent is where a file lies in an archive.
type extent struct{ offset, size int64 }

// list finds the files of an archive.
func list(archive string) (map[string]extent, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files := map[string]extent{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		at, err := f.Seek(0, io.SeekCurrent) // the reader stands at the content
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg {
			files[path.Clean(h.Name)] = extent{at, h.Size}
		}
	}
}

// A part of an archive is a file.
type part struct {
	*io.SectionReader
	io.Closer
}

func openPart(archive, name string, files map[string]extent) (file, error) {
	at, ok := files[name]
	if !ok {
		return nil, fmt.Errorf("%s in %s: %w", name, archive, fs.ErrNotExist)
	}
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	return part{io.NewSectionReader(f, at.offset, at.size), f}, nil
}

func (l *layout) String() string { return l.ref.path }
func (l *layout) close()         {}

// open opens a file of the layout; another try would not help.
func (l *layout) open(name string) (file, error) {
	f, err := l.file(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return nil, final{err}
	}
	return f, nil
}

func (l *layout) read(name string) ([]byte, error) {
	f, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readSmall(f, maxManifest)
	if err != nil {
		return nil, final{fmt.Errorf("read %s: %w", name, err)}
	}
	return b, nil
}

func (l *layout) manifest(_ context.Context, digest string) ([]byte, error) {
	if digest == "" {
		digest = l.ref.digest
	}
	if digest == "" {
		named, err := l.named()
		if err != nil {
			return nil, err
		}
		digest = named.Digest.String()
	}
	h, err := v1.NewHash(digest)
	if err != nil {
		return nil, final{err}
	}
	raw, err := l.read(blobFile(h))
	if err != nil {
		return nil, err
	}
	if err := check(raw, digest); err != nil {
		return nil, fmt.Errorf("read %s: %w", blobFile(h), err)
	}
	return raw, nil
}

// named returns what the tag of the reference stands for.
func (l *layout) named() (v1.Descriptor, error) {
	raw, err := l.read(indexFile)
	if err != nil {
		return v1.Descriptor{}, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return v1.Descriptor{}, final{fmt.Errorf("read %s: %w", indexFile, err)}
	}
	return byTag(index.Manifests, l.ref.tag)
}

// byTag returns the entry with a tag; without one the only entry. The error
// wraps ErrNotFound and names the tags that are there.
func byTag(entries []v1.Descriptor, tag string) (v1.Descriptor, error) {
	var tags []string
	for _, e := range entries {
		if tag != "" && e.Annotations[tagAnnotation] == tag || tag == "" && len(entries) == 1 {
			return e, nil
		}
		tags = append(tags, e.Annotations[tagAnnotation])
	}
	return v1.Descriptor{}, fmt.Errorf("%w: want tag %q, there is %q", ErrNotFound, tag, tags)
}

func (l *layout) blob(_ context.Context, d v1.Descriptor, from int64) (io.ReadCloser, error) {
	f, err := l.open(blobFile(d.Digest))
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size != d.Size {
		err = fmt.Errorf("%w: %s has %d bytes, want %d", ErrDigest, blobFile(d.Digest), size, d.Size)
	}
	if err == nil {
		_, err = f.Seek(from, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, final{err}
	}
	return f, nil
}

// entry describes the root of a bundle in the index of a layout.
func (b *bundle) entry(tag string) v1.Descriptor {
	if tag == "" {
		tag = b.version
	}
	d := b.root
	if tag != "" {
		d.Annotations = map[string]string{tagAnnotation: tag}
	}
	return d
}

// merge puts an entry in place of those that have its tag.
func merge(index v1.IndexManifest, entry v1.Descriptor) v1.IndexManifest {
	index.SchemaVersion, index.MediaType = 2, types.OCIImageIndex
	var kept []v1.Descriptor
	for _, e := range index.Manifests {
		if e.Annotations[tagAnnotation] != entry.Annotations[tagAnnotation] {
			kept = append(kept, e)
		}
	}
	index.Manifests = append(kept, entry)
	return index
}

// saveFolder puts a bundle into a layout folder. The index is written last, so
// that a folder that was cut off holds what it held.
func saveFolder(ctx context.Context, r reference, b *bundle, o Options) error {
	var index v1.IndexManifest
	raw, err := os.ReadFile(filepath.Join(r.path, indexFile))
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", indexFile, err)
	}
	if err := os.MkdirAll(filepath.Join(r.path, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	p := counter{size: b.size, tell: o.Progress}
	for _, blob := range b.blobs {
		if err := saveBlob(ctx, filepath.Join(r.path, blobFile(blob.Digest)), blob, &p); err != nil {
			return err
		}
	}
	if err := atomicfile.WriteFile(filepath.Join(r.path, markerFile), []byte(marker), 0o644); err != nil {
		return err
	}
	if raw, err = json.Marshal(merge(index, b.entry(r.tag))); err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(r.path, indexFile), raw, 0o644)
}

// A counter adds up the bytes of OS images.
type counter struct {
	done, size int64
	tell       func(done, size int64)
}

func (c *counter) add(n int64) {
	c.done += n
	c.tell(min(c.done, c.size), c.size)
}

// saveBlob writes a blob unless it is there, whole.
func saveBlob(ctx context.Context, to string, b blob, p *counter) error {
	if f, err := os.Open(to); err == nil {
		defer f.Close()
		h := sha256.New()
		if _, err := copyBytes(ctx, h, f, nil); err == nil && hexHash(h) == b.Digest {
			p.add(b.Size)
			return nil
		}
	}
	f, err := atomicfile.Create(to, 0o644)
	if err != nil {
		return err
	}
	defer f.Abort()
	if err := b.write(ctx, f, p); err != nil {
		return err
	}
	return f.Commit()
}

// write copies the content of a blob. The error wraps ErrDigest when it is not
// what it was.
func (b blob) write(ctx context.Context, w io.Writer, p *counter) error {
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := copyBytes(ctx, io.MultiWriter(w, h), io.LimitReader(r, b.Size), p.add); err != nil {
		return err
	}
	if hexHash(h) != b.Digest {
		return fmt.Errorf("%w: %s changed while it was read", ErrDigest, b.file)
	}
	return nil
}

// saveArchive writes a tar file with a layout of nothing but the bundle.
func saveArchive(ctx context.Context, r reference, b *bundle, o Options) error {
	index, err := json.Marshal(merge(v1.IndexManifest{}, b.entry(r.tag)))
	if err != nil {
		return err
	}
	f, err := atomicfile.Create(r.path, 0o644)
	if err != nil {
		return err
	}
	defer f.Abort()
	w := tar.NewWriter(f)
	p := counter{size: b.size, tell: o.Progress}
	none := counter{tell: func(int64, int64) {}}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	for _, f := range []struct{ name, content string }{{markerFile, marker}, {indexFile, string(index)}} {
		if err := writeEntry(ctx, w, f.name, small("", []byte(f.content)), &none); err != nil {
			return err
		}
	}
	for _, blob := range b.blobs {
		if err := writeEntry(ctx, w, blobFile(blob.Digest), blob, &p); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Commit()
}

func writeEntry(ctx context.Context, w *tar.Writer, name string, b blob, p *counter) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: b.Size}); err != nil {
		return err
	}
	return b.write(ctx, w, p)
}

// open returns what a reference may be read from, in the order of asking.
func open(ref string, o Options) ([]source, error) {
	r, err := parse(ref, o.Access)
	if err != nil {
		return nil, err
	}
	if r.kind != inRegistry {
		l, err := openLayout(r)
		if err != nil {
			return nil, err
		}
		return []source{l}, nil
	}
	var sources []source
	origin := r.name.Context().RegistryStr()
	for _, m := range o.Mirrors {
		on, err := r.on(m)
		if err != nil {
			return nil, fmt.Errorf("mirror %s: %w", m.Name, err)
		}
		s, err := newRepository(on, strings.TrimPrefix(origin, "index."), m.Access, o)
		if err != nil {
			return nil, fmt.Errorf("mirror %s: %w", m.Name, err)
		}
		sources = append(sources, s)
	}
	s, err := newRepository(r, "", o.Access, o)
	return append(sources, s), err
}
