package supervise

import (
	"os"
	"sync"
)

// ringBytes is the size of each of the two files of a ring log.
const ringBytes = 1 << 20

// A Ring is a log of bounded size: it writes to path, and when that is full
// the file becomes path.1 and a new one begins. What cannot be written is
// dropped: a full disk must not stop a service.
type Ring struct {
	mu   sync.Mutex
	path string
	file *os.File
	size int64
	max  int64
	done bool
}

// OpenRing goes on with the log at path.
func OpenRing(path string) *Ring { return &Ring{path: path, max: ringBytes} }

// Write adds to the log; it never fails.
func (r *Ring) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != nil && r.size+int64(len(b)) > r.max {
		r.file.Close()
		r.file = nil
		os.Rename(r.path, r.path+".1")
	}
	if r.file == nil && !r.done {
		r.open()
	}
	if r.file != nil {
		n, _ := r.file.Write(b)
		r.size += int64(n)
	}
	return len(b), nil
}

func (r *Ring) open() {
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return
	}
	if info, err := f.Stat(); err == nil {
		r.size = info.Size()
	}
	r.file = f
}

// Close ends the log: what is written later is dropped, so that the file system
// below can be detached.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = true
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}
