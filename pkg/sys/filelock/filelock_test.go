package filelock_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/kedgeos/kedge/pkg/sys/filelock"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := filelock.Wait(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := filelock.Try(path); !errors.Is(err, filelock.ErrLocked) {
		t.Errorf("Try of a held lock = %v", err)
	}
	got := make(chan error)
	go func() {
		second, err := filelock.Wait(path)
		second.Unlock()
		got <- err
	}()
	first.Unlock()
	if err := <-got; err != nil {
		t.Errorf("Wait after Unlock = %v", err)
	}
	if _, err := filelock.Try(filepath.Join(path, "below", "a file")); err == nil {
		t.Error("a lock whose folder is missing was taken")
	}
	var none *filelock.Lock
	none.Unlock()
}
