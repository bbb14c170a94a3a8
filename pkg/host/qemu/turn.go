package qemu

import (
	"os"
	"path/filepath"

	"github.com/kedgeos/kedge/pkg/sys/filelock"
)

// Turn waits until no other test uses a machine on this host: two at once break
// each other's timing.
func Turn() (*filelock.Lock, error) {
	return filelock.Wait(filepath.Join(os.TempDir(), "kedge-vm-stories.lock"))
}
