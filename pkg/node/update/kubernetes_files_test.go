package update

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// kubeISO makes a small release of Kubernetes alone.
func kubeISO(t *testing.T, version string) *release.Image {
	t.Helper()
	folder, content := t.TempDir(), []byte("stands in for the squashfs of "+version)
	sum := sha256.Sum256(content)
	m := release.Manifest{
		Schema: release.SchemaOf(release.Kubernetes), Kind: release.Kubernetes, Name: "kedge-kubernetes", Version: version[1:], Arch: "amd64", Kubernetes: version,
		Files: []release.File{{Path: release.KubePath, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}},
	}
	m.ID = m.ComputeID()
	if err := os.MkdirAll(filepath.Join(folder, "kedge"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{release.ManifestPath: m.Encode(), release.KubePath: content} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "kube.img")
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "-o", file, folder).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	i, err := release.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// fakeMounts writes down what it is asked; what is mounted is in its table.
type fakeMounts struct {
	log   []string
	fail  string // beginning of a line
	table []mount.Mounted
}

func (m *fakeMounts) note(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	m.log = append(m.log, line)
	if m.fail != "" && strings.HasPrefix(line, m.fail) {
		return errors.New("input/output error")
	}
	return nil
}

func (m *fakeMounts) Attach(path string, offset, size int64) (string, error) {
	return "/dev/loop7", m.note("attach %s", filepath.Base(path))
}
func (m *fakeMounts) Release(device string) error { return m.note("release %s", device) }
func (m *fakeMounts) Mount(s mount.Spec) error {
	err := m.note("mount %s %s", s.Options, filepath.Base(s.Target))
	if err == nil {
		m.table = append(m.table, mount.Mounted{Target: s.Target})
	}
	return err
}
func (m *fakeMounts) Detach(target string) error {
	i := len(m.table) - 1
	for ; i >= 0 && m.table[i].Target != target; i-- {
	}
	if i < 0 {
		return fmt.Errorf("umount %s: invalid argument", target)
	}
	m.table = slices.Delete(m.table, i, i+1)
	return m.note("umount %s", filepath.Base(target))
}
func (m *fakeMounts) Table() ([]mount.Mounted, error) { return slices.Clone(m.table), nil }

// TestKubeFiles keeps two images, and puts one after the other in the place of
// the system's own.
func TestKubeFiles(t *testing.T) {
	one, two, three := kubeISO(t, "v1.36.4"), kubeISO(t, "v1.37.0"), kubeISO(t, "v1.37.1")
	m := &fakeMounts{table: []mount.Mounted{{Target: "/"}, {Target: "/var"}}}
	f := KubeFiles{Dir: filepath.Join(t.TempDir(), "kubernetes"), Seen: filepath.Join(t.TempDir(), "seen"), Mounts: m}
	put := func(i *release.Image, keep ...string) {
		t.Helper()
		if err := f.Put(t.Context(), i, keep...); err != nil {
			t.Fatal(err)
		}
		if err := f.Check(i.Manifest.ID); err != nil {
			t.Fatal(err)
		}
	}
	put(one)
	put(two, "", one.Manifest.ID)
	if err := os.WriteFile(filepath.Join(f.Dir, ".cut-off.img.123"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	put(three, two.Manifest.ID)
	entries, err := os.ReadDir(f.Dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("kept are %v, %v", entries, err)
	}
	if err := f.Check(one.Manifest.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Check of what is gone = %v", err)
	}
	if got := f.Newest(); got != "v1.37.1" {
		t.Errorf("the newest is %s", got)
	}

	for _, place := range release.KubePlaces[:3] { // as if the image had these only
		if err := os.MkdirAll(filepath.Dir(f.Seen+place), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Seen+place, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	use := func(id, want string) {
		t.Helper()
		m.log = nil
		if err := f.Use(id); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(m.log, ", "); got != want || f.Used() != id {
			t.Errorf("Use(%q) did %s, want %s; used is %q", id, got, want, f.Used())
		}
	}
	const up, down = "mount ro,nosuid,nodev seen, release /dev/loop7, mount bind kube, mount bind runc, mount bind containerd-shim-runc-v2", "umount containerd-shim-runc-v2, umount runc, umount kube, umount seen"
	use("", "")
	use(two.Manifest.ID, "attach "+two.Manifest.ID+".img, "+up)
	use(two.Manifest.ID, "")
	use(three.Manifest.ID, down+", attach "+three.Manifest.ID+".img, "+up)
	use("", down)

	// Half of it is never used: the system's own comes back whole.
	m.fail = "mount bind runc"
	if err := f.Use(two.Manifest.ID); err == nil || f.Used() != "" || len(m.table) != 2 {
		t.Errorf("Use = %v, used is %q, mounted is %v", err, f.Used(), m.table)
	}

	// One byte of the disk goes bad.
	path := filepath.Join(f.Dir, two.Manifest.ID+".img")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("stands in for"))
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Check(two.Manifest.ID); !errors.Is(err, release.ErrDamaged) {
		t.Errorf("Check of a damaged one = %v", err)
	}
	if err := os.Rename(filepath.Join(f.Dir, three.Manifest.ID+".img"), path); err != nil {
		t.Fatal(err)
	}
	if err := f.Check(two.Manifest.ID); !errors.Is(err, release.ErrDamaged) {
		t.Errorf("Check of another release under its name = %v", err)
	}
}

// TestPutMoves: an image that was fetched is moved into its place, so that its room
// is not needed twice. Another than the one that is meant stays where it is.
func TestPutMoves(t *testing.T) {
	image := kubeISO(t, "v1.37.0")
	whole, err := io.ReadAll(image.Reader())
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[bytes.Index(damaged, []byte("stands in for"))] ^= 1
	other, err := io.ReadAll(kubeISO(t, "v1.37.1").Reader())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"the image", whole, nil},
		{"a damaged one", damaged, release.ErrDamaged},
		{"another one", other, release.ErrDamaged},
	} {
		dir := t.TempDir()
		f := KubeFiles{Dir: filepath.Join(dir, "kubernetes"), Moves: filepath.Join(dir, "kubernetes.img")}
		if err := os.WriteFile(f.Moves, c.bytes, 0o644); err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(f.Moves)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Put(t.Context(), image); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: Put = %v, want %v", c.name, err, c.want)
		}
		place := f.path(image.Manifest.ID)
		if c.want != nil {
			place = f.Moves
		}
		after, err := os.Stat(place)
		if err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: it is not at %s: %v", c.name, place, err)
		}
		entries, err := os.ReadDir(f.Dir)
		if err != nil || (len(entries) == 1) != (c.want == nil) {
			t.Errorf("%s: kept are %v, %v", c.name, entries, err)
		}
	}
}

