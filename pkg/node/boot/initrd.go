package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
	"github.com/kedgeos/kedge/pkg/sys/mount"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

const (
	searchTimeout = 60 * time.Second // of searching in vain, until the emergency console opens
	searchPause   = 200 * time.Millisecond
	tellAfter     = 5 * time.Second // of silence
	tellEvery     = 15 * time.Second
	fetchPause    = 3 * time.Second // between tries to reach the network
	initPath      = "/usr/sbin/init"
)

// IsInitrd tells whether this process runs in the initial RAM file system.
func IsInitrd() bool {
	_, err := os.Stat("/etc/initrd-release")
	return err == nil
}

// Initrd finds the root file system and becomes its init. It returns only with
// an error: one that wraps ErrReboot after the emergency console gave up, any
// other when not even that could be reached.
func Initrd(ctx context.Context) error {
	if err := Run(Host{}, earlySteps, func(error) {}); err != nil {
		return err
	}
	if err := console.Attach(); err != nil {
		return err
	}
	LogTo(nil)
	i := &initrd{}
	i.journal, _ = OpenJournal(RecordPath)
	i.journal.Stage(StageInitrd)
	params, err := kernel.Cmdline()
	if err != nil {
		return err
	}
	i.params = params
	setLogLevel(params)
	if err := i.findRoot(ctx); err != nil {
		return err
	}
	return i.enter()
}

// setLogLevel keeps the console for what a person should read; kedge.debug
// shows all the kernel says.
func setLogLevel(params []cmdline.Param) {
	level := 4
	if _, debug := cmdline.Get(params, "kedge.debug"); debug {
		level, _ = 8, true
		logrus.SetLevel(logrus.DebugLevel)
	}
	kernel.SetLogLevel(level)
}

// initrd is the state of stage 1.
type initrd struct {
	params  []cmdline.Param
	journal *Journal
	modules *kernel.Modules
	device  block.Device // the medium; empty in a network boot
	guard   *guard
	source  Source

	mu     sync.Mutex
	reason string // why there is no root yet
	last   time.Time
}

// touch notes that something went well just now; idle tells how long ago that
// was. A slow download is no reason to give up.
func (i *initrd) touch() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.last = time.Now()
}

func (i *initrd) idle() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return time.Since(i.last)
}

func (i *initrd) say(text string) { console.Write("kedge: " + text + "\n") }

func (i *initrd) fail(format string, args ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.reason = fmt.Sprintf(format, args...)
}

func (i *initrd) why() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.reason
}

