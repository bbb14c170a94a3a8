package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// markText stands where the last MiB of a device begins while a file system is
// made there; a device that has it and no file system was begun by us, and a
// power cut came in between. The superblock is what is written last.
var markText = append([]byte("Kedge makes a file system here. Found without one, this device counts as blank.\n"), make([]byte, 512)...)[:512]

// markAt is where the mark lies on a device of size bytes. It is not at the very
// end: mke2fs erases the mark of a Linux RAID there.
func markAt(size int64) int64 { return max(size-1<<20, 0) }

func marked(r io.ReaderAt, size int64) bool {
	b := make([]byte, len(markText))
	n, _ := r.ReadAt(b, markAt(size))
	return n == len(b) && bytes.Equal(b, markText)
}

// mark writes the mark and waits until it is on the disk.
func mark(device string) error { return put(device, markText) }

// unmark takes the mark away, if it is still there.
func unmark(device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || !marked(f, size) {
		return err
	}
	return put(device, make([]byte, len(markText)))
}

// put writes where the mark lies.
func put(device string, b []byte) error {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.WriteAt(b, markAt(size))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("mark %s: %w", device, err)
	}
	return nil
}
