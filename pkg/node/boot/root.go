package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
)

// CgroupDir holds a leaf for each service.
const CgroupDir = "/sys/fs/cgroup/kedge"

// stateTimeout is how long disk mode waits for its file system until the
// emergency console opens.
const stateTimeout = 30 * time.Second

// A System is the root of a machine, ready for services.
type System struct {
	Params  []cmdline.Param
	Journal *Journal
	Modules *kernel.Modules // nil when there are none
	Mode    string

	fallback string // mode of a machine without state; "" waits for the state
	guard    *guard
}

// LogDir is where the logs of services lie.
func (s *System) LogDir() string {
	if s.Mode == ModeDisk {
		return "/var/log/kedge"
	}
	return runDir + "/log"
}

// Root makes the root ready for services. It does as much as it can: an error
// means that services make no sense. It wraps ErrReboot when the emergency
// console gave up.
func Root(ctx context.Context) (*System, error) {
	s := &System{}
	var err error
	if err := console.Attach(); err != nil {
		return nil, err
	}
	LogTo(nil)
	if s.Journal, err = OpenJournal(RecordPath); err != nil {
		s.Journal.Note(err.Error())
	}
	s.takeWatchdog()
	s.Journal.Stage(StageRoot)
	if s.Params, err = kernel.Cmdline(); err != nil {
		return nil, err
	}
	setLogLevel(s.Params)
	mode, _ := cmdline.Get(s.Params, "kedge.mode")
	fallback, _ := cmdline.Get(s.Params, "kedge.fallback_mode")
	s.Mode, s.fallback = modes(mode, fallback)
	s.Journal.Update(func(r *Record) { r.Mode = s.Mode })
	if fallback != "" && fallback != s.fallback {
		s.say(fmt.Sprintf("kedge.fallback_mode=%s has no effect: it is install, live or rescue, and goes with kedge.mode=disk or with no kedge.mode", fallback))
	}
	s.announce(mode)
	return s, s.setUp(ctx)
}

// announce tells what may surprise about the mode.
func (s *System) announce(word string) {
	switch {
	case word != "" && word != s.Mode:
		s.say(fmt.Sprintf("kedge.mode=%s is not known; starting in live mode", word))
	}
}

func (s *System) say(text string) {
	console.Write("kedge: " + text + "\n")
	s.Journal.Note(text)
}

func (s *System) note(err error) { s.Journal.Note(err.Error()) }

