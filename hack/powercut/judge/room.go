package judge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/hack/powercut/record"
	"github.com/kedgeos/kedge/hack/powercut/replay"
	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/update"
)

// A Room is where one disk is looked at: a folder with the files that foreign
// judges want. One goroutine uses it.
type Room struct {
	judge        *Judge
	disk         *replay.Disk
	size         int64 // bytes that the disk has at the cut
	dir          string
	state0, esp0 *replay.Mirror // nil until they are wanted
}

// Room makes the room for a disk in a new folder below work.
func (j *Judge) Room(d *replay.Disk, work string) (*Room, error) {
	dir, err := os.MkdirTemp(work, "powercut-")
	if err != nil {
		return nil, err
	}
	return &Room{judge: j, disk: d, dir: dir}, nil
}

// Close removes the room.
func (c *Room) Close() error {
	for _, m := range []*replay.Mirror{c.state0, c.esp0} {
		if m != nil {
			m.Close()
		}
	}
	return os.RemoveAll(c.dir)
}

func (c *Room) path(name string) string { return filepath.Join(c.dir, name) }

// path has the folders of system programs too.
func path() string { return os.Getenv("PATH") + ":/usr/sbin:/sbin" }

// materialise writes a partition of the image to a file, by way of a mirror.
func (c *Room) materialise(ctx context.Context, i *replay.Image, p table.Partition, m **replay.Mirror) (file string, err error) {
	if *m == nil {
		if *m, err = c.disk.Mirror(c.path(p.Name+".mirror"), p.Start, p.Size); err != nil {
			return "", err
		}
	}
	file = c.path(p.Name)
	if out, status, err := run(ctx, "", "cp", "--reflink=auto", "--sparse=always", (*m).Path(), file); err != nil || status != 0 {
		return "", fmt.Errorf("copy %s: %s (%v)", p.Name, out, err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	return file, errors.Join(i.Patch(f, *m), f.Close())
}

// anESP is what an EFI system partition holds.
type anESP struct {
	problem      string
	blocks       [3][]byte // of the boot record, nil for none
	loader, grub string    // digests, "" for no file
}

func (c *Room) esp(ctx context.Context, i *replay.Image, p table.Partition) (e anESP, err error) {
	key := sumOf(i, p)
	if v, ok := c.judge.esps.look(key); ok {
		return v.(anESP), nil
	}
	file, err := c.materialise(ctx, i, p, &c.esp0)
	if err != nil {
		return e, err
	}
	if e.problem, err = fatProblem(ctx, file); err != nil {
		return e, err
	}
	_, onDisk := release.EFILoader("amd64")
	texts := map[string][]byte{}
	for _, name := range []string{slot.Good1File, slot.Good2File, slot.TrialFile, "grub.cfg", onDisk} {
		path := "/" + name
		if name != onDisk {
			path = "/" + slot.Folder + "/" + name
		}
		if texts[name], err = grubRead(ctx, file, ")"+path); err != nil {
			return e, err
		}
	}
	for n, name := range []string{slot.Good1File, slot.Good2File, slot.TrialFile} {
		e.blocks[n] = texts[name]
	}
	e.loader, e.grub = digest(texts[onDisk]), digest(texts["grub.cfg"])
	c.judge.esps.keep(key, e)
	return e, nil
}

// digest is "" for no file.
func digest(b []byte) string {
	if b == nil {
		return ""
	}
	return record.Digest(b)
}

// harmless is what fsck.fat may say about a file system in use: it was not
// unmounted, which byte 65 of the boot sector alone says and the backup does not
// (of FAT32), and the hint how much is free was not brought up to date.
var harmless = []string{
	"There are differences between boot sector and its backup.", "This is mostly harmless. Differences: (offset:original/backup)", "Not automatically fixing this.",
	"fsck.fat ", "Dirty bit is set.", "Automatically removing dirty bit.", "Free cluster summary wrong", "Auto-correcting.",
	"Leaving filesystem unchanged.", "*** Filesystem was changed ***", "The changes have not yet been written",
}

// fatProblem lets fsck.fat look; "" is sound.
func fatProblem(ctx context.Context, file string) (string, error) {
	out, status, err := run(ctx, "", "fsck.fat", "-n", file)
	if err != nil || status == 0 {
		return "", err
	}
	var problems []string
	for _, line := range strings.Split(string(out), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line == "65:01/00" || strings.Contains(line, " files, ") && strings.HasPrefix(line, file) ||
			slices.ContainsFunc(harmless, func(h string) bool { return strings.HasPrefix(line, h) }) {
			continue
		}
		problems = append(problems, line)
	}
	if len(problems) > 6 {
		problems = append(problems[:6], "…")
	}
	return strings.Join(problems, ", "), nil
}

// grubRead reads a file with GRUB's own code; nil is no such file. The path
// begins with the end of the device's name.
func grubRead(ctx context.Context, image, path string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "grub-fstest", image, "cat", "(loop0"+path)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("grub-fstest: %w", err)
	}
	return out, nil
}

// tornSuperblock is what e2fsck says of a superblock of which one of the two
// sectors is older than the other. Nobody takes the backup without being asked,
// so that it needs -y; all is there then. On disks that write 4 KiB at once it
// does not happen.
const tornSuperblock = "Superblock checksum does not match superblock"

// grubFinds lets GRUB read its configuration by way of the partition table.
func (c *Room) grubFinds(ctx context.Context, i *replay.Image, esp table.Partition) ([]byte, error) {
	f, err := os.Create(c.path("disk"))
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(c.size); err != nil {
		return nil, err
	}
	for _, part := range []table.Partition{{Size: 1 << 20}, esp, {Start: c.size - 1<<20, Size: 1 << 20}} {
		if err := i.CopyTo(f, part.Start, part.Size); err != nil {
			return nil, err
		}
	}
	return grubRead(ctx, f.Name(), fmt.Sprintf(",gpt%d)/%s/grub.cfg", layout.ESPNumber, slot.Folder))
}

