package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/host/embed"
	"github.com/kedgeos/kedge/pkg/host/qemu"
)

// runOptions is what "kedge run" was asked for.
type runOptions struct {
	image             string
	spec              qemu.Spec
	firmware          string
	media             string
	network           string
	wait              string
	timeout           time.Duration
	exec              string
	kubeconfig        string
	config            string
	disks             []string
	state, stick      string
	keep, detach      bool
	figures, noStream bool
}

func runCommand() *cli.Command {
	var o runOptions
	return &cli.Command{
		Name: "run", Usage: "IMAGE [flags]", Short: "boot an image in a virtual machine",
		Flags: o.flags,
		Run: func(ctx context.Context, env cli.Env) (err error) {
			if o.image, err = oneArgument(env, "an image, such as dist/kedge-amd64.iso"); err != nil {
				return err
			}
			if err := o.settle(); err != nil {
				return err
			}
			return newRunner(env, o).run(ctx)
		},
	}
}

func (o *runOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.wait, "wait", "", "wait until the guest reaches this `stage` (initrd medium root services agent configured kube ready), then power it off")
	fs.DurationVar(&o.timeout, "timeout", 25*time.Minute, "how long to wait")
	fs.StringVar(&o.exec, "exec", "", "once there, run this `command` in the guest and end with its exit code; waits for ready if not told otherwise")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "once there, write a kubeconfig that works from this machine to this `file`")
	fs.BoolVar(&o.figures, "figures", false, "once there, print how long each stage took, and two minutes later the memory in use")
	fs.BoolVar(&o.keep, "keep", false, "once there, go on until the guest powers off or Ctrl-C")
	fs.BoolVar(&o.detach, "detach", false, "once there, leave the machine running and return")
	fs.StringVar(&o.config, "config", "", "put this configuration `file` into a copy of the image")
	fs.Func("disk", "attach a disk, `FILE[:SIZE]`; made if it is not there; may be given again", func(s string) error {
		o.disks = append(o.disks, s)
		return nil
	})
	fs.StringVar(&o.state, "state", "", "keep the guest's state on this disk, `FILE[:SIZE]`; made if it is not there")
	fs.StringVar(&o.stick, "stick", "", "attach a USB stick: an image `file`, or a folder to put on one labelled KEDGE")
	fs.IntVar(&o.spec.Memory, "memory", qemu.DefaultMemory, "memory in `MiB`")
	fs.IntVar(&o.spec.CPUs, "cpus", qemu.DefaultCPUs, "`number` of processors")
	fs.StringVar(&o.firmware, "firmware", "", "bios or uefi (default: bios on amd64, uefi on arm64)")
	fs.StringVar(&o.spec.Arch, "arch", "", "architecture (default: the image's)")
	fs.StringVar(&o.media, "media", "cdrom", "attach the image as cdrom, usb or disk")
	fs.StringVar(&o.spec.Append, "append", "", "add `k=v …` to the kernel command line; boots the kernel without the boot loader")
	fs.StringVar(&o.network, "network", "user", "user (can reach what this machine can), isolated or none")
	fs.IntVar(&o.spec.SSHPort, "ssh-port", 0, "loopback `port` that leads to the guest's SSH (default: a free one)")
	fs.IntVar(&o.spec.APIPort, "api-port", 0, "loopback `port` that leads to the Kubernetes API (default: a free one)")
	fs.BoolVar(&o.noStream, "quiet", false, "do not show the guest's console, only its stages")
}

// leastMemory is that of a machine which boots at all, in MiB.
const leastMemory = 512

var stages = []string{"initrd", "medium", "root", "services", "agent", "configured", "kube", "ready"}

