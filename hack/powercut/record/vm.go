package record

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/host/embed"
	"github.com/kedgeos/kedge/pkg/host/qemu"
)

// A Lab is where virtual machines are recorded.
type Lab struct {
	Root  string // of the source tree
	Image string // ISO image of the release that is installed
	Kedge string // program that builds the others
	Dir   string // for the recordings
	Say   func(string)
}

// Names of the recordings of machines.
const (
	Install = "install" // an empty disk, until the machine is off
	Life    = "life"    // first start, cluster, upgrade, and one that is taken back
)

// diskSize is that of the machines' disk.
const diskSize = 6 << 30

// limit bounds one step of a machine; emulation is slow.
const limit = 20 * time.Minute

// stickFile is the image that installs by itself, in the folder of the
// recording of an installation.
const stickFile = "silent.iso"

// Host is the name of the machines, and of their nodes.
const Host = "cut"

const silentConfig = `hostname: ` + Host + `
kedge:
  install:
    silent: true
    power_off: true
  upgrade:
    allow_unsigned: true
`

// Install records an installation to an empty disk.
func (l Lab) Install(ctx context.Context) error {
	r, err := newRecorder(filepath.Join(l.Dir, Install), Recording{Name: Install, Size: diskSize, Stick: stickFile, VM: true}, l.Say)
	if err != nil {
		return err
	}
	if err := createSparse(r.path(diskFile), diskSize); err != nil {
		return err
	}
	if err := l.makeStick(r.path(stickFile)); err != nil {
		return err
	}
	if err := r.phase("start of the medium"); err != nil {
		return err
	}
	vm, err := l.launch(ctx, qemu.Spec{
		Image: r.path(stickFile), Drives: []qemu.Drive{{File: r.path(diskFile), Bus: qemu.Disk, Log: r.path(logFile)}},
		Network: qemu.Network{User: true, Isolated: true}, Log: r.path("console.log"), Follow: r.follow(regexp.MustCompile(`install: (.*)`)),
	})
	if err != nil {
		return err
	}
	defer vm.Kill()
	if err := waitText(ctx, vm, `install: installed; powering off`); err != nil {
		return err
	}
	if err := r.after(Mark{What: Installed}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return vm.WaitOff(ctx)
}

func (l Lab) makeStick(path string) error {
	if err := qemu.CopyFile(l.Image, path); err != nil {
		return err
	}
	_, err := embed.Set(path, "silent.yaml", []byte(silentConfig), true)
	return err
}

func (l Lab) launch(ctx context.Context, s qemu.Spec) (*qemu.VM, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return qemu.Launch(ctx, s)
}

// follow makes a phase of each console line that matches.
func (r *recorder) follow(pattern *regexp.Regexp) func(qemu.Line) {
	return func(line qemu.Line) {
		m := pattern.FindStringSubmatch(line.Text)
		if m == nil || strings.Contains(m[1], "%") {
			return
		}
		if err := r.phase(m[1]); err != nil {
			r.say(err.Error())
		}
	}
}

func waitText(ctx context.Context, vm *qemu.VM, pattern string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, _, err := vm.Console.WaitText(ctx, 0, regexp.MustCompile(pattern))
	return err
}

// dead is a release that does not come up.
const (
	deadFile = "usr/sbin/init"
	deadText = "this is no program\n"
)

// Life records what an installed machine goes through. The disk is that of the
// recording of the installation.
func (l Lab) Life(ctx context.Context) error {
	r, err := newRecorder(filepath.Join(l.Dir, Life), Recording{Name: Life, Size: diskSize, Base: baseFile, VM: true}, l.Say)
	if err != nil {
		return err
	}
	for _, name := range []string{baseFile, diskFile} {
		if err := CopySparse(filepath.Join(l.Dir, Install, diskFile), r.path(name)); err != nil {
			return fmt.Errorf("%w (the installation is recorded first)", err)
		}
	}
	m := &life{lab: l, r: r, boots: 1}
	if err := l.Build(ctx); err != nil {
		return err
	}
	next, err := qemu.ReadManifest(filepath.Join(l.Dir, "next.iso"))
	if err != nil {
		return err
	}
	m.nextID = next.ID
	url, stop, err := serve(l.Dir)
	if err != nil {
		return err
	}
	defer stop()
	m.url = url
	first, err := qemu.ReadManifest(l.Image)
	if err != nil {
		return err
	}
	if err := r.before(Mark{What: Installed}, Mark{What: Phase, Name: "first start"}, Mark{What: Slot, Name: "a", ID: first.ID},
		Mark{What: Good, Any: []string{"a"}}, Mark{What: Upgrade, Any: []string{""}}); err != nil {
		return err
	}
	m.vm, err = l.launch(ctx, qemu.Spec{
		Arch: "amd64", Drives: []qemu.Drive{{File: r.path(diskFile), Bus: qemu.Disk, Boot: true, Log: r.path(logFile)}},
		Network: qemu.Network{User: true}, Log: r.path("console.log"),
	})
	if err != nil {
		return err
	}
	defer m.vm.Kill()
	return m.play(ctx)
}

// life is a machine that is recorded.
type life struct {
	lab    Lab
	r      *recorder
	vm     *qemu.VM
	url    string
	boots  int
	rows   int
	nextID string
}

// Build builds the two later releases, unless they are there.
func (l Lab) Build(ctx context.Context) error {
	for name, version := range map[string]string{"next": "0.2.0", "dead": "0.4.0"} {
		path := filepath.Join(l.Dir, name+".iso")
		if _, err := os.Stat(path); err == nil {
			continue
		}
		files := map[string]string{}
		if name == "dead" {
			files[deadFile] = deadText
		}
		l.Say("build " + path)
		if err := l.build(ctx, path, version, files); err != nil {
			return err
		}
	}
	return nil
}

// build builds the image as another release, with files over its own.
func (l Lab) build(ctx context.Context, path, version string, files map[string]string) error {
	dir, err := os.MkdirTemp("", "kedge-powercut-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlays := "overlay"
	for name, text := range files {
		file := filepath.Join(dir, "files", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			return err
		}
		overlays = "overlay, " + filepath.Join(dir, "files")
	}
	base, err := filepath.Rel(dir, filepath.Join(l.Root, "images/edge.yaml"))
	if err != nil {
		return err
	}
	recipe := fmt.Sprintf("base: %s\nroot: %s\noutputs: [iso]\noverlays: [%s]\n", base, l.Root, overlays)
	if err := os.WriteFile(filepath.Join(dir, "next.yaml"), []byte(recipe), 0o644); err != nil {
		return err
	}
	if err := qemu.CopyFile(filepath.Join(l.Root, "images/edge.amd64.lock"), filepath.Join(dir, "next.amd64.lock")); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, l.Kedge, "build", filepath.Join(dir, "next.yaml"), "--arch", "amd64", "--release", version,
		"--compression", "fast", "--fresh-lock-if-gone", "--output", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kedge build: %w\n%s", err, out)
	}
	return qemu.CopyFile(filepath.Join(dir, "kedge-"+version+"-amd64.iso"), path)
}

// serve serves a folder; the URL is that of a guest.
func serve(dir string) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir))}
	go server.Serve(listener)
	return fmt.Sprintf("http://10.0.2.2:%d", listener.Addr().(*net.TCPAddr).Port), func() { server.Close() }, nil
}

