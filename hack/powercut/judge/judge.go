// Package judge says what is wrong with a disk that a power cut has left.
//
// A machine is bricked when nothing that its boot loader would start is whole,
// and installing again is refused. Something is lost when the state cannot be
// recovered as a boot does it, or when it lacks what was promised before the
// power went away. Foreign judges look at what they know: GRUB's own code reads
// the EFI system partition, fsck.fat and e2fsck check file systems, sqlite3 the
// datastore.
package judge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kedgeos/kedge/hack/powercut/record"
	"github.com/kedgeos/kedge/hack/powercut/replay"
	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/update"
)

const sector = replay.Sector

// bootCode is the size in bytes of what a BIOS starts.
const bootCode = 440

// A Verdict says what is wrong; nothing is well.
type Verdict struct {
	Bricked, Lost []string
	Complete      bool     // the disk starts by itself
	Forced        bool     // its state was recovered, but by e2fsck -y
	Empty         []string // kinds of files of the state that are empty, and are not in the end
}

// A Judge judges images of one recording. What was looked at once is not looked
// at again: images differ in little. Its methods may be called from any
// goroutine.
type Judge struct {
	rec       *record.Recording
	reference *reference
	end       contents
	files     []string // whose contents marks name

	slots, esps, states, tables cache
}

// reference is what an installation has left when all went well.
type reference struct {
	parts    map[string]table.Partition
	code     []byte // in the boot sector
	bios     uint64 // sum of the BIOS boot partition
	loader   string // digest
	grub     string // digest
	imageLen int64  // bytes of the image that was installed
	table    uint64 // sum of the first copy of the partition table
	gpt      bool   // the kernel is told to take either
}