// findRoot mounts the root on newRoot. It does not stop trying: after
// searchTimeout the emergency console opens beside it.
func (i *initrd) findRoot(ctx context.Context) error {
	source, err := sourceOf(i.params)
	i.source = source
	if err != nil {
		i.fail("%v\n", err)
		return i.emergency(ctx, nil, nil)
	}
	mode, _ := cmdline.Get(i.params, "kedge.mode")
	slot, _ := cmdline.Get(i.params, "kedge.slot")
	trial, _ := cmdline.Get(i.params, "kedge.trial")
	i.journal.Update(func(r *Record) {
		r.ID, r.Root, r.Mode = source.ID, source.URL, modeOf(mode)
		r.Slot, r.Trial = slot, trial == "1"
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	i.loadModules(ctx)
	if i.journal.Record().Trial {
		i.guard = newGuard(func() (*power.Watchdog, error) { return startWatchdog(i.modules) }, func(err error) { i.journal.Note(err.Error()) })
	}

	again := make(chan struct{}, 1)
	found := make(chan error, 1)
	go func() {
		if i.takeover(source) {
			i.journal.Update(func(r *Record) { r.Takeover = true })
			found <- nil
		} else if source.URL != "" {
			found <- i.fetchRoot(ctx, source, again)
		} else {
			found <- i.searchRoot(ctx, source, again)
		}
	}()
	for i.touch(); ; {
		select {
		case err := <-found:
			return err
		case <-time.After(time.Second):
			if i.idle() > searchTimeout {
				return i.emergency(ctx, found, again)
			}
		}
	}
}

// modeOf is the mode for a word of the kernel command line.
func modeOf(word string) string {
	switch word {
	case ModeDisk, ModeInstall, ModeRescue:
		return word
	}
	return ModeLive
}

// loadModules begins to load what the hardware asks for, and goes on doing so
// as devices appear. The search for the root runs beside it.
func (i *initrd) loadModules(ctx context.Context) {
	events, err := kernel.Events(ctx)
	if err != nil {
		logrus.Warn(err)
	}
	if i.modules, err = kernel.OpenModules(); err != nil {
		i.journal.Note(err.Error()) // all drivers may be part of the kernel
		return
	}
	go loadForEvents(events, i.modules)
	go i.load(netbootModules)
	go func() {
		if err := i.modules.Coldplug(kernel.Workers()); err != nil {
			logrus.Warn(err)
		}
	}()
	go i.load(initrdModules)
}

// load loads modules, or waits until somebody else has.
func (i *initrd) load(names Modules) {
	if err := (Host{i.modules}).Load(names...); err != nil {
		logrus.Warn(err)
	}
}

// loadForEvents loads modules for devices as they appear.
func loadForEvents(events <-chan kernel.Event, modules *kernel.Modules) {
	for e := range events {
		if err := loadForEvent(e, modules); err != nil {
			logrus.Warn(err)
		}
	}
}

func loadForEvent(e kernel.Event, modules *kernel.Modules) error {
	switch {
	case e.Action == "overrun":
		return modules.Coldplug(1)
	case e.Action == "add" && e.Values["MODALIAS"] != "":
		return modules.LoadFor(e.Values["MODALIAS"])
	}
	return nil
}

// searchRoot looks for the medium until it is mounted or ctx ends.
func (i *initrd) searchRoot(ctx context.Context, source Source, again <-chan struct{}) error {
	search := Search{ID: source.ID, Slot: source.Slot, Partition: source.Partition}
	tell, last := time.Now().Add(tellAfter), ""
	for {
		devices, err := block.List()
		if err != nil {
			i.journal.Note(err.Error())
		}
		if source.Partition != "" {
			block.ReadPartUUIDs(devices)
		}
		i.fail("%s", noMedium(source.ID, search.Refused()))
		if d, found := search.Look(devices, openDevice); found {
			err := i.mountMedium(d, source.ID)
			if err == nil {
				return nil
			}
			if source.Trial && errors.Is(err, errDamaged) {
				return err // the release before this one is whole: on to it
			}
			search.Refuse(d, err)
			if text := err.Error(); text != last {
				last = text
				i.say(text)
			}
		}
		if now := time.Now(); now.After(tell) {
			tell = now.Add(tellEvery)
			i.say(fmt.Sprintf("waiting for the medium with id %s; seen so far: %s", source.ID, short(search.Refused())))
		}
		select {
		case <-again:
			search.refused = nil
		case <-time.After(searchPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func openDevice(path string) (io.ReaderAt, io.Closer, error) {
	f, err := os.Open(path)
	return f, f, err
}

// noMedium says what is missing and what was looked at.
func noMedium(id string, refused []Refusal) string {
	var b strings.Builder
	fmt.Fprintf(&b, "no medium with id %s\n", id)
	if len(refused) == 0 {
		b.WriteString("  no disk, stick or disc was seen at all\n")
	}
	for _, r := range refused {
		fmt.Fprintf(&b, "  %v\n", r)
	}
	return b.String()
}

// short names the devices in one line.
func short(refused []Refusal) string {
	if len(refused) == 0 {
		return "no device"
	}
	names := make([]string, len(refused))
	for i, r := range refused {
		names[i] = strings.TrimPrefix(r.Device, "/dev/")
	}
	return strings.Join(names, " ")
}

func (i *initrd) mountMedium(d block.Device, id string) error {
	i.load(initrdModules)
	device, detach, err := readable(d.Path)
	if err != nil {
		return err
	}
	if err := mnt("iso9660", device, mediumDir, "ro,nosuid,nodev").Do(Host{}); err != nil {
		detach()
		return err
	}
	verified, err := mountImage(mediumDir, id)
	if err != nil {
		mount.Detach(mediumDir)
		detach()
		return err
	}
	i.device = d
	i.journal.Update(func(r *Record) { r.Medium, r.Verity = d.Path, verified })
	i.journal.Stage(StageMedium)
	return nil
}

// isoSector is the size of a sector of ISO 9660, in bytes.
const isoSector = 2048

// readable returns a device by which a medium can be mounted: its own, or a loop
// device over one whose sectors are larger than those of the file system.
func readable(path string) (device string, detach func(), err error) {
	sector, err := block.SectorSize(path)
	if err != nil || sector <= isoSector {
		return path, func() {}, err
	}
	if device, err = block.AttachLoop(path); err != nil {
		return "", nil, err
	}
	return device, func() { block.DetachLoop(device) }, nil
}

// mountFetched mounts a root whose digest was checked as a whole.
func (i *initrd) mountFetched(squashfs string) error {
	i.load(initrdModules)
	device, err := block.AttachLoop(squashfs)
	if err != nil {
		return err
	}
	if err := mnt("squashfs", device, newRoot, "ro").Do(Host{}); err != nil {
		block.DetachLoop(device)
		return err
	}
	return nil
}

// fetchRoot gets the root over the network, however long that takes.
func (i *initrd) fetchRoot(ctx context.Context, source Source, again <-chan struct{}) error {
	if err := seedRandom(ctx, i.journal.Note); err != nil {
		return err
	}
	last := ""
	i.fail("no root from %s yet\n", source.URL)
	for {
		err := download(ctx, source, i.say, i.touch)
		if err == nil {
			if err = i.mountFetched(fetched); err == nil {
				i.journal.Stage(StageMedium)
				return nil
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		i.fail("no root from %s\n  %v\n", source.URL, err)
		if text := err.Error(); text != last {
			last = text
			i.say(text)
		}
		select {
		case <-again:
		case <-time.After(fetchPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// emergency opens the emergency console until the root is found.
func (i *initrd) emergency(ctx context.Context, found <-chan error, again chan<- struct{}) error {
	Stopped(StageInitrd, errors.New(strings.TrimRight(i.why(), "\n")))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- emergencyConsole(i.params, i.why, again).TalkAll(ctx) }()
	select {
	case err := <-found:
		i.say("found what was missing, going on")
		return err
	case err := <-ended:
		if errors.Is(err, ErrNobody) {
			i.tryOther()
		}
		return err
	}
}

// emergencyConsole is the console of both stages.
func emergencyConsole(params []cmdline.Param, why func() string, again chan<- struct{}) Emergency {
	hash, _ := cmdline.Get(params, "kedge.emergency")
	return Emergency{Password: hash, Reason: why, Retry: func() {
		select {
		case again <- struct{}{}:
		default: // a try is due already, or nothing can be tried
		}
	}}
}

// enter makes newRoot the root and runs its init. It returns only with an
// error.
func (i *initrd) enter() error {
	i.bequeath()
	if i.modules != nil {
		i.modules.Close()
	}
	if err := Run(Host{}, handOver(), func(error) {}); err != nil {
		return err
	}
	if err := mount.SwitchRoot(newRoot); err != nil {
		return err
	}
	if err := syscall.Exec(initPath, []string{initPath}, os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", initPath, err)
	}
	return nil
}