// play goes through the story.
func (m *life) play(ctx context.Context) error {
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"first start", func(ctx context.Context) error { return m.reach(ctx, "ready") }},
		{"writes of the cluster", m.load},
		{"stage", m.stage},
		{"arm", func(ctx context.Context) error { return m.arm(ctx, "next", "b") }},
		{"restart into the trial", m.restart},
		{"trial", m.trial},
		{"more writes", m.acknowledged},
		{"arm one that is dead", func(ctx context.Context) error { return m.arm(ctx, "dead", "a") }},
		{"trials of the dead", m.takenBack},
		{"last writes", m.acknowledged},
		{"power off", m.powerOff},
	} {
		if err := m.r.phase(part.name); err != nil {
			return err
		}
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("record %s: %w; last lines of the console:\n  %s", part.name, err, strings.Join(m.vm.Console.Tail(15), "\n  "))
		}
	}
	return nil
}

func (m *life) reach(ctx context.Context, stage string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := m.vm.Console.WaitStage(ctx, m.boots, stage)
	return err
}

func (m *life) guest(ctx context.Context, command, stdin string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out strings.Builder
	err := m.vm.Guest.Run(ctx, command, strings.NewReader(stdin), &out, &out)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out.String())
	}
	return out.String(), nil
}

// row returns the key under which the datastore has a ConfigMap.
func row(name string) string { return "/registry/configmaps/default/" + name }

