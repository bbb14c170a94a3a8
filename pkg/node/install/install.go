// Package install puts the system on a disk: partitions, the image of the
// running medium in slot A, an empty state, and the boot loader.
//
// It decides which disk is meant, and makes the list of steps; a loop does
// them. What a firmware could start comes late: a disk whose installation was
// cut off starts nothing. Its very last write is the sector that makes an image
// of what lies in slot A. Without it in either slot, a disk with our partitions
// is one whose installation was cut off; it counts as blank, and the medium does
// it again. Sizes are bytes.
package install

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/table"
)

// Places on the new disk. The state is /var of the installed system.
const (
	stateConfig = "lib/kedge/config.d" // below the state's root
	configFile  = stateConfig + "/50-install.yaml"
	answersFile = stateConfig + "/60-answers.yaml"
	upgradeFile = "lib/kedge/upgrade.json"         // of package update
	failureFile = "lib/kedge/upgrade-failure.json" // of the agent: why the last upgrade was not taken
)

// Options say what is installed where.
type Options struct {
	Disk      Disk
	Image     *release.Image
	Config    []byte            // file for the installed system; nil for none
	Answers   []byte            // what a person answered, in the same form; wins over Config
	Kept      map[string][]byte // more files for the folder of configurations, by name
	Keep      bool              // the disk is ours: its partitions and its state stay
	Committed string            // with Keep: the slot that the disk starts, a or b; "" when that is not known
}

// A Machine is what steps may do. Progress, if not nil, hears of bytes.
type Machine interface {
	Verify(ctx context.Context, i *release.Image, progress func(int64)) error
	// Erase makes a disk blank for whoever looks at its start and its end.
	Erase(ctx context.Context, d Disk) error
	// Partition divides a disk and waits for the new devices; it makes the IDs.
	Partition(ctx context.Context, d Disk, parts []table.Partition) error
	// Copy writes an image to a device, and reads it back.
	Copy(ctx context.Context, i *release.Image, device string, progress func(int64)) error
	Format(ctx context.Context, kind, device, label string) error
	Mount(kind, device, dir string) error
	Unmount(dir string) error
	// Write makes a file with its folders, and waits until it is on the disk.
	Write(path string, data []byte) error
	// Record makes a boot record whose committed slot is slot.
	Record(dir, slot string) error
	// Patch writes bytes of a device and waits until they are there.
	Patch(device string, offset int64, data []byte) error
}

// A Step is one thing to do. Its String is what a log shows and tests compare.
// Bytes says how much it has to do, 0 when that is not worth a progress bar.
type Step interface {
	fmt.Stringer
	Bytes() int64
	Do(ctx context.Context, m Machine, progress func(int64)) error
}

// A Report hears how an installation goes on: once at the start of each step,
// with done 0, and then as its bytes are done.
type Report func(s Step, done int64)

// Run does the steps in order and stops at the first that fails.
func Run(ctx context.Context, m Machine, steps []Step, report Report) error {
	for _, s := range steps {
		done := int64(0)
		report(s, 0)
		err := s.Do(ctx, m, func(n int64) {
			done += n
			report(s, done)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// Need is the smallest disk for an image, in bytes.
func Need(arch string, image int64) int64 {
	parts, err := layout.Plan(arch, 1<<50, image)
	if err != nil {
		return 1 << 50
	}
	state := parts[len(parts)-1]
	return state.Start + layout.StateMin + layout.Align
}

// Steps returns what installs the system. The image is verified before the
// first write.
func Steps(o Options) ([]Step, error) {
	arch := o.Image.Manifest.Arch
	parts, err := partitions(o, arch)
	if err != nil {
		return nil, err
	}
	device := func(name string) string { return devicePath(o.Disk, parts, name) }
	boot, err := loaders(o.Image, arch)
	if err != nil {
		return nil, err
	}
	committed := layout.SlotA
	if o.Keep {
		committed = o.spare()
	}
	target := layout.SlotPartition(committed)
	rest, at, withheld, err := o.Image.Withhold()
	if err != nil {
		return nil, err
	}
	state := fill{"ext4", device(layout.StateName), stateFiles(o), ""}
	steps := []Step{verify{o.Image}}
	switch {
	case !o.Keep:
		steps = append(steps, erase{o.Disk}, partition{o.Disk, parts}, copyImage{rest, device(target)},
			format{"ext4", device(layout.StateName), layout.StateName}, state)
	default: // the state first: one that is damaged refuses it, and nothing was done
		steps = append(steps, state, copyImage{o.Image, device(target)})
	}
	steps = append(steps,
		format{"vfat", device(layout.ESPName), layout.ESPName},
		fill{"vfat", device(layout.ESPName), boot.files, committed},
	)
	if arch == "amd64" {
		bios := parts[0]
		core, mbr, err := boot.bios(bios.Start)
		if err != nil {
			return nil, err
		}
		if int64(len(core)) > bios.Size {
			return nil, fmt.Errorf("install boot loader: it has %d bytes, its partition %d", len(core), bios.Size)
		}
		steps = append(steps, patch{device(layout.BIOSName), 0, core, "boot loader"}, patch{o.Disk.Path, 0, mbr, "boot sector"})
	}
	if o.Keep {
		return steps, nil
	}
	return append(steps, patch{device(target), at, withheld, "volume descriptor"}), nil
}

// partitions returns those that the disk gets, or keeps.
func partitions(o Options, arch string) ([]table.Partition, error) {
	if !o.Keep {
		return layout.PlanFor(arch, o.Disk.Size, o.Image.Size, o.Disk.Sector)
	}
	found, err := layout.Find(o.Disk.Parts)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrForeign, o.Disk, err)
	}
	bios, has := found[layout.BIOSName]
	if arch == "amd64" && !has {
		return nil, fmt.Errorf("%w: %s has no partition %s: it was installed for another architecture", ErrForeign, o.Disk, layout.BIOSName)
	}
	if slot := found[layout.SlotAName]; slot.Size < o.Image.Size {
		return nil, fmt.Errorf("%w: the image has %d MiB, the slots of %s have %d; without install.no_format they are made larger",
			ErrTooSmall, o.Image.Size>>20, o.Disk, slot.Size>>20)
	}
	parts := []table.Partition{bios, found[layout.ESPName], found[layout.SlotAName], found[layout.SlotBName], found[layout.StateName]}
	if !has {
		parts = parts[1:]
	}
	return parts, nil
}

func stateFiles(o Options) []file {
	var files []file
	for name, data := range map[string][]byte{configFile: o.Config, answersFile: o.Answers} {
		if len(data) > 0 {
			files = append(files, file{name, data})
		}
	}
	for name, data := range o.Kept {
		if len(data) > 0 || o.Keep { // an empty one takes away an earlier one
			files = append(files, file{stateConfig + "/" + name, data})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	if o.Keep { // what an upgrade knew of the slots is true no more
		files = append(files, file{upgradeFile, []byte("{}\n")}, file{failureFile, []byte("{}\n")})
	}
	return files
}

// devicePath returns the device of a partition that is yet to be made. The
// kernel puts a "p" between a disk's name that ends in a digit and the number.
func devicePath(d Disk, parts []table.Partition, name string) string {
	path := d.Path
	if last := path[len(path)-1]; last >= '0' && last <= '9' {
		path += "p"
	}
	for _, p := range parts {
		if p.Name == name {
			return fmt.Sprintf("%s%d", path, p.Index)
		}
	}
	return ""
}
