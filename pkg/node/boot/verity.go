package boot

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/verity"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/devmapper"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
)

// rootDevice is the mapped device that the root is mounted from: reads of what
// is not as the manifest says fail with EIO.
const rootDevice = "kedge-root"

// errDamaged means that the kernel met a block that does not have its digest.
var errDamaged = errors.New("root file system is damaged")

// mountImage mounts the root of the image that is mounted on dir, which must be
// the release with this ID. Verified is false when that release has no hash
// tree. A reason why the kernel could not read the root wraps errDamaged.
func mountImage(dir, id string) (verified bool, err error) {
	path := filepath.Join(dir, release.ManifestPath)
	b, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	m, err := release.Decode(b)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if m.ID != id {
		return false, fmt.Errorf("read %s: it is of the release %s, not %s", path, m.ID, id)
	}
	var loops []string
	defer func() {
		for _, l := range loops {
			if err != nil {
				block.DetachLoop(l)
			}
		}
	}()
	attach := func(path string) (string, error) {
		device, err := block.AttachLoop(filepath.Join(dir, path))
		if err == nil {
			loops = append(loops, device)
		}
		return device, err
	}
	device, err := attach(release.RootPath)
	if err != nil {
		return false, err
	}
	if m.Verity == nil {
		return false, mnt("squashfs", device, newRoot, "ro").Do(Host{})
	}
	tree, err := attach(m.Verity.Path)
	if err != nil {
		return false, err
	}
	target, err := verityTarget(m, device, tree)
	if err != nil {
		return false, err
	}
	return true, mountVerified(target)
}

// verityTarget returns the target by which the kernel checks the root on one
// device with the tree on another.
func verityTarget(m release.Manifest, data, tree string) (devmapper.Target, error) {
	fail := func(format string, args ...any) (devmapper.Target, error) {
		return devmapper.Target{}, fmt.Errorf("check "+release.RootPath+": "+format, args...)
	}
	v := *m.Verity
	if v.DataBlockSize != verity.BlockSize || v.HashBlockSize != verity.BlockSize {
		return fail("blocks of %d and %d bytes; this kernel's initrd knows %d", v.DataBlockSize, v.HashBlockSize, verity.BlockSize)
	}
	var root [32]byte
	b, err := hex.DecodeString(v.RootHash)
	if err != nil || len(b) != len(root) {
		return fail("root hash %q is no SHA-256", v.RootHash)
	}
	copy(root[:], b)
	salt, err := hex.DecodeString(v.Salt)
	if err != nil || len(salt) > verity.MaxSalt {
		return fail("salt %q is none", v.Salt)
	}
	f, _ := m.File(release.RootPath)
	if f.Size <= 0 || f.Size%verity.BlockSize != 0 {
		return fail("%d bytes are not whole blocks of %d", f.Size, verity.BlockSize)
	}
	if t, _ := m.File(v.Path); t.Size != verity.TreeSize(f.Size) {
		return fail("a hash tree of %d bytes, %d bytes need one of %d", t.Size, f.Size, verity.TreeSize(f.Size))
	}
	return devmapper.Target{
		Sectors: f.Size / 512, Type: "verity",
		Params: verity.Table(data, tree, f.Size/verity.BlockSize, 0, root, salt),
	}, nil
}

// mountVerified mounts the root from a mapped device.
func mountVerified(t devmapper.Target) error {
	device, err := devmapper.Create(rootDevice, t)
	if err != nil {
		return err
	}
	if err := mnt("squashfs", device, newRoot, "ro").Do(Host{}); err != nil {
		blocks, damaged, e := rootDamage()
		if e == nil && damaged {
			err = fmt.Errorf("%w%s: %w", errDamaged, listBlocks(blocks), err)
		}
		return errors.Join(err, devmapper.Remove(rootDevice))
	}
	return nil
}

// rootDamage asks the kernel whether it met damage in the root since the start,
// and where. The log that says where forgets; then there are no blocks.
func rootDamage() (blocks []verity.Block, damaged bool, err error) {
	status, err := devmapper.Status(rootDevice)
	if err != nil || !verity.Corrupted(status) {
		return nil, false, err
	}
	params, err := devmapper.Params(rootDevice)
	if err != nil {
		return nil, true, nil
	}
	log, err := kernel.Log()
	if err != nil {
		return nil, true, nil
	}
	return verity.BadBlocks(log, verity.DataDevice(params)), true, nil
}

// listBlocks names bad blocks behind a sentence, three of them at most.
func listBlocks(blocks []verity.Block) string {
	const most = 3
	if len(blocks) == 0 {
		return ""
	}
	var names []string
	for _, b := range blocks[:min(most, len(blocks))] {
		names = append(names, b.String())
	}
	if n := len(blocks) - most; n > 0 {
		names = append(names, fmt.Sprintf("%d more", n))
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// damageText says which root is damaged, and where.
func damageText(r Record, blocks []verity.Block) string {
	return fmt.Sprintf("root file system of %s is damaged%s", place(r), listBlocks(blocks))
}

func place(r Record) string {
	if r.Slot != "" {
		return "slot " + r.Slot
	}
	return "the medium " + r.Medium
}

// Mend says what to do about a damaged root, "" when it is not.
func (r Record) Mend() string {
	switch {
	case r.Damage == "":
		return ""
	case r.Slot == "":
		return "write the medium anew, or take another"
	}
	return fmt.Sprintf("\"kedge upgrade apply IMAGE\" writes slot %s, or install again", slot.Other(r.Slot))
}

// CheckRoot looks whether the kernel met damage in the root and, the first time,
// tells it. What was read before the damage is as it should be; what cannot be
// read is an I/O error to whoever asks.
func (s *System) CheckRoot() error {
	r := s.Journal.Record()
	if !r.Verity || r.Damage != "" {
		return nil
	}
	blocks, damaged, err := rootDamage()
	if err != nil || !damaged {
		return err
	}
	r.Damage = damageText(r, blocks)
	s.Journal.Update(func(now *Record) { now.Damage = r.Damage })
	logrus.Error(r.Damage)
	after := r.Mend()
	if r.Trial && !exists(TrialOver) {
		after = "it is on trial and will be given up"
	}
	return console.Write("kedge: " + r.Damage + "; " + after + "\n")
}
