package record

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/bootenv"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/node/slot"
	"github.com/kedgeos/kedge/pkg/node/update"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// Native is the name of the recording that needs no virtual machine: the
// device's own code for installing and upgrading works on a loop device of this
// host, with small images, and ext4 is this kernel's. Below it QEMU's storage
// daemon writes the log.
//
// Not the device's own is what works on the EFI system partition: mtools fill
// it, since not every kernel has FAT, and the boot record's blocks are written
// straight to where their files lie. GRUB itself counts tries down (grub-emu).
const Native = "native"

// ErrNative means that this host cannot make the recording.
var ErrNative = errors.New("needs root, loop devices, FUSE and qemu-storage-daemon (Debian package qemu-system-common or qemu-utils)")

// MakeNative makes the recording Native in a folder.
func MakeNative(ctx context.Context, dir string, say func(string)) error {
	return makeNative(ctx, Native, dir, say, (*native).upgrades)
}

// makeNative records an installation and what follows with its state mounted.
func makeNative(ctx context.Context, name, dir string, say func(string), then func(n *native, state string) error) (err error) {
	if err := ready(); err != nil {
		return fmt.Errorf("%w: %w", ErrNative, err)
	}
	n := &native{ctx: ctx}
	if n.work, err = os.MkdirTemp("", "kedge-powercut-"); err != nil {
		return err
	}
	defer os.RemoveAll(n.work)
	if err := n.makeImages(); err != nil {
		return err
	}
	size := install.Need("amd64", n.images[0].Size) + grows
	part := dir + ".part"
	if n.r, err = newRecorder(part, Recording{Name: name, Size: size, Small: size - grows}, say); err != nil {
		return err
	}
	if err := createSparse(n.r.path(diskFile), size); err != nil {
		return err
	}
	stop, err := n.attach()
	if err != nil {
		return err
	}
	if err := errors.Join(n.play(then), stop(), os.Remove(n.r.path(diskFile))); err != nil {
		return err
	}
	return os.Rename(part, dir)
}

// grows is how much larger the disk becomes, in bytes.
const grows = 256 << 20

