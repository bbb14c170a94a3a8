package qemu

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// A Spec is what a user asks of a machine. The zero value of all but Image is
// sound.
type Spec struct {
	Image    string   // ISO image; "" with a network boot
	Media    Bus      // how the image is attached; "" means CDROM
	Arch     string   // "" means the image's own
	Firmware Firmware // "" as in Options
	Machine  string   // "" as in Options
	Accel    Accelerator
	Memory   int // MiB
	CPUs     int //
	Clock    time.Time
	Direct   bool   // boot the image's kernel without a boot loader
	Append   string // with Direct: more of the kernel command line
	Kernel   string // of another system, with Initrd; Append is its whole command line
	Initrd   string //
	Config   string // config.yaml handed over by the machine, beside the SSH key
	Drives   []Drive
	Network  Network // Forwards are made by Launch when User is set
	SSHPort  int     // 0 means a free one
	APIPort  int     // 0 means a free one
	Address  string  // of the guest in the NAT, "" means the first
	Follow   func(Line)
	Dir      string // for the machine's files; "" means a new folder that goes with it
	Log      string // file for the console's text; "" means console.log in Dir
	Outlive  bool   // the machine runs on when this program ends, which Detach wants
}

// A VM is a machine that was started.
type VM struct {
	Dir     string // with id_ed25519, ssh_config, console.log, qemu.log
	Log     string
	Console *Console
	Control *Control
	Guest   *Guest // works once the guest lets SSH in
	APIPort int    // of the host's loopback address
	Accel   Accelerator

	process *process.Process
	console net.Conn
	private bool // Dir goes with the machine
}

// Ports inside the guest.
const (
	sshPort = 22
	apiPort = 6443
)

// Launch starts a machine. After an error nothing is left behind.
func Launch(ctx context.Context, s Spec) (*VM, error) {
	vm := &VM{Dir: s.Dir, Log: s.Log, Accel: s.Accel}
	if vm.Dir == "" {
		dir, err := os.MkdirTemp("", "kedge-run-")
		if err != nil {
			return nil, err
		}
		vm.Dir, vm.private = dir, true
	}
	if vm.Log == "" {
		vm.Log = filepath.Join(vm.Dir, "console.log")
	}
	if err := vm.launch(ctx, s); err != nil {
		vm.Kill()
		return nil, err
	}
	return vm, nil
}

func (vm *VM) launch(ctx context.Context, s Spec) error {
	options, err := vm.options(ctx, s)
	if err != nil {
		return err
	}
	args, err := options.Args()
	if err != nil {
		return err
	}
	if err := vm.start(args, s); err != nil {
		return err
	}
	if err := vm.connect(ctx, options); err != nil {
		if text := vm.complaint(); text != "" {
			return fmt.Errorf("start %s: %s", args[0], text)
		}
		return fmt.Errorf("start %s: %w", args[0], err)
	}
	return nil
}

// options turns the wish into QEMU's options and makes the files they name.
func (vm *VM) options(ctx context.Context, s Spec) (Options, error) {
	var manifest release.Manifest
	if s.Image != "" && (s.Arch == "" || s.Direct) {
		m, err := ReadManifest(s.Image)
		if err != nil {
			return Options{}, err
		}
		manifest, s.Arch = m, m.Arch
	}
	o := Options{
		Arch: s.Arch, Machine: s.Machine, Firmware: s.Firmware, Accel: s.Accel, Memory: s.Memory, CPUs: s.CPUs, Clock: s.Clock,
		Network: s.Network, Console: vm.path("console.sock"), Log: vm.Log, QMP: vm.path("qmp.sock"),
	}.normal()
	if err := findProgram(s.Arch); err != nil {
		return o, err
	}
	if o.Accel == "" {
		o.Accel = ChooseAccelerator(ctx, s.Arch)
		vm.Accel = o.Accel
	}
	for _, step := range []func(*Options, Spec) error{vm.drives, vm.flash, vm.access} {
		if err := step(&o, s); err != nil {
			return o, err
		}
	}
	if s.Kernel != "" {
		o.Kernel, o.Initrd, o.Append = s.Kernel, s.Initrd, s.Append
		return o, nil
	}
	if s.Direct {
		return o, vm.direct(&o, s, manifest)
	}
	return o, nil
}

func (vm *VM) path(name string) string { return filepath.Join(vm.Dir, name) }

// drives puts the image before all others.
func (vm *VM) drives(o *Options, s Spec) error {
	if s.Image != "" {
		image, err := filepath.EvalSymlinks(s.Image)
		if err != nil {
			return fmt.Errorf("open image: %w", err)
		}
		bus := s.Media
		if bus == "" {
			bus = CDROM
		}
		o.Drives = append(o.Drives, Drive{File: image, Bus: bus, ReadOnly: true, Boot: true})
	}
	o.Drives = append(o.Drives, s.Drives...)
	return nil
}

// flash gives a UEFI machine its own empty variables: those of an earlier
// machine would change the boot order.
func (vm *VM) flash(o *Options, s Spec) error {
	if o.Firmware != UEFI {
		return nil
	}
	code, vars, err := findFirmware(s.Arch)
	if err != nil {
		return err
	}
	o.Code, o.Vars = code, vm.path("uefi-vars.fd")
	return CopyFile(vars, o.Vars)
}

