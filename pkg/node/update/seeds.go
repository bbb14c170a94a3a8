package update

import (
	"io"
	"os"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/slot"
)

// Seeds opens what may hold parts of a new image: both slots, the running one
// first, and more files if they are there. What stands behind the image in a slot
// is left out. Of a slot without an image, which a power cut has left or nothing
// was ever written to, no more than size bytes are read. What cannot be opened is
// no seed. The caller calls done.
func (s System) Seeds(r Running, size int64, more ...string) (seeds []io.Reader, done func()) {
	paths := []string{s.Medium}
	if d, err := s.partition(layout.SlotPartition(slot.Other(r.Slot))); err == nil {
		paths = append(paths, d.Path)
	}
	var files []*os.File
	for _, path := range append(paths, more...) {
		if f, err := os.Open(path); err == nil {
			files, seeds = append(files, f), append(seeds, seed(f, size))
		}
	}
	return seeds, func() {
		for _, f := range files {
			f.Close()
		}
	}
}

// seed limits a slot to the image in it.
func seed(f *os.File, size int64) io.Reader {
	if whole, err := f.Seek(0, io.SeekEnd); err == nil {
		if i, err := release.Open(f, whole); err == nil {
			size = i.Size
		}
	}
	return io.NewSectionReader(f, 0, size)
}