// ready says why this host cannot do it, or nil.
func ready() error {
	if os.Geteuid() != 0 {
		return errors.New("this is not root")
	}
	for _, path := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	for _, tool := range []string{"qemu-storage-daemon", "losetup", "addpart", "mcopy", "mmd", "mshowfat", "grub-emu", "xorriso"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	return nil
}

// native is a recording that is made.
type native struct {
	ctx    context.Context
	r      *recorder
	work   string // folder for files of no use later
	device string // the loop device
	esp    string // folder with a copy of what lies on the ESP
	images []*release.Image
	files  []*os.File
}

func command(ctx context.Context, stdin []byte, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(cmd.Environ(), "MTOOLS_SKIP_CHECK=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// makeImages makes three releases, of a few MiB.
func (n *native) makeImages() error {
	for version := range 3 {
		tree := filepath.Join(n.work, fmt.Sprint("tree", version))
		m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: fmt.Sprintf("0.%d.0", version+1), Arch: "amd64", Kernel: "6.12"}
		r := rand.New(rand.NewPCG(uint64(version), 0))
		random := func(size int) []byte {
			b := make([]byte, size)
			for i := 0; i+8 <= size; i += 8 {
				binary.LittleEndian.PutUint64(b[i:], r.Uint64())
			}
			return b
		}
		efi, _ := release.EFILoader("amd64")
		for _, f := range []struct {
			path   string
			data   []byte
			loader bool
		}{
			{release.KernelPath, random(300 << 10), false}, {release.InitrdPath, random(200 << 10), false}, {release.RootPath, random(3 << 20), false},
			{efi, random(150 << 10), true}, {release.CoreImagePath, random(60 << 10), true}, {release.BootImagePath, random(512), true},
		} {
			entry := release.File{Path: f.path, Size: int64(len(f.data)), SHA256: Digest(f.data)}
			if f.loader {
				m.Loaders = append(m.Loaders, entry)
			} else {
				m.Files = append(m.Files, entry)
			}
			if err := writeTree(tree, f.path, f.data); err != nil {
				return err
			}
		}
		m.ID = m.ComputeID()
		if err := writeTree(tree, release.ManifestPath, m.Encode()); err != nil {
			return err
		}
		path := filepath.Join(n.work, fmt.Sprint(version, ".iso"))
		if _, err := command(n.ctx, nil, "xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "-o", path, tree); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		n.files = append(n.files, f)
		info, err := f.Stat()
		if err != nil {
			return err
		}
		image, err := release.Open(f, info.Size())
		if err != nil {
			return err
		}
		n.images = append(n.images, image)
	}
	return nil
}

func writeTree(tree, name string, data []byte) error {
	path := filepath.Join(tree, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// attach makes the disk a block device whose writes are logged.
func (n *native) attach() (stop func() error, err error) {
	export := filepath.Join(n.work, "export")
	if err := os.WriteFile(export, nil, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("qemu-storage-daemon",
		"--blockdev", "driver=file,node-name=disk,filename="+n.r.path(diskFile), "--blockdev", "driver=file,node-name=log,filename="+n.r.path(logFile),
		"--blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512",
		"--export", "type=fuse,id=export,node-name=logged,writable=on,mountpoint="+export)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	quit := func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		return <-ended
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if info, err := os.Stat(export); err == nil && info.Size() == n.r.r.Size {
			break
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("qemu-storage-daemon: the disk does not appear: %s", &said), quit())
		}
	}
	out, err := command(n.ctx, nil, "losetup", "-f", "-P", "--show", export)
	if err != nil {
		return nil, errors.Join(err, quit())
	}
	n.device = strings.TrimSpace(out)
	return func() error {
		_, err := command(context.Background(), nil, "losetup", "-d", n.device)
		return errors.Join(err, quit())
	}, nil
}

// partition returns the device of a partition of the disk.
func (n *native) partition(name string) string {
	numbers := map[string]int{
		layout.ESPName: layout.ESPNumber, layout.SlotAName: layout.SlotANumber, layout.SlotBName: layout.SlotBNumber, layout.StateName: 5,
	}
	return fmt.Sprintf("%sp%d", n.device, numbers[name])
}

// installer is install.System with mtools for FAT.
type installer struct {
	install.System
	n       *native
	mounted string // kind of the file system
	dir     string // where it is mounted
}

// Partition implements install.Machine. Not every kernel reads the table; this
// one is told of the partitions.
func (i *installer) Partition(ctx context.Context, d install.Disk, parts []table.Partition) error {
	done := make(chan error, 1)
	go func() { done <- i.System.Partition(ctx, d, parts) }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(100 * time.Millisecond):
		}
		if !written(d, len(parts)) {
			continue
		}
		for _, p := range parts {
			if _, err := os.Stat(fmt.Sprintf("%sp%d", d.Path, p.Index)); err != nil {
				// It fails while somebody else has the device; the next turn comes.
				command(ctx, nil, "addpart", d.Path, fmt.Sprint(p.Index), fmt.Sprint(p.Start/512), fmt.Sprint(p.Size/512))
			}
		}
	}
}

// written tells whether a disk has a table with that many partitions.
func written(d install.Disk, n int) bool {
	f, err := os.Open(d.Path)
	if err != nil {
		return false
	}
	defer f.Close()
	parts, err := table.Read(f, d.Size, 512)
	return err == nil && len(parts) == n
}

// Mount implements install.Machine.
func (i *installer) Mount(kind, device, dir string) error {
	i.mounted, i.dir = kind, dir
	if kind != "vfat" {
		return i.System.Mount(kind, device, dir)
	}
	i.dir = i.n.esp
	return os.MkdirAll(i.dir, 0o700)
}

// Unmount implements install.Machine.
func (i *installer) Unmount(dir string) error {
	if i.mounted == "vfat" {
		return nil
	}
	return i.System.Unmount(dir)
}

// Write implements install.Machine.
func (i *installer) Write(path string, data []byte) error {
	if i.mounted != "vfat" {
		return i.System.Write(path, data)
	}
	return i.n.toESP(strings.TrimPrefix(path, "/run/kedge/install/"), data)
}

// Record implements install.Machine.
func (i *installer) Record(_, committed string) error {
	if err := slot.Create(filepath.Join(i.dir, slot.Folder), committed); err != nil {
		return err
	}
	for _, name := range []string{slot.Good1File, slot.Good2File, slot.TrialFile} {
		data, err := os.ReadFile(filepath.Join(i.dir, slot.Folder, name))
		if err != nil {
			return err
		}
		if err := i.n.toESP(slot.Folder+"/"+name, data); err != nil {
			return err
		}
	}
	return nil
}

// toESP puts a file on the EFI system partition and waits until it is there.
func (n *native) toESP(path string, data []byte) error {
	device := n.partition(layout.ESPName)
	for dir := range parents(path) {
		command(n.ctx, nil, "mmd", "-D", "s", "-i", device, "::/"+dir) // is there already, or mcopy complains
	}
	if _, err := command(n.ctx, data, "mcopy", "-o", "-i", device, "-", "::/"+path); err != nil {
		return err
	}
	return syncFile(device)
}

// parents yields the folders of a path, the outer one first.
func parents(path string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i, c := range path {
			if c == '/' && !yield(path[:i]) {
				return
			}
		}
	}
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// A recordFile is a file of the boot record: its copy, and where it lies on the
// ESP.
type recordFile struct {
	*os.File
	device *os.File
	at     int64
}

// WriteAt implements slot.File.
func (b recordFile) WriteAt(data []byte, at int64) (int, error) {
	if _, err := b.device.WriteAt(data, b.at+at); err != nil {
		return 0, err
	}
	return b.File.WriteAt(data, at)
}

// Sync implements slot.File.
func (b recordFile) Sync() error { return b.device.Sync() }

// Close implements slot.File.
func (b recordFile) Close() error { return errors.Join(b.device.Close(), b.File.Close()) }

// store is the boot record of the disk.
func (n *native) store() slot.Store {
	return slot.Store{Dir: filepath.Join(n.esp, slot.Folder), Open: func(path string) (slot.File, error) {
		at, err := n.place(slot.Folder + "/" + filepath.Base(path))
		if err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		device, err := os.OpenFile(n.partition(layout.ESPName), os.O_RDWR, 0)
		return recordFile{f, device, at}, err
	}}
}

// place returns where the content of a file of the ESP begins, in bytes: the
// first cluster that mshowfat names, counted as the FAT specification says.
func (n *native) place(path string) (int64, error) {
	device := n.partition(layout.ESPName)
	out, err := command(n.ctx, nil, "mshowfat", "-i", device, "::/"+path)
	if err != nil {
		return 0, err
	}
	_, clusters, _ := strings.Cut(out, "<")
	number := strings.FieldsFunc(clusters, func(r rune) bool { return r < '0' || r > '9' })
	if len(number) == 0 {
		return 0, fmt.Errorf("mshowfat %s: %q", path, out)
	}
	cluster, err := strconv.ParseInt(number[0], 10, 64)
	if err != nil {
		return 0, err
	}
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 512)
	if _, err := io.ReadFull(f, b); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	sector, perCluster := int64(le.Uint16(b[11:])), int64(b[13])
	data := int64(le.Uint16(b[14:])) + int64(b[16])*int64(le.Uint32(b[36:]))
	return (data + (cluster-2)*perCluster) * sector, nil
}

// Disarm implements update.Slots.
func (n *native) Disarm() error { return n.store().Disarm() }

// Arm implements update.Slots.
func (n *native) Arm(name string, tries int) error { return n.store().Arm(name, tries, true) }

// Commit implements update.Slots.
func (n *native) Commit(name string) error { return n.store().Commit(name) }

// Write implements update.Slots.
func (n *native) Write(ctx context.Context, i *release.Image, partition string, progress func(int64)) error {
	return install.System{}.Copy(ctx, i, n.partition(partition), progress)
}

// countDown lets GRUB start: it finds a trial and counts a try down.
func (n *native) countDown() error {
	dir, device := filepath.Join(n.work, "grub"), n.partition(layout.ESPName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"device.map": "(hd0) " + device + "\n", "record.cfg": slot.Script(),
		"grub.cfg": "set esp=hd0\nsource $prefix/record.cfg\necho \"@trial $kedge_trial@\"\nexit\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	out, err := command(n.ctx, nil, "grub-emu", "-d", dir, "-m", filepath.Join(dir, "device.map"), "-r", "host")
	if err == nil && !strings.Contains(out, "@trial 1@") {
		err = fmt.Errorf("GRUB starts no trial: %.500q", out)
	}
	if err != nil {
		return err
	}
	if err := syncFile(device); err != nil {
		return err
	}
	return n.fromESP(slot.Folder + "/" + slot.TrialFile)
}

// fromESP brings the copy of a file of the boot record up to date.
func (n *native) fromESP(path string) error {
	at, err := n.place(path)
	if err != nil {
		return err
	}
	f, err := os.Open(n.partition(layout.ESPName))
	if err != nil {
		return err
	}
	defer f.Close()
	data := make([]byte, bootenv.Size)
	if _, err := f.ReadAt(data, at); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.esp, path), data, 0o600)
}