// TestSnapshots takes a database away and brings it back.
func TestSnapshots(t *testing.T) {
	dir, now := t.TempDir(), noon
	s := Snapshots{Folder: filepath.Join(t.TempDir(), "snapshots"), Database: filepath.Join(dir, "state.db"), Now: func() time.Time { now = now.Add(time.Minute); return now }}
	write := func(files map[string]string) {
		t.Helper()
		for _, name := range []string{"state.db", "state.db-wal", "state.db-shm"} {
			path := filepath.Join(dir, name)
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if text, ok := files[name]; ok {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	holds := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Name()+"="+string(b))
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("the folder holds %v, want %v", got, want)
		}
	}
	if _, err := s.Save(t.Context(), own, "v1.37.0"); !errors.Is(err, ErrNoDatastore) {
		t.Errorf("Save of nothing = %v", err)
	}
	if _, err := (Snapshots{Why: "it is an etcd"}).Save(t.Context(), own, "v1.37.0"); !errors.Is(err, ErrNoDatastore) || !strings.Contains(err.Error(), "etcd") {
		t.Errorf("Save elsewhere = %v", err)
	}
	write(map[string]string{"state.db": "old", "state.db-wal": "old log", "state.db-shm": "index"})
	first, err := s.Save(t.Context(), own, "v1.37.0")
	if err != nil || first != "20261121T120100Z-v1.36.3-v1.37.0" || s.Size() != 10 {
		t.Fatalf("Save = %s, %v; the database has %d bytes", first, err, s.Size())
	}
	for range 2 { // once more does no harm
		write(map[string]string{"state.db": "new", "state.db-wal": "new log", "state.db-shm": "index of new"})
		if err := s.Load(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		holds("state.db=old", "state.db-wal=old log")
	}
	// The power went after the new one was taken away.
	write(nil)
	if err := s.Load(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	holds("state.db=old", "state.db-wal=old log")

	write(map[string]string{"state.db": "without a log"})
	second, err := s.Save(t.Context(), "v1.37.0", "v1.38.0")
	if err != nil {
		t.Fatal(err)
	}
	write(map[string]string{"state.db": "new", "state.db-wal": "must not be read with the old one"})
	if err := s.Load(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	holds("state.db=without a log")

	// A damaged one touches nothing.
	write(map[string]string{"state.db": "new"})
	if err := os.WriteFile(filepath.Join(s.Folder, first, "state.db-wal"), []byte("old lag"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), first); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("Load of a damaged one = %v", err)
	}
	if b, err := os.ReadFile(s.Database); err != nil || string(b) != "new" {
		t.Errorf("the database is %q, %v", b, err)
	}

	// One that was cut off is none; the oldest go.
	if err := os.Mkdir(filepath.Join(s.Folder, "cut-off"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := s.Save(t.Context(), "v1.37.0", "v1.38.0"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Prune(first); err != nil {
		t.Fatal(err)
	}
	all, err := s.List()
	if err != nil || len(all) != 4 || all[0].Name != first || all[0].From != own || !all[1].Time.After(all[0].Time) {
		t.Errorf("kept are %+v, %v", all, err)
	}
	// A full disk leaves nothing half.
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Save(cancelled, own, "v1.37.0"); err == nil {
		t.Error("Save went on")
	}
	if now, err := s.List(); err != nil || len(now) != 4 {
		t.Errorf("kept are %+v, %v", now, err)
	}
}

func TestKubeDatabase(t *testing.T) {
	for _, c := range []struct {
		name      string
		args      []string
		etcd      string
		file, why string
	}{
		{"a server", []string{"server", "--node-name", "a"}, "", "/var/lib/rancher/k3s/server/db/state.db", ""},
		{"a worker", []string{"agent", "--server", "https://a:6443"}, "", "", "no server"},
		{"elsewhere", []string{"server", "--data-dir", "/srv/k"}, "", "/srv/k/server/db/state.db", ""},
		{"elsewhere, in one word", []string{"server", "--data-dir=/srv/k"}, "", "/srv/k/server/db/state.db", ""},
		{"a database of others", []string{"server", "--datastore-endpoint=postgres://x"}, "", "", "not on this machine"},
		{"one of several", []string{"server", "--cluster-init"}, "", "", "not the only server"},
		{"a further one", []string{"server", "--server=https://a:6443"}, "", "", "not the only server"},
		{"an etcd", []string{"server"}, "/var/lib/rancher/k3s/server/db/etcd", "", "etcd"},
	} {
		file, why := KubeDatabase(c.args, func(path string) bool { return path == c.etcd })
		if file != c.file || (c.why == "") != (why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %q, %q; want %q, %q", c.name, file, why, c.file, c.why)
		}
	}
}
