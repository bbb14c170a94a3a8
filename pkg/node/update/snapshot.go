package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// A Snapshot is a copy of the datastore as one Kubernetes left it to another.
type Snapshot struct {
	Name  string         `json:"-"` // of its folder
	From  string         `json:"from"`
	To    string         `json:"to"`
	Time  time.Time      `json:"time"`
	Files []SnapshotFile `json:"files"`
}

// A SnapshotFile is one file of a snapshot, with its size in bytes.
type SnapshotFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Snapshots are the copies of the datastore that are kept, and the datastore: a
// SQLite database that nobody has open. Its index of the write-ahead log is not
// part of it: SQLite makes that anew.
//
// Source: "Write-Ahead Logging", sections 2 and 4, sqlite.org/wal.html.
type Snapshots struct {
	Folder   string
	Database string           // file; "" when this machine has none of its own
	Why      string           // why there is none
	Now      func() time.Time // nil means time.Now
}

// keptSnapshots is how many snapshots are kept.
const keptSnapshots = 3

// snapshotList is the file of a snapshot that says what it is; one without it
// never became whole.
const snapshotList = "snapshot.json"

// parts are the files of the database; logs may be missing.
func (s Snapshots) parts() []string { return []string{s.Database, s.Database + "-wal"} }

// Size returns how large the database is, 0 without one.
func (s Snapshots) Size() (n int64) {
	for _, part := range s.parts() {
		if info, err := os.Stat(part); err == nil {
			n += info.Size()
		}
	}
	return n
}

// List returns the snapshots, oldest first. What is not whole is none.
func (s Snapshots) List() ([]Snapshot, error) {
	entries, err := os.ReadDir(s.Folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Snapshot
	for _, e := range entries {
		if one, err := s.read(e.Name()); err == nil {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b Snapshot) int { return a.Time.Compare(b.Time) })
	return all, nil
}

func (s Snapshots) read(name string) (Snapshot, error) {
	one := Snapshot{Name: name}
	b, err := os.ReadFile(filepath.Join(s.Folder, name, snapshotList))
	if err != nil {
		return one, err
	}
	if err := json.Unmarshal(b, &one); err != nil {
		return one, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	return one, nil
}

// Save implements KubeMachine.
func (s Snapshots) Save(ctx context.Context, from, to string) (string, error) {
	if s.Database == "" {
		return "", fmt.Errorf("%w: %s", ErrNoDatastore, s.Why)
	}
	if _, err := os.Stat(s.Database); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: there is no %s", ErrNoDatastore, s.Database)
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	one := Snapshot{From: from, To: to, Time: now().UTC()}
	one.Name = fmt.Sprintf("%s-%s-%s", one.Time.Format("20060102T150405Z"), from, to)
	dir := filepath.Join(s.Folder, one.Name)
	if err := s.fill(ctx, dir, &one); err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", dir, err), os.RemoveAll(dir))
	}
	return one.Name, nil
}

// fill writes a snapshot into its folder; its list comes last.
func (s Snapshots) fill(ctx context.Context, dir string, one *Snapshot) error {
	if err := os.RemoveAll(dir); err != nil { // of a try that the power cut off
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, part := range s.parts() {
		size, sum, err := copyFile(ctx, part, filepath.Join(dir, filepath.Base(part)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		one.Files = append(one.Files, SnapshotFile{filepath.Base(part), size, sum})
	}
	text, err := json.MarshalIndent(one, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(filepath.Join(dir, snapshotList), append(text, '\n'), 0o600); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.Folder)
}

// Prune leaves the newest snapshots, and those of these names.
func (s Snapshots) Prune(keep ...string) error {
	all, err := s.List()
	if err != nil {
		return err
	}
	for i, one := range all {
		if i < len(all)-keptSnapshots && !slices.Contains(keep, one.Name) {
			if err := os.RemoveAll(filepath.Join(s.Folder, one.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Load implements KubeMachine. The snapshot is copied and checked before the
// database is touched; the snapshot stays.
func (s Snapshots) Load(ctx context.Context, name string) error {
	one, err := s.read(name)
	if err != nil {
		return err
	}
	if s.Database == "" {
		return fmt.Errorf("there is no place for it: %s", s.Why)
	}
	const fresh = ".restore"
	for _, f := range one.Files {
		from, to := filepath.Join(s.Folder, name, f.Name), filepath.Join(filepath.Dir(s.Database), f.Name+fresh)
		size, sum, err := copyFile(ctx, from, to)
		if err == nil && (size != f.Size || sum != f.SHA256) {
			err = fmt.Errorf("%s is damaged: its SHA-256 is %s, not %s", from, sum, f.SHA256)
		}
		if err != nil {
			os.Remove(to)
			return err
		}
	}
	// What the newer one wrote goes first: a log must never meet a database that
	// it is not of.
	for _, old := range []string{s.Database + "-shm", s.Database + "-wal", s.Database} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, f := range one.Files {
		to := filepath.Join(filepath.Dir(s.Database), f.Name)
		if err := os.Rename(to+fresh, to); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(filepath.Dir(s.Database))
}

// copyFile copies a file to the disk, for root only, and returns its size in
// bytes and its SHA-256.
func copyFile(ctx context.Context, from, to string) (int64, string, error) {
	r, err := os.Open(from)
	if err != nil {
		return 0, "", err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, "", err
	}
	h := sha256.New()
	err = copyAll(ctx, io.MultiWriter(w, h), r)
	if err == nil {
		err = w.Sync()
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return 0, "", err
	}
	info, err := os.Stat(to)
	if err != nil {
		return 0, "", err
	}
	return info.Size(), hex.EncodeToString(h.Sum(nil)), nil
}

// KubeDatabase says which SQLite database a server of these arguments keeps
// itself, and alone; else why there is none that a snapshot would do for. Exists
// tells whether a file is there.
func KubeDatabase(args []string, exists func(path string) bool) (file, why string) {
	if len(args) == 0 || args[0] != "server" {
		return "", "this node is no server"
	}
	dir := "/var/lib/rancher/k3s"
	for i, a := range args {
		flag, value, whole := strings.Cut(a, "=")
		if !whole && i+1 < len(args) {
			value = args[i+1]
		}
		switch flag {
		case "--data-dir", "-d":
			dir = value
		case "--datastore-endpoint":
			return "", "the datastore is not on this machine (--datastore-endpoint)"
		case "--cluster-init", "--server", "-s":
			return "", "this is not the only server (" + flag + ")"
		}
	}
	if etcd := filepath.Join(dir, "server/db/etcd"); exists(etcd) {
		return "", "the datastore is an etcd (" + etcd + ")"
	}
	return filepath.Join(dir, "server/db/state.db"), ""
}