// play goes through an installation, and then on with the state mounted.
func (n *native) play(then func(n *native, state string) error) error {
	n.esp = filepath.Join(n.work, "esp")
	if err := n.r.before(Mark{What: Phase, Name: "install"}, Mark{What: Good, Any: []string{"a"}}, Mark{What: Upgrade, Any: []string{""}}); err != nil {
		return err
	}
	steps, err := install.Steps(install.Options{
		Disk: install.Disk{Name: filepath.Base(n.device), Path: n.device, Size: n.r.r.Small}, Image: n.images[0], Config: []byte("hostname: native\n"),
	})
	if err != nil {
		return err
	}
	var failed error
	report := func(s install.Step, done int64) {
		if done == 0 {
			failed = errors.Join(failed, n.r.phase(strings.ReplaceAll(s.String(), n.device, "disk")))
		}
	}
	if err := errors.Join(install.Run(n.ctx, &installer{System: install.System{}, n: n}, steps, report), failed); err != nil {
		return err
	}
	if err := n.r.after(Mark{What: Installed}, Mark{What: Slot, Name: "a", ID: n.images[0].Manifest.ID}); err != nil {
		return err
	}
	state := filepath.Join(n.work, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	if err := mount.Mount(mount.Spec{Type: "ext4", Source: n.partition(layout.StateName), Target: state, Options: "nosuid,nodev,noexec"}); err != nil {
		return err
	}
	return errors.Join(then(n, state), mount.Unmount(state))
}

// installAgain installs the first release once more, and keeps the state.
func (n *native) installAgain() error {
	f, err := os.Open(n.device)
	if err != nil {
		return err
	}
	defer f.Close()
	parts, err := table.Read(f, n.r.r.Size, 512)
	if err != nil {
		return err
	}
	steps, err := install.Steps(install.Options{
		Disk:  install.Disk{Name: filepath.Base(n.device), Path: n.device, Size: n.r.r.Size, Parts: parts, Slots: []string{"a", "b"}},
		Image: n.images[0], Keep: true,
	})
	if err != nil {
		return err
	}
	return install.Run(n.ctx, &installer{System: install.System{}, n: n}, steps, func(install.Step, int64) {})
}

// grow makes the state as large as the disk allows, as a boot does.
func (n *native) grow(state string) error {
	f, err := os.OpenFile(n.device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	id, parts, err := table.ReadID(f, n.r.r.Size, 512)
	if err != nil {
		return err
	}
	parts, _ = layout.Grow(parts, n.r.r.Size)
	if err := table.Write(f, n.r.r.Size, 512, id, parts); err != nil {
		return err
	}
	last := parts[len(parts)-1]
	if err := block.ResizePartition(n.device, last.Index, last.Start, last.Size); err != nil {
		return err
	}
	if err := mount.GrowExt4(state, last.Size); !errors.Is(err, os.ErrPermission) {
		return err // not every root may do that: CAP_SYS_RESOURCE
	}
	return nil
}

// upgrades goes through an upgrade that is kept and one that is not.
func (n *native) upgrades(state string) error {
	path := filepath.Join(state, "lib/kedge/upgrade.json")
	var now update.State
	save := func(s update.State) error {
		now = s
		return s.Save(path)
	}
	running := update.Running{Release: update.Release{Version: "0.1.0", ID: n.images[0].Manifest.ID}, Slot: "a"}
	// phase marks what may be, does it, and marks what must be then.
	phase := func(name string, may, must []Mark, do func() error) error {
		if err := n.r.before(append(may, Mark{What: Phase, Name: name})...); err != nil {
			return err
		}
		if err := do(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return n.r.after(must...)
	}
	upgrade := func(any ...string) Mark { return Mark{What: Upgrade, Any: any} }
	one := func(m Mark) []Mark { return []Mark{m} }
	if err := phase("grow", one(Mark{What: Grown}), nil, func() error { return n.grow(state) }); err != nil {
		return err
	}
	for n2, image := range n.images[1:] {
		to, id := slot.Other(running.Slot), image.Manifest.ID
		err := phase("stage", []Mark{{What: Slot, Name: to}, upgrade(string(now.Phase), "", "staged")}, []Mark{{What: Slot, Name: to, ID: id}, upgrade("staged")}, func() error {
			return update.Stage(n.ctx, n, image, running, now, func(int64) {}, save)
		})
		if err != nil {
			return err
		}
		if err := phase("arm", one(upgrade("staged", "armed")), one(upgrade("armed")), func() error {
			return update.Arm(n, now, slot.MaxTries, save)
		}); err != nil {
			return err
		}
		trial := update.Running{Release: now.To, Slot: to, Trial: true}
		if n2 > 0 { // the last one never comes up
			for range slot.MaxTries {
				if err := phase("trial of the dead", nil, nil, n.countDown); err != nil {
					return err
				}
			}
			if err := phase("taken back", one(upgrade("armed", "rolled back")), one(upgrade("rolled back")), func() error {
				return save(now.Booted(running, time.Now()))
			}); err != nil {
				return err
			}
			return phase("install again", []Mark{{What: Again, Any: []string{"yes"}}, {What: Slot, Name: "a"}, {What: Slot, Name: "b"}, {What: Good, Any: []string{"a", "b"}}, upgrade("rolled back", "")},
				[]Mark{{What: Again}, {What: Slot, Name: "a", ID: n.images[0].Manifest.ID}, {What: Good, Any: []string{"a"}}, upgrade("")}, n.installAgain)
		}
		if err := phase("trial", one(upgrade("armed", "trial")), one(upgrade("trial")), func() error {
			return errors.Join(n.countDown(), save(now.Booted(trial, time.Now())))
		}); err != nil {
			return err
		}
		if err := n.configure(state, phase); err != nil {
			return err
		}
		if err := phase("commit", []Mark{{What: Good, Any: []string{"a", "b"}}, upgrade("trial", "committed")},
			[]Mark{{What: Good, Any: []string{to}}, upgrade("committed")}, func() error { return update.Commit(n, now, save) }); err != nil {
			return err
		}
		running = update.Running{Release: now.To, Slot: to}
	}
	return nil
}

// configure changes a file of the configuration a few times, while others are
// written.
func (n *native) configure(state string, phase func(string, []Mark, []Mark, func() error) error) error {
	const name = "lib/kedge/config.d/70-local.yaml"
	old := ""
	for turn := range 6 {
		text := []byte(strings.Repeat(fmt.Sprintf("hostname: turn-%d\n", turn), 1+700*turn))
		mark := func(any ...string) []Mark { return []Mark{{What: File, Name: name, Any: any}} }
		err := phase("configuration", mark(old, Digest(text)), mark(Digest(text)), func() error {
			for other := range 5 {
				if err := os.WriteFile(filepath.Join(state, fmt.Sprint("other-", other)), make([]byte, 10000*(turn+1)), 0o600); err != nil {
					return err
				}
			}
			return atomicfile.WriteFile(filepath.Join(state, name), text, 0o600)
		})
		if err != nil {
			return err
		}
		old = Digest(text)
	}
	return nil
}