// access chooses the ports and hands the key over.
func (vm *VM) access(o *Options, s Spec) error {
	ports := []*int{&s.SSHPort, &s.APIPort}
	if err := freePorts(ports); err != nil {
		return err
	}
	guest, err := newGuest(vm.Dir, s.SSHPort)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	vm.Guest, vm.APIPort = guest, s.APIPort
	if s.Network.User {
		o.Network.Forwards = append(o.Network.Forwards,
			Forward{Host: s.SSHPort, Port: sshPort, Guest: s.Address}, Forward{Host: s.APIPort, Port: apiPort, Guest: s.Address})
	}
	config := vm.path("config.yaml")
	if err := os.WriteFile(config, []byte(guest.config()+s.Config), 0o600); err != nil {
		return err
	}
	o.FwCfg = []FwCfg{{Name: "opt/org.kedgeos/config", File: config}}
	return nil
}

func (vm *VM) direct(o *Options, s Spec, m release.Manifest) (err error) {
	if o.Kernel, err = extractFile(s.Image, release.KernelPath, vm.Dir); err != nil {
		return err
	}
	if o.Initrd, err = extractFile(s.Image, release.InitrdPath, vm.Dir); err != nil {
		return err
	}
	o.Append = commandLine(m, s.Append)
	return nil
}

// freePorts fills in ports of the loopback address that are free now.
func freePorts(ports []*int) error {
	for _, p := range ports {
		if *p != 0 {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // only when all are chosen, so that they differ
		*p = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

// start starts QEMU in its own session: the terminal's Ctrl-C is for us.
func (vm *VM) start(args []string, s Spec) error {
	log, err := os.Create(vm.path("qemu.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	vm.Console = NewConsole()
	vm.Console.Follow = s.Follow
	vm.process, err = process.Command{Args: args, Stdout: log, Stderr: log, Session: true, Tied: !s.Outlive}.Start()
	return err
}

// connect joins console and control; QEMU starts the guest when it has the
// first of them.
func (vm *VM) connect(ctx context.Context, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	go func() { // a QEMU that has ended never listens
		select {
		case <-vm.process.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	err := retry(ctx, 20*time.Millisecond, func() (err error) {
		vm.console, err = net.Dial("unix", o.Console)
		return err
	})
	if err != nil {
		return err
	}
	if vm.Control, err = DialControl(ctx, o.QMP); err != nil {
		return err
	}
	go func() {
		io.Copy(vm.Console, vm.console)
		<-vm.process.Done()
		vm.Console.Close()
	}()
	return nil
}

// complaint is what QEMU said about its own end.
func (vm *VM) complaint() string {
	select {
	case <-vm.process.Done():
	case <-time.After(time.Second):
	}
	b, _ := os.ReadFile(vm.path("qemu.log"))
	var lines []string
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if !strings.Contains(l, "warning:") {
			lines = append(lines, strings.TrimSpace(l))
		}
	}
	return strings.Join(lines, "; ")
}

// Type writes to the console as a keyboard would.
func (vm *VM) Type(text string) error {
	_, err := io.Copy(vm.console, bytes.NewBufferString(text))
	return err
}

// Done is closed when the machine is off.
func (vm *VM) Done() <-chan struct{} { return vm.process.Done() }

// Pid returns the process id of QEMU.
func (vm *VM) Pid() int { return vm.process.Pid() }

// PressPower presses the power button.
func (vm *VM) PressPower(ctx context.Context) error {
	_, err := vm.Control.Command(ctx, "system_powerdown", nil)
	return err
}

// Eject takes the image out of the drive.
func (vm *VM) Eject(ctx context.Context) error {
	_, err := vm.Control.Command(ctx, "eject", map[string]any{"id": "drive0-dev", "force": true})
	return err
}

// WaitOff waits until the machine is off, by itself.
func (vm *VM) WaitOff(ctx context.Context) error {
	select {
	case <-vm.process.Done():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the machine to go off: %w", context.Cause(ctx))
	}
}

// OffByGuest tells whether the guest itself switched the machine off.
func (vm *VM) OffByGuest() bool { return vm.Control.guestShutdown() }

// PowerOff presses the power button and waits for the guest's orderly end. A
// guest that does not obey until ctx ends is cut, and the error says so.
func (vm *VM) PowerOff(ctx context.Context) error {
	defer vm.Kill()
	if err := vm.PressPower(ctx); err != nil {
		return err
	}
	if err := vm.WaitOff(ctx); err != nil {
		return fmt.Errorf("power off: %w; the power was cut", err)
	}
	return nil
}

// Cut takes the power away. The folder stays.
func (vm *VM) Cut() {
	if vm.process != nil {
		vm.process.Signal(syscall.SIGKILL)
		<-vm.process.Done()
	}
	if vm.Control != nil {
		vm.Control.Close()
	}
	if vm.console != nil {
		vm.console.Close()
	}
}

// Kill cuts the power and removes what the machine leaves behind.
func (vm *VM) Kill() {
	vm.Cut()
	if vm.private {
		os.RemoveAll(vm.Dir)
	}
}

// Detach lets the machine run on without us; it was started with Outlive.
func (vm *VM) Detach() {
	vm.Control.Close()
	vm.console.Close()
}