// aState is what the state's file system holds after its recovery.
type aState struct {
	forced   bool // the recovery took a copy of the superblock
	problems []string
	upgrade  update.State
	files    map[string]string // digests
	rows     map[string]bool
	empty    []string // kinds of files
}

// Places on the state's file system, which is /var of the system.
const (
	upgradeFile = "lib/kedge/upgrade.json"
	datastore   = "lib/rancher/k3s/server/db/state.db"
)

func (c *Room) state(ctx context.Context, i *replay.Image, p table.Partition) (s aState, err error) {
	key := sumOf(i, p)
	if v, ok := c.judge.states.look(key); ok {
		return v.(aState), nil
	}
	file, forced, problem, err := c.recover(ctx, i, p)
	if err != nil {
		return s, err
	}
	s.forced = forced
	if problem != "" {
		s.problems = append(s.problems, problem)
	} else if err := c.read(ctx, file, &s); err != nil {
		return s, err
	} else if s.empty, err = c.empty(ctx, file); err != nil {
		return s, err
	}
	c.judge.states.keep(key, s)
	return s, nil
}

// State writes the file system of the image's state to a file, recovered as a
// boot does it. The file is good until the room looks at another image.
func (c *Room) State(ctx context.Context, i *replay.Image) (file string, err error) {
	file, _, problem, err := c.recover(ctx, i, c.judge.reference.parts[layout.StateName])
	if err == nil && problem != "" {
		err = errors.New(problem)
	}
	return file, err
}

// recover writes the state's file system to a file, and recovers it as a boot
// does. Forced says that it took a copy of the superblock.
func (c *Room) recover(ctx context.Context, i *replay.Image, p table.Partition) (file string, forced bool, problem string, err error) {
	if file, err = c.materialise(ctx, i, p, &c.state0); err != nil {
		return "", false, "", err
	}
	// What mount does is to replay the journal; fsck does that too, and then
	// looks at all. Status 1 is "corrected", all of which preen holds for safe.
	out, status, err := run(ctx, "", "e2fsck", "-f", "-p", file)
	if err == nil && status > 1 && strings.Contains(string(out), tornSuperblock) {
		forced = true
		out, status, err = run(ctx, "", "e2fsck", "-f", "-y", file)
	}
	if err == nil && status > 1 {
		problem = fmt.Sprintf("state: e2fsck ends with %d: %s", status, shorten(out))
	}
	return file, forced, problem, err
}

// shorten keeps the first lines of a tool's output.
func shorten(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) > 5 {
		lines = append(lines[:5], "…")
	}
	return strings.Join(lines, ", ")
}

// read takes files out of the file system and looks into them.
func (c *Room) read(ctx context.Context, image string, s *aState) error {
	files := append([]string{upgradeFile, datastore, datastore + "-wal"}, c.judge.files...)
	taken := map[string]string{} // where a file is put
	for n, name := range files {
		taken[name] = c.path(fmt.Sprintf("file-%d", n))
	}
	db := c.path("state.db")
	taken[datastore], taken[datastore+"-wal"] = db, db+"-wal"
	var script strings.Builder
	for _, name := range files {
		fmt.Fprintf(&script, "dump \"/%s\" %s\n", name, taken[name])
		if err := os.Remove(taken[name]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if out, status, err := run(ctx, script.String(), "debugfs", "-f", "-", image); err != nil || status != 0 {
		return fmt.Errorf("debugfs: %s (%v)", shorten(out), err)
	}
	contents := map[string][]byte{}
	for _, name := range files {
		b, err := os.ReadFile(taken[name])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			contents[name] = b
		}
	}
	s.files = map[string]string{}
	for _, name := range c.judge.files {
		s.files[name] = digest(contents[name])
	}
	if b, ok := contents[upgradeFile]; ok {
		if err := json.Unmarshal(b, &s.upgrade); err != nil {
			s.problems = append(s.problems, fmt.Sprintf("%s: %v", upgradeFile, err))
		}
	}
	if contents[datastore] == nil {
		return nil
	}
	return s.query(ctx, db)
}

// query lets sqlite3 look at the datastore.
func (s *aState) query(ctx context.Context, db string) error {
	os.Remove(db + "-shm")
	const question = `pragma integrity_check;
select case when (select count(*) from sqlite_master where name = 'kine') = 0 then 'empty' else 'kine' end;`
	out, status, err := run(ctx, question, "sqlite3", "-batch", db)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if status != 0 || len(lines) != 2 || lines[0] != "ok" {
		s.problems = append(s.problems, "datastore: "+shorten(out))
		return nil
	}
	if lines[1] == "empty" {
		return nil
	}
	const keys = `select k.name from kine k where k.name like '/registry/configmaps/%' and k.deleted = 0
and k.id = (select max(id) from kine where name = k.name);`
	out, status, err = run(ctx, keys, "sqlite3", "-batch", db)
	if err != nil {
		return err
	}
	if status != 0 {
		s.problems = append(s.problems, "datastore: "+shorten(out))
	}
	s.rows = map[string]bool{}
	for _, name := range strings.Fields(string(out)) {
		s.rows[name] = true
	}
	return nil
}

// Distinct returns how many different slots, EFI system partitions and states
// were looked at.
func (j *Judge) Distinct() (slots, esps, states int) {
	return len(j.slots.by), len(j.esps.by), len(j.states.by)
}

// Parts returns the partitions of the recorded disk by name.
func (j *Judge) Parts() map[string]table.Partition { return j.reference.parts }
