package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// MarkSuffix is what the name of a file's mark ends in.
const MarkSuffix = ".from"

// A mark stands beside a kept part, and beside the whole file later, and says
// where its bytes are from.
type mark struct {
	URL  string `json:"url"`
	Tag  string `json:"tag"`  // the server's word for this very content: an ETag or a time of change
	Size int64  `json:"size"` // of the whole; -1 unknown
}

// readMark returns the mark of a file, a zero one when there is none that can be
// read: then the download starts again.
func readMark(path string) (m mark) {
	b, err := os.ReadFile(path + MarkSuffix)
	if err != nil || json.Unmarshal(b, &m) != nil {
		return mark{}
	}
	return m
}

func (m mark) write(path string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(path+MarkSuffix, append(b, '\n'), 0o644)
}

// Forget removes a file with its part and its mark, those that are there.
func Forget(path string) error {
	var all error
	for _, suffix := range []string{MarkSuffix, ".part", ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// Held is how many bytes of its file system a file holds with its part, those
// that are there: what a download to path need not ask for.
func Held(path string) int64 { return Allocated(path) + Allocated(path+".part") }

// torn is how much of the end of an earlier part is not believed, in bytes: a
// power cut may have left other things there.
const torn = 1 << 20

// resume takes up what an earlier File has left in path and its part.
func (t *transfer) resume(path string, part *os.File) error {
	m := readMark(path)
	if m.URL != t.url || m.Tag == "" {
		return t.restart(nil)
	}
	if info, err := os.Stat(path); err == nil && info.Size() == m.Size {
		t.whole = m
		return t.restart(nil)
	}
	size, err := part.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	if size -= torn; size <= 0 || m.Size >= 0 && size >= m.Size {
		return t.restart(nil)
	}
	if _, err := part.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	if t.done, err = io.CopyN(t.sum, part, size); err != nil {
		return t.restart(nil)
	}
	t.size, t.tag = m.Size, m.Tag
	return nil
}
