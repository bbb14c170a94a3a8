package vm

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kedgeos/kedge/pkg/host/qemu"
)

var (
	all     = flag.Bool("all", false, "play every story, not only the core")
	dist    = flag.String("dist", "../../dist", "`folder` of the images")
	bin     = flag.String("bin", "../../bin", "`folder` of the program kedge")
	figures = flag.String("figures", "", "`file` that figures are added to; without it none are taken")
	logs    = flag.String("logs", filepath.Join(os.TempDir(), "kedge-vm-logs"), "`folder` for the consoles of the machines")
)

// core stories are played at every change; the others take longer or tell the
// same with a variation.
var core = []string{"iso_bios", "config_embedded", "netboot", "arm64_uefi", "install"}

// limit is how long a machine may take for one step.
const limit = 20 * time.Minute

// A platform is what the machines of a story are; stories name it by $ARCH,
// $FIRMWARE and $IMAGE.
type platform struct{ arch, firmware string }

// TestStories plays stories on machines with a BIOS, unless a story says more.
func TestStories(t *testing.T) {
	play(t, platform{"amd64", "bios"}, func(name, _ string) bool { return *all || slices.Contains(core, name) })
}

// TestUEFIStories plays those again that name no firmware of their own.
func TestUEFIStories(t *testing.T) {
	play(t, platform{"amd64", "uefi"}, func(_, text string) bool { return *all && strings.Contains(text, "$FIRMWARE") })
}

// onARM64 are the core of the stories about installed machines.
var onARM64 = []string{"upgrade_dead", "upgrade_faults"}

// TestARM64Stories plays some of those once more.
func TestARM64Stories(t *testing.T) {
	play(t, platform{"arm64", "uefi"}, func(name, _ string) bool { return *all && slices.Contains(onARM64, name) })
}

// TestFigures measures, when -figures says where to.
func TestFigures(t *testing.T) {
	if *figures == "" {
		return
	}
	p := platform{"amd64", "bios"}
	testscript.Run(t, testscript.Params{Dir: "figures", Setup: p.setup, Cmds: commands, RequireExplicitExec: true})
}

func play(t *testing.T, p platform, want func(name, text string) bool) {
	all, err := filepath.Glob("stories/*.txtar")
	if err != nil || len(all) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	var files []string
	for _, f := range all {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if want(strings.TrimSuffix(filepath.Base(f), ".txtar"), string(text)) {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		return
	}
	if _, err := os.Stat(filepath.Join(*dist, "kedge-"+p.arch+".iso")); err != nil {
		t.Fatalf("%v; \"make images\" builds it", err)
	}
	testscript.Run(t, testscript.Params{Files: files, Setup: p.setup, Cmds: commands, RequireExplicitExec: true})
}

// TestCore holds the list of core stories to the files.
func TestCore(t *testing.T) {
	for _, name := range slices.Concat(core, onARM64) {
		if _, err := os.Stat("stories/" + name + ".txtar"); err != nil {
			t.Error(err)
		}
	}
}

// lab is what one story has: its machines and their surroundings.
type lab struct {
	logs     string
	machines map[string]*machine
	since    time.Time // of the figure that is taken
	closers  []func()
}

// machine is one machine of a story, in all its lives.
type machine struct {
	name string
	vm   *qemu.VM // nil when off
	boot int      // of vm, from 1: counts the kernel's starts
	mark int      // of vm's console: what "console" has seen
	runs int      // how many times it was switched on
	spec qemu.Spec
}

type labKey struct{}

func (p platform) setup(env *testscript.Env) error {
	unlock, err := turn()
	if err != nil {
		return err
	}
	env.Defer(unlock)
	name := env.T().(testing.TB).Name()
	l := &lab{machines: map[string]*machine{}, logs: filepath.Join(*logs, p.folder(filepath.Base(name)))}
	if err := os.RemoveAll(l.logs); err != nil {
		return err
	}
	if err := os.MkdirAll(l.logs, 0o755); err != nil {
		return err
	}
	env.T().Log("consoles:", l.logs)
	env.Defer(l.close)
	env.Defer(l.closeOnInterrupt())
	env.Values[labKey{}] = l
	return p.variables(env)
}

// folder is where the consoles of a story lie.
func (p platform) folder(story string) string {
	if p == (platform{"amd64", "bios"}) {
		return story
	}
	return story + "-" + p.arch + "-" + p.firmware
}

func (p platform) variables(env *testscript.Env) error {
	folder, err := filepath.Abs(*dist)
	if err != nil {
		return err
	}
	programs, err := filepath.Abs(*bin)
	if err != nil {
		return err
	}
	stage := "agent"
	if *all {
		stage = "ready"
	}
	env.Setenv("DIST", folder)
	env.Setenv("AMD64", filepath.Join(folder, "kedge-amd64.iso"))
	env.Setenv("ARM64", filepath.Join(folder, "kedge-arm64.iso"))
	env.Setenv("ARM64_STAGE", stage)
	env.Setenv("ARCH", p.arch)
	env.Setenv("FIRMWARE", p.firmware)
	env.Setenv("IMAGE", filepath.Join(folder, "kedge-"+p.arch+".iso"))
	env.Setenv("PATH", programs+":"+env.Getenv("PATH")+":/usr/sbin:/sbin")
	manifest, err := qemu.ReadManifest(env.Getenv("AMD64"))
	if err != nil {
		return err
	}
	env.Setenv("ID", manifest.ID)
	env.Setenv("PREFIX", fmt.Sprintf("%s-%s-%s", manifest.Name, manifest.Version, manifest.Arch))
	return nil
}

// turn waits until no other story runs on this host: two machines at once
// break each other's timing.
func turn() (func(), error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "kedge-vm-stories.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

func (l *lab) close() {
	for _, m := range l.machines {
		if m.vm != nil {
			m.vm.Kill()
		}
	}
	for _, c := range l.closers {
		c()
	}
}

// closeOnInterrupt takes the machines down with the test when somebody presses
// Ctrl-C: they run in sessions of their own. It returns what ends the watch.
func (l *lab) closeOnInterrupt() func() {
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-interrupt; ok {
			l.close()
			os.Exit(130)
		}
	}()
	return func() {
		signal.Stop(interrupt)
		close(interrupt)
	}
}

// within bounds one step.
func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), limit)
}