// settle checks the options against each other and completes them.
func (o *runOptions) settle() error {
	after := o.exec != "" || o.kubeconfig != "" || o.figures || o.keep || o.detach
	if o.wait == "" && after {
		o.wait = "ready"
	}
	if o.wait != "" && !contains(stages, o.wait) {
		return cli.Usagef("--wait %s: the stages are %s", o.wait, strings.Join(stages, " "))
	}
	if o.spec.Memory < leastMemory {
		return cli.Usagef("--memory %d: it is in MiB, and a machine needs %d", o.spec.Memory, leastMemory)
	}
	if o.keep && o.detach {
		return cli.Usagef("choose one of --keep and --detach")
	}
	switch o.network {
	case "user", "isolated":
		o.spec.Network = qemu.Network{User: true, Isolated: o.network == "isolated"}
	case "none":
		if o.exec != "" || o.kubeconfig != "" || o.figures {
			return cli.Usagef("--network none: --exec, --kubeconfig and --figures reach the guest through its network")
		}
	default:
		return cli.Usagef("--network %s: choose user, isolated or none", o.network)
	}
	if o.state != "" {
		o.spec.Append = strings.TrimSpace("kedge.mode=disk " + o.spec.Append)
	}
	o.spec.Direct, o.spec.Outlive = o.spec.Append != "", o.detach
	o.spec.Firmware, o.spec.Media = qemu.Firmware(o.firmware), qemu.Bus(o.media)
	return nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// runner runs one machine and talks to the user: all it has to say goes to
// standard error, standard output belongs to --exec and --figures.
type runner struct {
	runOptions
	env      cli.Env
	progress *progress
	vm       *qemu.VM
}

func newRunner(env cli.Env, o runOptions) *runner {
	return &runner{runOptions: o, env: env, progress: newProgress(env.Stderr)}
}

func (r *runner) say(format string, args ...any) {
	r.progress.line("kedge: "+fmt.Sprintf(format, args...), true)
}

func (r *runner) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "kedge-run-")
	if err != nil {
		return err
	}
	remove := true
	defer func() {
		if remove {
			os.RemoveAll(dir)
		}
	}()
	if err := r.prepare(ctx, dir); err != nil {
		return runHint(err)
	}
	if err := r.boot(ctx); err != nil {
		return runHint(err)
	}
	if r.wait == "" {
		return r.foreground(ctx)
	}
	if err := r.there(ctx); err != nil {
		return r.end(err)
	}
	switch {
	case r.detach:
		remove = false
		r.vm.Detach()
		r.say("the machine runs on as process %d; its files are in %s", r.vm.Pid(), dir)
		return nil
	case r.keep:
		return r.foreground(ctx)
	}
	return r.end(nil)
}

// prepare makes the files that the machine needs.
func (r *runner) prepare(ctx context.Context, dir string) error {
	r.spec.Dir, r.spec.Image = dir, r.image
	if err := r.whole(); err != nil {
		return err
	}
	if r.config != "" {
		r.spec.Image = filepath.Join(dir, "image.iso")
		if err := r.embed(r.spec.Image); err != nil {
			return err
		}
	}
	for i, d := range append(r.disks, r.state) {
		if d == "" {
			continue
		}
		drive, err := qemu.OpenDisk(ctx, d, i == len(r.disks))
		if err != nil {
			return fmt.Errorf("make disk: %w", err)
		}
		r.spec.Drives = append(r.spec.Drives, drive)
	}
	if r.stick != "" {
		drive, err := qemu.OpenStick(ctx, r.stick, filepath.Join(dir, "stick.img"))
		if err != nil {
			return err
		}
		r.spec.Drives = append(r.spec.Drives, drive)
	}
	return nil
}

// whole tells an image that is not there, or not all of it.
func (r *runner) whole() error {
	f, err := os.Open(r.image)
	if err != nil {
		return cli.Hint(fmt.Errorf("open image: %w", err), `"make image" builds one`)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := release.Open(f, info.Size()); errors.Is(err, isoimage.ErrTruncated) {
		return imageHint(fmt.Errorf("open %s: %w", r.image, err))
	}
	return nil // what else it may be, the machine will show
}

// embed puts the config into a copy of the image. A config with problems is
// put in all the same, as a machine would take it, and the problems are shown.
func (r *runner) embed(to string) error {
	config, err := os.ReadFile(r.config)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	if err := qemu.CopyFile(r.image, to); err != nil {
		return err
	}
	problems, err := embed.Set(to, r.config, config, false)
	if errors.Is(err, embed.ErrInvalid) {
		for _, p := range problems {
			r.say("warning: %s", p)
		}
		_, err = embed.Set(to, r.config, config, true)
	}
	return err
}

// boot starts the machine and, if asked to, waits for the stage. QEMU's own
// fault is forgiven once.
func (r *runner) boot(ctx context.Context) error {
	for try := 1; ; try++ {
		err := r.start(ctx)
		if err == nil && r.wait != "" {
			err = r.await(ctx)
		}
		var stop *qemu.StoppedError
		if errors.As(err, &stop) && stop.Flake && try == 1 {
			r.say("%v; starting it once more", stop)
			r.vm.Cut()
			continue
		}
		if err != nil && r.vm != nil {
			r.vm.Cut()
		}
		return err
	}
}

func (r *runner) start(ctx context.Context) (err error) {
	r.spec.Follow = r.follow
	if r.vm, err = qemu.Launch(ctx, r.spec); err != nil {
		return err
	}
	how := "in software, which takes minutes (this machine has no KVM that works)"
	if r.vm.Accel == qemu.KVM {
		how = "with KVM"
	}
	r.say("%s boots %s", r.image, how)
	return nil
}

// follow shows the console as it comes.
func (r *runner) follow(l qemu.Line) {
	if !r.noStream || strings.Contains(l.Text, "kedge: st") {
		r.progress.line(l.Text, true)
	}
}

// await waits for the stage and keeps the user informed.
func (r *runner) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		r.tick(ctx)
	}()
	stage, err := r.vm.Console.WaitStage(ctx, 1, r.wait)
	cancel()
	<-shown
	r.progress.end()
	if err == nil {
		r.say("%s after %.0f s", stage.Name, stage.At.Seconds())
		return nil
	}
	return r.explain(err)
}