// New returns the judge of a recording. It wants that the disk at the mark
// Installed is sound, since all others are held against it.
func New(ctx context.Context, rec *record.Recording, l *replay.Log, work string) (*Judge, error) {
	j := &Judge{rec: rec}
	at := -1
	for _, m := range rec.Marks {
		if m.What == record.Installed && at < 0 {
			at = m.Event
		}
		if m.What == record.File && !slices.Contains(j.files, m.Name) {
			j.files = append(j.files, m.Name)
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("recording %s: it is never installed", rec.Name)
	}
	d, closeDisk, err := rec.Disk(l)
	if err != nil {
		return nil, err
	}
	defer closeDisk()
	if err := d.Advance(at); err != nil {
		return nil, err
	}
	c, err := j.Room(d, work)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.size = rec.SizeAt(at)
	if j.reference, err = c.learn(ctx, d.Image()); err != nil {
		return nil, fmt.Errorf("recording %s: the installed disk: %w", rec.Name, err)
	}
	v, err := c.Look(ctx, d.Image(), at)
	if err == nil && len(v.Bricked)+len(v.Lost) > 0 {
		err = fmt.Errorf("%s", strings.Join(append(v.Bricked, v.Lost...), "; "))
	}
	if err != nil {
		return nil, fmt.Errorf("recording %s: the installed disk: %w", rec.Name, err)
	}
	if j.end, err = c.inventory(ctx, rec, l); err != nil {
		return nil, fmt.Errorf("recording %s: %w", rec.Name, err)
	}
	return j, nil
}

// learn takes the reference from an installed disk.
func (c *Room) learn(ctx context.Context, i *replay.Image) (*reference, error) {
	parts, err := c.partitions(i)
	if err != nil {
		return nil, err
	}
	r := &reference{parts: parts, code: make([]byte, bootCode)}
	if _, err := i.ReadAt(r.code, 0); err != nil {
		return nil, err
	}
	bios := parts[layout.BIOSName]
	r.bios = i.Sum(bios.Start, bios.Size)
	e, err := c.esp(ctx, i, parts[layout.ESPName])
	if err != nil {
		return nil, err
	}
	if e.problem != "" || e.loader == "" || e.grub == "" {
		return nil, fmt.Errorf("EFI system partition: %s, boot loader %q, configuration %q", e.problem, e.loader, e.grub)
	}
	r.loader, r.grub = e.loader, e.grub
	image, err := release.Open(section(i, parts[layout.SlotAName]), parts[layout.SlotAName].Size)
	if err != nil {
		return nil, err
	}
	r.imageLen = image.Size
	r.table = i.Sum(0, 1<<20)
	// The small images of a recording without a machine say nothing of it.
	r.gpt = true
	if f, err := image.File(release.SlotConfig); err == nil {
		text, err := io.ReadAll(f)
		if err != nil {
			return nil, err
		}
		r.gpt = bytes.Contains(text, []byte(" gpt "))
	}
	// The state may grow later.
	state := parts[layout.StateName]
	state.Size = i.Disk.Size - state.Start
	parts[layout.StateName] = state
	return r, nil
}

func (c *Room) partitions(i *replay.Image) (map[string]table.Partition, error) {
	parts, err := table.Read(i, c.size, sector)
	if err != nil {
		return nil, err
	}
	return layout.Find(parts)
}

// sees tells whether the kernel and GRUB find the partitions. Without the
// parameter gpt the kernel reads the first copy of the table only, if both its
// checksums are right; with it the one in the last sector too.
// Source: Linux 6.12, block/partitions/efi.c; UEFI Specification 2.10, table 5-5.
func (c *Room) sees(ctx context.Context, i *replay.Image) (problem string, err error) {
	ref, last := c.judge.reference, c.size/sector-1
	if !soundTable(i, 1) && !(ref.gpt && soundTable(i, last)) {
		return "the partition table is damaged, and Linux does not find its backup", nil
	}
	first := i.Sum(0, 1<<20)
	if first == ref.table {
		return "", nil
	}
	return c.judge.tables.get(first, func() any {
		text, fault := c.grubFinds(ctx, i, ref.parts[layout.ESPName])
		err = fault
		if digest(text) != ref.grub {
			return "GRUB does not find the EFI system partition in the partition table"
		}
		return ""
	}).(string), err
}

// soundTable tells whether the table whose header is in a sector is whole.
func soundTable(i *replay.Image, at int64) bool {
	header := make([]byte, 92)
	if _, err := i.ReadAt(header, at*sector); err != nil || string(header[:8]) != "EFI PART" {
		return false
	}
	le := binary.LittleEndian
	want, first, n, size, sum := le.Uint32(header[16:]), le.Uint64(header[72:]), le.Uint32(header[80:]), le.Uint32(header[84:]), le.Uint32(header[88:])
	clear(header[16:20])
	if crc32.ChecksumIEEE(header) != want || n > 1024 || size != 128 || first > 1<<32 {
		return false
	}
	entries := make([]byte, n*size)
	if _, err := i.ReadAt(entries, int64(first)*sector); err != nil {
		return false
	}
	return crc32.ChecksumIEEE(entries) == sum
}

func section(i *replay.Image, p table.Partition) *io.SectionReader {
	return io.NewSectionReader(i, p.Start, p.Size)
}

// Look judges the image of a cut before event number at.
func (c *Room) Look(ctx context.Context, i *replay.Image, at int) (Verdict, error) {
	c.size = c.judge.rec.SizeAt(at)
	marks := c.judge.rec.Promised(at)
	installed := slices.ContainsFunc(marks, func(m record.Mark) bool { return m.What == record.Installed })
	var v Verdict
	f, err := c.start(ctx, i)
	if err != nil {
		return v, err
	}
	v.Complete = len(f.problems) == 0
	again := slices.ContainsFunc(marks, func(m record.Mark) bool { return m.What == record.Again && len(m.Any) > 0 })
	switch {
	case v.Complete:
	case installed && !again:
		v.Bricked = f.problems
		return v, nil
	default:
		if err := c.again(i, again); err != nil {
			v.Bricked = []string{fmt.Sprintf("it does not start (%s), and installing again is refused: %v", strings.Join(f.problems, "; "), err)}
		}
		if !again { // there is no state yet
			return v, nil
		}
	}
	s, err := c.state(ctx, i, c.judge.reference.parts[layout.StateName])
	if err != nil {
		return v, err
	}
	v.Lost, v.Forced, v.Empty = s.problems, s.forced, s.empty
	if len(s.problems) == 0 {
		lost, err := c.promises(ctx, i, marks, f, s)
		if err != nil {
			return v, err
		}
		v.Lost = lost
	}
	return v, nil
}

// again asks the installer of a stick that installs by itself whether it would
// take the disk once more. Keep is for one that keeps the state of a disk.
func (c *Room) again(i *replay.Image, keep bool) error {
	holds, ours := install.Inspect(i, c.size, sector)
	parts, err := table.Read(i, c.size, sector)
	if err != nil {
		parts = nil // the installer finds none either
	}
	disk := install.Disk{Name: "vda", Path: "/dev/vda", Size: c.size, Transport: "virtio", Holds: holds, Ours: ours, Parts: parts}
	_, err = install.Choose([]install.Disk{disk}, config.Install{Silent: true, NoFormat: keep}, install.Need("amd64", c.judge.reference.imageLen))
	return err
}

// A finding is what the boot loader finds.
type finding struct {
	problems []string
	record   slot.Record
}

// start follows BIOS, UEFI and GRUB to the slots that they start.
func (c *Room) start(ctx context.Context, i *replay.Image) (f finding, err error) {
	ref := c.judge.reference
	problem := func(format string, args ...any) { f.problems = append(f.problems, fmt.Sprintf(format, args...)) }
	parts, err := c.partitions(i)
	if err != nil {
		problem("%v", err)
		return f, nil
	}
	unseen, err := c.sees(ctx, i)
	if err != nil {
		return f, err
	}
	if unseen != "" {
		problem("%s", unseen)
	}
	for name, p := range ref.parts {
		if parts[name].Start != p.Start || parts[name].Size != p.Size && name != layout.StateName {
			problem("%s is elsewhere", name)
		}
	}
	code := make([]byte, bootCode)
	if _, err := i.ReadAt(code, 0); err != nil {
		return f, err
	}
	if bios := parts[layout.BIOSName]; !bytes.Equal(code, ref.code) || i.Sum(bios.Start, bios.Size) != ref.bios {
		problem("the boot loader for BIOS is not whole")
	}
	if len(f.problems) > 0 {
		return f, nil
	}
	e, err := c.esp(ctx, i, parts[layout.ESPName])
	if err != nil {
		return f, err
	}
	switch {
	case e.problem != "":
		problem("EFI system partition: %s", e.problem)
		return f, nil
	case e.loader != ref.loader:
		problem("the boot loader for UEFI is not whole")
	case e.grub != ref.grub:
		problem("the boot loader's configuration is not whole")
	}
	f.record, _ = slot.Parse(e.blocks[0], e.blocks[1], e.blocks[2])
	for r, trial := f.record, true; trial; {
		var name string
		name, trial, r = slot.Next(r)
		p := parts[layout.SlotPartition(name)]
		if s := c.slot(ctx, i, p); s.problem != "" {
			problem("slot %s, which it starts (trial: %v), is not whole: %s", name, trial, s.problem)
		}
	}
	f.problems = slices.Compact(f.problems)
	return f, nil
}

// sumOf tells contents of partitions apart: the sum alone would take two that
// were never written to for one.
func sumOf(i *replay.Image, p table.Partition) uint64 {
	return i.Sum(p.Start, p.Size) ^ uint64(p.Index)<<56
}

// aSlot is what a slot holds.
type aSlot struct{ id, problem string }

func (c *Room) slot(ctx context.Context, i *replay.Image, p table.Partition) aSlot {
	return c.judge.slots.get(sumOf(i, p), func() any {
		image, err := release.Open(section(i, p), p.Size)
		if err == nil {
			err = image.Verify(ctx, nil)
		}
		if err != nil {
			return aSlot{problem: err.Error()}
		}
		return aSlot{id: image.Manifest.ID}
	}).(aSlot)
}

// promises returns which of the marks the image does not keep.
func (c *Room) promises(ctx context.Context, i *replay.Image, marks []record.Mark, f finding, s aState) (lost []string, err error) {
	miss := func(format string, args ...any) { lost = append(lost, fmt.Sprintf(format, args...)) }
	for _, m := range marks {
		switch m.What {
		case record.Slot:
			if m.ID == "" {
				continue
			}
			if got := c.slot(ctx, i, c.judge.reference.parts[layout.SlotPartition(m.Name)]); got.id != m.ID {
				miss("slot %s held %s, now %q %s", m.Name, m.ID, got.id, got.problem)
			}
		case record.Good:
			if len(f.problems) == 0 && !slices.Contains(m.Any, f.record.Good) {
				miss("slot %s is committed, not one of %q", f.record.Good, m.Any)
			}
		case record.Upgrade:
			if !slices.Contains(m.Any, string(s.upgrade.Phase)) {
				miss("the upgrade is %q, not one of %q", s.upgrade.Phase, m.Any)
			}
		case record.File:
			if !slices.Contains(m.Any, s.files[m.Name]) {
				miss("%s has the digest %q, not one of %q", m.Name, s.files[m.Name], m.Any)
			}
		case record.Row:
			if !s.rows[m.Name] {
				miss("the datastore lacks %s", m.Name)
			}
		}
	}
	if len(f.problems) > 0 { // there is no next start
		return lost, nil
	}
	// The next start draws its conclusions from the state and the record.
	name, trial, _ := slot.Next(f.record)
	next := s.upgrade.Booted(update.Running{Slot: name, Trial: trial, Good: f.record.Good, Unarmed: f.record.Trial == ""}, time.Now())
	if f.record.Trial == "" && s.upgrade.Phase == update.Armed && next.IsBad(s.upgrade.To.ID) != "" {
		miss("release %s is called bad, but was never started", s.upgrade.To)
	}
	return lost, nil
}

// A cache keeps findings by the sum of what was looked at.
type cache struct {
	mu sync.Mutex
	by map[uint64]any
}

func (c *cache) look(key uint64) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.by[key]
	return v, ok
}

func (c *cache) keep(key uint64, v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[uint64]any{}
	}
	c.by[key] = v
}

func (c *cache) get(key uint64, find func() any) any {
	if v, ok := c.look(key); ok {
		return v
	}
	v := find()
	c.keep(key, v)
	return v
}

// run runs a tool and returns what it says and its exit status.
func run(ctx context.Context, stdin string, name string, args ...string) (out []byte, status int, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(cmd.Environ(), "PATH="+path())
	out, err = cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return out, exit.ExitCode(), nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", name, err)
	}
	return out, 0, nil
}
