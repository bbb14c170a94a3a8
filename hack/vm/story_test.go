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

const stories = "stories/*.txtar"

// limit is how long a machine may take for one step.
const limit = 20 * time.Minute

// A platform is what the machines of a story are; stories name it by $ARCH,
// $FIRMWARE, $IMAGE and the serial $CONSOLE.
type platform struct{ arch, firmware string }

// TestStories plays stories on machines with a BIOS, unless a story says more.
func TestStories(t *testing.T) {
	platform{"amd64", "bios"}.play(t, stories, func(name, _ string) bool { return *all || slices.Contains(core, name) })
}

// TestUEFIStories plays those again that name no firmware of their own.
func TestUEFIStories(t *testing.T) {
	platform{"amd64", "uefi"}.play(t, stories, func(_, text string) bool { return *all && strings.Contains(text, "$FIRMWARE") })
}

// onARM64 are the core of the stories about installed machines.
var onARM64 = []string{"install_takeover", "upgrade", "upgrade_dead", "upgrade_faults"}

// TestARM64Stories plays some of those once more.
func TestARM64Stories(t *testing.T) {
	platform{"arm64", "uefi"}.play(t, stories, func(name, _ string) bool { return *all && slices.Contains(onARM64, name) })
}

// TestFigures measures, when -figures says where to.
func TestFigures(t *testing.T) {
	if *figures == "" {
		return
	}
	p := platform{"amd64", "bios"}
	p.play(t, "figures/*.txtar", func(string, string) bool { return true })
}

func (p platform) play(t *testing.T, pattern string, want func(name, text string) bool) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".txtar")
		if !want(name, string(text)) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(*dist, "kedge-"+p.arch+".iso")); err != nil {
				t.Fatalf("%v; \"make images\" builds it", err)
			}
			p.playOnce(t, f)
		})
	}
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

	consoles []*qemu.Console // of all its lives
}

type labKey struct{}

func (p platform) setup(env *testscript.Env) error {
	turn, err := qemu.Turn()
	if err != nil {
		return err
	}
	env.Defer(turn.Unlock)
	now := env.T().(*attempt)
	l := &lab{machines: map[string]*machine{}, logs: filepath.Join(*logs, p.folder(filepath.Base(now.Name())))}
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
	now.lab = l
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
	env.Setenv("CONSOLE", map[string]string{"amd64": "ttyS0", "arm64": "ttyAMA0"}[p.arch])
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

// within bounds one step of a machine, which ends at once when the emulation
// breaks the guest.
func (m *machine) within() (context.Context, context.CancelFunc) {
	ctx, cancel := within()
	ctx, stop := context.WithCancelCause(ctx)
	go func() {
		if broken := m.vm.Console.WaitBroken(ctx); broken != nil {
			stop(broken)
		}
	}()
	return ctx, cancel
}