// tick shows that time passes: twice a second on a terminal, else each minute.
func (r *runner) tick(ctx context.Context) {
	pause := time.Minute
	if r.progress.tty {
		pause = 500 * time.Millisecond
	}
	begun := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		last := "nothing"
		if s := r.vm.Console.Stages(); len(s) > 0 {
			last = s[len(s)-1].Name
		}
		text := fmt.Sprintf("kedge: waiting for %s, %.0f s, reached %s", r.wait, time.Since(begun).Seconds(), last)
		r.progress.line(text, !r.progress.tty)
	}
}

// explain says at which stage the guest stopped, with the end of its console.
func (r *runner) explain(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	last := "it reached no stage"
	if s := r.vm.Console.Stages(); len(s) > 0 {
		last = "it reached " + s[len(s)-1].Name
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("not there in %v", r.timeout)
	}
	if r.noStream {
		r.say("the last lines of its console:")
		for _, l := range r.vm.Console.Tail(20) {
			fmt.Fprintln(r.env.Stderr, "  "+l)
		}
	}
	return fmt.Errorf("wait for %s: %w; %s", r.wait, err, last)
}

// there does what was asked for once the guest has reached the stage.
func (r *runner) there(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if r.figures {
		if err := r.measure(ctx); err != nil {
			return err
		}
	}
	if r.kubeconfig == "" && (r.keep || r.detach) && r.wait == "ready" && r.network != "none" {
		r.kubeconfig = filepath.Join(r.spec.Dir, "kubeconfig")
	}
	if r.kubeconfig != "" {
		if err := r.writeKubeconfig(ctx); err != nil {
			return err
		}
	}
	if r.exec != "" {
		err := r.vm.Guest.Run(ctx, r.exec, r.env.Stdin, r.env.Stdout, r.env.Stderr)
		var status qemu.ExitError
		if errors.As(err, &status) {
			return cli.Exit(status)
		}
		if err != nil {
			return err
		}
	}
	if r.keep || r.detach {
		r.reach()
	}
	return nil
}

func (r *runner) measure(ctx context.Context) error {
	for _, f := range qemu.BootFigures(r.vm.Console.Stages()) {
		fmt.Fprintln(r.env.Stdout, f)
	}
	select {
	case <-time.After(2 * time.Minute):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	f, err := r.vm.Guest.MemoryUsed(ctx)
	if err == nil {
		fmt.Fprintln(r.env.Stdout, f)
	}
	return err
}

func (r *runner) writeKubeconfig(ctx context.Context) error {
	text, err := r.vm.Guest.Kubeconfig(ctx, r.vm.APIPort)
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.kubeconfig, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return os.Chmod(r.kubeconfig, 0o600) // it may have been there
}

// reach says how to get to the machine.
func (r *runner) reach() {
	if r.network == "none" {
		return
	}
	r.say("log in:     ssh -F %s kedge", filepath.Join(r.vm.Dir, "ssh_config"))
	if r.kubeconfig != "" {
		r.say("kubectl:    kubectl --kubeconfig %s get nodes,pods -A", r.kubeconfig)
	}
	r.say("power off:  ssh -F %s kedge sudo kedge poweroff", filepath.Join(r.vm.Dir, "ssh_config"))
}

// foreground goes on until the guest powers off; Ctrl-C presses its power button.
func (r *runner) foreground(ctx context.Context) error {
	if r.wait == "" {
		r.reach()
	}
	r.say("Ctrl-C powers the machine off")
	select {
	case <-r.vm.Done():
		return nil
	case <-ctx.Done():
		return r.end(nil)
	}
}

// powerOffTime is how long a guest has for an orderly end: its pods have 30 s,
// and emulation makes everything slow.
const powerOffTime = 3 * time.Minute

// end powers the machine off, and returns err or why that did not work. A
// second Ctrl-C cuts the power.
func (r *runner) end(err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), powerOffTime)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	r.say("powering the machine off")
	if off := r.vm.PowerOff(ctx); off != nil && err == nil {
		return off
	}
	r.progress.end()
	return err
}

// runHint adds what to do about what this machine lacks.
func runHint(err error) error {
	if errors.Is(err, qemu.ErrMissing) {
		return cli.Hint(err, `"make deps" installs what running an image needs`)
	}
	return err
}
