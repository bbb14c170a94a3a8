// Package delta says what a machine with one image must fetch to have another,
// and where in the new one that lies.
package delta

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/kedgeos/kedge/pkg/api/chunk"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/squashfs"
)

// A Report compares two images. Sizes are bytes.
type Report struct {
	Size    int64  // of the new image
	Fetch   int64  // what the old one does not have
	Index   int64  // size of the chunk index
	Chunks  int    // of the new image
	Missing int    // of those, what is fetched
	Parts   []Part // what the fetched bytes are, most first
}

// A Part is a file of the image, or of its root, or something that is none.
type Part struct {
	Name        string
	Fetch, Size int64
}

// Percent is what is fetched, with the index, of what a whole image would be.
func (r Report) Percent() float64 { return 100 * float64(r.Fetch+r.Index) / float64(r.Size) }

// Known is what a machine has.
type Known map[chunk.Sum]bool

// Read reads an image that a machine has.
func Read(image string) (Known, error) {
	i, x, err := load(image)
	if err != nil {
		return nil, err
	}
	have := Known{}
	for _, c := range x.Chunks {
		have[c.Sum] = true
	}
	return have, i.file.Close()
}

// Compare says what a machine lacks of an image.
func Compare(known Known, after string) (Report, error) {
	have := maps.Clone(known)
	i, x, err := load(after)
	if err != nil {
		return Report{}, err
	}
	defer i.file.Close()
	b, err := x.Encode()
	if err != nil {
		return Report{}, err
	}
	r := Report{Size: x.Size(), Chunks: len(x.Chunks), Index: int64(len(b))}
	var ranges []extent
	at := int64(0)
	for _, c := range x.Chunks {
		if c.Kind == chunk.Open || c.Kind == chunk.Fixed && !have[c.Sum] {
			have[c.Sum] = true
			r.Fetch += c.Size
			r.Missing++
			ranges = append(ranges, extent{at, c.Size})
		}
		at += c.Size
	}
	parts, err := layout(i.Image)
	if err != nil {
		return r, fmt.Errorf("read %s: %w", after, err)
	}
	r.Parts = blame(ranges, parts, r.Size)
	return r, nil
}

type image struct {
	*release.Image
	file *os.File
}

// load opens an image and cuts it; the caller closes the file.
func load(path string) (image, chunk.Index, error) {
	f, err := os.Open(path)
	if err != nil {
		return image{}, chunk.Index{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return image{}, chunk.Index{}, errors.Join(err, f.Close())
	}
	i, err := release.Open(f, info.Size())
	if err != nil {
		return image{}, chunk.Index{}, errors.Join(fmt.Errorf("open image %s: %w", path, err), f.Close())
	}
	x, err := chunk.Of(i)
	if err != nil {
		return image{}, x, errors.Join(fmt.Errorf("cut image %s: %w", path, err), f.Close())
	}
	return image{i, f}, x, nil
}

// WriteIndex writes the chunk index of an image.
func WriteIndex(path string, w io.Writer) error {
	i, x, err := load(path)
	if err != nil {
		return err
	}
	defer i.file.Close()
	b, err := x.Encode()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

type extent struct{ from, size int64 }

type named struct {
	extent
	name string
}

// layout lists what lies where in an image, in order of place.
func layout(i *release.Image) ([]named, error) {
	var list []named
	for _, f := range append(slices.Clone(i.Manifest.Files), i.Manifest.Loaders...) {
		r, err := i.File(f.Path)
		if err != nil {
			return nil, err
		}
		_, from, size := r.Outer()
		inner, err := squashfs.Map(r)
		if err != nil || f.Path != release.RootPath { // packed in another way: it is one part
			list = append(list, named{extent{from, size}, f.Path})
			continue
		}
		for _, e := range inner {
			list = append(list, named{extent{from + e.Offset, e.Size}, f.Path + ": " + describe(e)})
		}
	}
	slices.SortStableFunc(list, func(a, b named) int { return cmp.Compare(a.from, b.from) })
	return list, nil
}

func describe(e squashfs.Extent) string {
	switch n := len(e.Files); {
	case n == 0:
		return e.Table
	case n == 1:
		return e.Files[0]
	default:
		return fmt.Sprintf("%d small files, %s to %s", n, e.Files[0], e.Files[n-1])
	}
}

// blame says of what the fetched bytes are; parts that lie in one place, such as
// files that are alike, count once.
func blame(ranges []extent, parts []named, size int64) []Part {
	rest := Part{Name: "the disc's folders and loaders", Size: size}
	sum := map[string]*Part{}
	for _, r := range ranges {
		rest.Fetch += r.size
	}
	end := int64(0)
	for _, p := range parts {
		from := max(p.from, end)
		to := p.from + p.size
		if from >= to {
			continue
		}
		end = to
		s := sum[p.name]
		if s == nil {
			s = &Part{Name: p.name}
			sum[p.name] = s
		}
		s.Size += to - from
		rest.Size -= to - from
		// The first range that reaches behind the part's beginning.
		n, _ := slices.BinarySearchFunc(ranges, from, func(r extent, at int64) int { return cmp.Compare(r.from+r.size, at+1) })
		for ; n < len(ranges) && ranges[n].from < to; n++ {
			got := min(to, ranges[n].from+ranges[n].size) - max(from, ranges[n].from)
			s.Fetch += got
			rest.Fetch -= got
		}
	}
	list := []Part{rest}
	for _, s := range sum {
		list = append(list, *s)
	}
	list = slices.DeleteFunc(list, func(p Part) bool { return p.Fetch == 0 })
	slices.SortFunc(list, func(a, b Part) int {
		return cmp.Or(cmp.Compare(b.Fetch, a.Fetch), cmp.Compare(a.Name, b.Name))
	})
	return list
}