// acknowledged makes ConfigMaps one after the other, and notes each as soon as
// the cluster says that it is there.
func (m *life) acknowledged(ctx context.Context) error {
	for range 8 {
		m.rows++
		name := fmt.Sprintf("promise-%d", m.rows)
		if _, err := m.guest(ctx, "sudo kubectl create configmap "+name+" --from-literal=a=b", ""); err != nil {
			return err
		}
		if err := m.r.after(Mark{What: Row, Name: row(name)}); err != nil {
			return err
		}
	}
	return nil
}

// load does that while many others are made.
func (m *life) load(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		_, err := m.guest(ctx, "sudo kubectl apply -f - >/dev/null", manyRows(200))
		done <- err
	}()
	if err := m.acknowledged(ctx); err != nil {
		return err
	}
	return <-done
}

func (m *life) stage(ctx context.Context) error {
	if err := m.r.before(Mark{What: Slot, Name: "b"}, Mark{What: Upgrade, Any: []string{"", "staged"}}); err != nil {
		return err
	}
	if _, err := m.guest(ctx, "sudo kedge upgrade stage "+m.url+"/next.iso", ""); err != nil {
		return err
	}
	return m.r.after(Mark{What: Slot, Name: "b", ID: m.nextID}, Mark{What: Upgrade, Any: []string{"staged"}})
}

// arm stages once more and arms.
func (m *life) arm(ctx context.Context, image, slot string) error {
	if err := m.r.before(Mark{What: Slot, Name: slot}, Mark{What: Upgrade, Any: []string{"", "staged", "armed", "committed"}}); err != nil {
		return err
	}
	if _, err := m.guest(ctx, "sudo kedge upgrade apply --no-reboot "+m.url+"/"+image+".iso", ""); err != nil {
		return err
	}
	manifest, err := qemu.ReadManifest(filepath.Join(m.lab.Dir, image+".iso"))
	if err != nil {
		return err
	}
	return m.r.after(Mark{What: Slot, Name: slot, ID: manifest.ID}, Mark{What: Upgrade, Any: []string{"armed"}})
}

// restart restarts the machine into what is armed.
func (m *life) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := m.r.before(Mark{What: Good, Any: []string{"a", "b"}}, Mark{What: Upgrade, Any: []string{"armed", "trial", "committed"}}); err != nil {
		return err
	}
	return m.reset(ctx)
}

// reset asks for a restart and waits for the next kernel.
func (m *life) reset(ctx context.Context) error {
	resets := m.vm.Control.Count("RESET")
	// The command takes its own connection down: what it returns says nothing.
	m.guest(ctx, "sudo kedge reboot", "")
	if err := m.vm.Control.WaitEvent(ctx, "RESET", resets+1); err != nil {
		return err
	}
	return m.again(ctx)
}

func (m *life) again(ctx context.Context) error {
	m.boots++
	m.vm.Guest.Forget()
	return m.vm.Console.WaitBoot(ctx, m.boots)
}

func (m *life) trial(ctx context.Context) error {
	if err := m.reach(ctx, "ready"); err != nil {
		return err
	}
	if err := waitText(ctx, m.vm, `upgrade: 0\.2\.0 .* is committed`); err != nil {
		return err
	}
	return m.r.after(Mark{What: Good, Any: []string{"b"}}, Mark{What: Upgrade, Any: []string{"committed"}})
}

// takenBack lets the machine try the dead release until it gives up.
func (m *life) takenBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := m.r.before(Mark{What: Upgrade, Any: []string{"armed", "trial", "rolled back"}}); err != nil {
		return err
	}
	if err := m.reset(ctx); err != nil {
		return err
	}
	for range 3 {
		if err := m.again(ctx); err != nil {
			return err
		}
	}
	if err := m.reach(ctx, "ready"); err != nil {
		return err
	}
	text, err := m.guest(ctx, "until sudo kedge upgrade status | grep 'was taken back'; do sleep 2; done", "")
	if err != nil {
		return err
	}
	m.lab.Say(strings.TrimSpace(text))
	return m.r.after(Mark{What: Upgrade, Any: []string{"rolled back"}})
}

func (m *life) powerOff(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m.guest(ctx, "sudo kedge poweroff", "") // as with reset
	return m.vm.WaitOff(ctx)
}

// Digest is how marks of the kind File name a content.
func Digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
