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
	all  = flag.Bool("all", false, "play every story, not only the core")
	dist = flag.String("dist", "../../dist", "`folder` of the images")
	bin  = flag.String("bin", "../../bin", "`folder` of the program kedge")
	logs = flag.String("logs", filepath.Join(os.TempDir(), "kedge-vm-logs"), "`folder` for the consoles of the machines")
)

// core stories are played at every change; the others take longer or tell the
// same with a variation.
var core = []string{"iso_bios", "config_embedded", "netboot", "arm64_uefi", "install"}

// limit is how long a machine may take for one step.
const limit = 20 * time.Minute

func TestStories(t *testing.T) {
	files, err := filepath.Glob("stories/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	if !*all {
		files = slices.DeleteFunc(files, func(f string) bool {
			return !slices.Contains(core, strings.TrimSuffix(filepath.Base(f), ".txtar"))
		})
	}
	if _, err := os.Stat(filepath.Join(*dist, "kedge-amd64.iso")); err != nil {
		t.Fatalf("%v; \"make images\" builds it", err)
	}
	testscript.Run(t, testscript.Params{
		Files: files, Setup: setup, Cmds: commands, RequireExplicitExec: true,
	})
}

// TestCore holds the list of core stories to the files.
func TestCore(t *testing.T) {
	for _, name := range core {
		if _, err := os.Stat("stories/" + name + ".txtar"); err != nil {
			t.Error(err)
		}
	}
}

// lab is what one story has: its machines and their surroundings.
type lab struct {
	logs     string
	machines map[string]*machine
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

func setup(env *testscript.Env) error {
	unlock, err := turn()
	if err != nil {
		return err
	}
	env.Defer(unlock)
	name := env.T().(testing.TB).Name()
	l := &lab{machines: map[string]*machine{}, logs: filepath.Join(*logs, filepath.Base(name))}
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
	return variables(env)
}

func variables(env *testscript.Env) error {
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