func (s *System) setUp(ctx context.Context) error {
	setLimits(s.note)
	host := Host{}
	if err := Run(host, rootSteps, s.note); err != nil {
		return err
	}
	var modules sync.WaitGroup
	modules.Go(func() { s.loadModules(ctx) })
	state, err := "", error(nil)
	if s.Mode == ModeDisk {
		if state, err = s.waitForState(ctx); err != nil {
			return err
		}
	}
	if state != "" {
		s.noteError(s.growPartition(state))
		if err := s.openState(ctx, state); err != nil {
			state = s.loseState(ctx, state, err)
		}
	}
	if err := Run(host, varSteps(state), s.note); err != nil {
		return err
	}
	switch {
	case state != "":
		s.noteError(s.growFileSystem(state, "/var"))
	case s.Mode == ModeDisk:
		s.noteError(giveBack(salvageDir, "/var"))
	}
	modules.Wait()
	if err := Run(host, lastSteps(exists("/sys/firmware/efi")), s.note); err != nil {
		return err
	}
	s.restore()
	s.sysctls()
	if err := delegate(CgroupDir); err != nil {
		s.note(err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// loadModules loads what the services need. For devices it goes on in the
// background: the initrd has seen to disks and wired links, and the rest, like
// what appears later, is not waited for.
func (s *System) loadModules(ctx context.Context) {
	events, err := kernel.Events(ctx)
	if err != nil {
		s.note(err)
	}
	modules, err := kernel.OpenModules()
	if err != nil {
		s.say("no kernel modules: " + err.Error())
		return
	}
	s.Modules = modules
	if err := modules.Load(rootModules...); err != nil {
		s.note(err)
	}
	go loadForEvents(events, modules)
	go func() { // one at a time: the services want the processor
		if err := modules.Coldplug(1); err != nil {
			logrus.Warn(err)
		}
	}()
}

// setLimits raises what the services inherit.
func setLimits(note func(error)) {
	const files, unlimited = 1 << 20, ^uint64(0)
	for _, l := range []struct {
		resource   int
		soft, hard uint64
	}{
		{kernel.LimitFiles, files, files},
		{kernel.LimitProcesses, unlimited, unlimited},
		{kernel.LimitCore, 0, unlimited},
		{kernel.LimitLocked, unlimited, unlimited},
	} {
		if err := kernel.SetLimit(l.resource, l.soft, l.hard); err != nil {
			note(err)
		}
	}
}

// waitForState returns the device with the state file system. When it does not
// appear, the mode becomes the one to fall back to, with no device; without such
// a mode, the emergency console opens beside the search.
func (s *System) waitForState(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	again, found := make(chan struct{}, 1), make(chan string, 1)
	go func() {
		for {
			if path := findState(s.Journal.Record().Medium); path != "" {
				found <- path
				return
			}
			select {
			case <-again:
			case <-time.After(time.Second):
			case <-ctx.Done():
				return
			}
		}
	}()
	select {
	case path := <-found:
		return path, nil
	case <-time.After(stateTimeout):
	}
	if s.fallback != "" {
		s.withoutState()
		return "", nil
	}
	why := func() string { return noState(block.List()) }
	Stopped(StageRoot, errors.New(strings.TrimRight(why(), "\n")))
	ended := make(chan error, 1)
	go func() { ended <- emergencyConsole(s.Params, why, again).TalkAll(ctx) }()
	select {
	case path := <-found:
		s.say("found " + path + ", going on")
		return path, nil
	case err := <-ended:
		return "", err
	}
}

// withoutState goes on in the mode to fall back to. The record tells that nobody
// asked for that mode on this machine: its disk may be late or dead.
func (s *System) withoutState() {
	s.fallBack()
	s.Journal.Update(func(r *Record) { r.Fallback = true })
}

// findState returns the device with the state, or "". An installed system has
// it on the disk that it started from, whatever else is plugged in.
func findState(medium string) string {
	devices, err := block.List()
	if err != nil {
		return ""
	}
	if path, installed := besideSlot(devices, medium); installed {
		return path
	}
	if all, err := block.Find(StateLabel); err == nil && len(all) > 0 {
		return all[0].Path
	}
	// A file system whose label cannot be read is damaged, not absent.
	i := slices.IndexFunc(devices, func(d block.Device) bool { return d.Partition && d.PartName == layout.StateName })
	if i < 0 {
		return ""
	}
	return devices[i].Path
}

// besideSlot returns the state partition on the disk of a slot; installed is
// false when medium is no slot.
func besideSlot(devices []block.Device, medium string) (path string, installed bool) {
	i := slices.IndexFunc(devices, func(d block.Device) bool { return d.Path == medium })
	if medium == "" || i < 0 || devices[i].PartName != layout.SlotAName && devices[i].PartName != layout.SlotBName {
		return "", false
	}
	for _, d := range devices {
		if d.Parent == devices[i].Parent && d.PartName == layout.StateName {
			return d.Path, true
		}
	}
	return "", true
}

// noState says what disk mode misses.
func noState(devices []block.Device, err error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "no file system labelled %s\n", StateLabel)
	if err != nil {
		fmt.Fprintf(&b, "  %v\n", err)
	}
	for _, d := range devices {
		fs, err := block.ProbeDevice(d)
		if err != nil {
			fmt.Fprintf(&b, "  %s: %v\n", d.Path, err)
			continue
		}
		fmt.Fprintf(&b, "  %s: %s labelled %q\n", d.Path, fs.Type, fs.Label)
	}
	return b.String()
}

// restore brings back what the last run left: random seed, machine id, time.
func (s *System) restore() {
	for _, f := range []func() error{s.restoreRandom, s.restoreMachineID, s.restoreClock} {
		if err := f(); err != nil {
			s.note(err)
		}
	}
}

func (s *System) restoreRandom() error {
	if s.Mode != ModeDisk {
		return nil
	}
	err := restoreSeed(seedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// restoreMachineID makes the identity of this installation, or of this run
// when nothing outlives it.
func (s *System) restoreMachineID() error {
	id, err := os.ReadFile(machineIDFile)
	if err != nil || len(strings.TrimSpace(string(id))) != 32 {
		// Never waits for random numbers, unlike getrandom(2).
		uuid, err := os.ReadFile("/proc/sys/kernel/random/uuid")
		if err != nil {
			return fmt.Errorf("make machine id: %w", err)
		}
		id = []byte(strings.ReplaceAll(strings.TrimSpace(string(uuid)), "-", "") + "\n")
		if err := atomicfile.WriteFile(machineIDFile, id, 0o444); err != nil {
			return err
		}
	}
	return atomicfile.WriteFile(runDir+"/machine-id", id, 0o444)
}

// restoreClock keeps time from running backwards on machines without a clock
// that runs when they do not.
func (s *System) restoreClock() error {
	now := time.Now()
	best, source := Clock(now, modified(initPath), modified(clockFile))
	if source == "" {
		return nil
	}
	s.say(fmt.Sprintf("clock was %s, set to %s, the time of %s", now.UTC().Format(time.DateTime), best.UTC().Format(time.DateTime), source))
	return kernel.SetClock(best)
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// service is how long after the making of its image a machine may run. A later
// time is that of a clock without a battery: UEFI firmware makes 2070 of 1970.
const service = 30 * 365 * 24 * time.Hour

// Clock returns the latest of three times, and which it is when that is not
// now: no machine runs before its image was built, or before it was last seen.
// Times that no machine of this image can see do not count.
func Clock(now, built, seen time.Time) (best time.Time, source string) {
	absurd := func(t time.Time) bool { return !built.IsZero() && t.After(built.Add(service)) }
	best = now
	if built.After(best) || absurd(now) {
		best, source = built, "the image"
	}
	if seen.After(best) && !absurd(seen) {
		best, source = seen, "the last shutdown"
	}
	return best, source
}

// Save keeps what the next run restores.
func (s *System) Save() error {
	if s.Mode != ModeDisk {
		return nil
	}
	if err := saveSeed(seedFile); err != nil {
		return err
	}
	return s.SaveClock()
}

// SaveClock notes the time on the disk.
func (s *System) SaveClock() error {
	if s.Mode != ModeDisk {
		return nil
	}
	if err := os.WriteFile(clockFile, nil, 0o644); err != nil {
		return err
	}
	return os.Chtimes(clockFile, time.Time{}, time.Now())
}

// sysctls sets the kernel parameters of the image.
func (s *System) sysctls() {
	paths, _ := filepath.Glob("/usr/lib/sysctl.d/*.conf")
	for _, path := range paths {
		if err := applySysctls(Host{}, path, s.note); err != nil {
			s.note(err)
		}
	}
}

func applySysctls(m Machine, path string, note func(error)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	all, err := kernel.ParseSysctls(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for _, c := range all {
		if err := m.Sysctl(c.Key, c.Value); err != nil && !c.Optional {
			note(err)
		}
	}
	return nil
}

// delegate makes the folder of the services' cgroups and gives their leaves all
// controllers there are.
func delegate(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		offered, err := os.ReadFile(filepath.Join(d, "cgroup.controllers"))
		if err != nil {
			return err
		}
		for _, c := range strings.Fields(string(offered)) {
			// One at a time: a controller that is busy must not cost the others.
			if err := os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
				return fmt.Errorf("enable cgroup controller %s: %w", c, err)
			}
		}
	}
	return nil
}
