package vm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"gopkg.in/yaml.v3"

	"github.com/kedgeos/kedge/pkg/api/chunk"
	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/table"
	"github.com/kedgeos/kedge/pkg/host/embed"
	"github.com/kedgeos/kedge/pkg/host/qemu"
)

type script = testscript.TestScript

var commands = map[string]func(*script, bool, []string){
	"boot":        boot,
	"reach":       on(reach),
	"console":     on(console),
	"guest":       on(guest),
	"apply":       on(apply),
	"api":         on(api),
	"reboot":      on(reboot),
	"poweroff":    on(powerOff),
	"powerbutton": on(powerButton),
	"off":         on(waitOff),
	"again":       on(again),
	"image":       plain(buildImage),
	"kubernetes":  plain(buildKubernetes),
	"readkey":     plain(readKey),
	"type":        on(typeText),
	"keys":        on(pressKeys),
	"disk":        plain(makeDisk),
	"debian":      plain(makeDebian),
	"damage":      plain(damage),
	"start":       plain(startClock),
	"took":        plain(took),
	"rate":        plain(rate),
	"flip":        plain(flip),
	"cut-power":   on(cutPower),
	"stages":      on(printStages),
	"embed":       plain(embedConfig),
	"stick":       plain(makeStick),
	"state":       plain(makeState),
	"clean":       isClean,
	"serve":       plain(serve),
	"registry":    plain(serveRegistry),
	"stall":       plain(serveStalling),
	"expand":      plain(expand),
}

func labOf(ts *script) *lab { return ts.Value(labKey{}).(*lab) }

// on makes a command about a machine that is on. All but guest and console
// must succeed.
func on(run func(ts *script, m *machine, neg bool, args []string) error) func(*script, bool, []string) {
	return func(ts *script, neg bool, args []string) {
		name := "one"
		if len(args) > 1 && args[0] == "-name" {
			name, args = args[1], args[2:]
		}
		m := labOf(ts).machines[name]
		if m == nil || m.vm == nil {
			ts.Fatalf("machine %q is not on", name)
		}
		if err := run(ts, m, neg, args); err != nil {
			ts.Fatalf("%v\nlast lines of the console of %q:\n  %s", err, name, strings.Join(m.vm.Console.Tail(25), "\n  "))
		}
	}
}

// plain makes a command without a machine.
func plain(run func(ts *script, args []string) error) func(*script, bool, []string) {
	return func(ts *script, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be turned around")
		}
		ts.Check(run(ts, args))
	}
}

// bootFlags are the flags of boot.
type bootFlags struct {
	spec           qemu.Spec
	name, firmware string
	media, network string
	config         string
	stick, state   string
	disk, bus      string
	tftp, bootfile string
	beside, room   string
	clock          string
}

func (b *bootFlags) set(fs *flag.FlagSet) {
	fs.StringVar(&b.name, "name", "one", "name of the machine")
	fs.StringVar(&b.spec.Arch, "arch", "", "amd64 or arm64, of a machine without an image")
	fs.StringVar(&b.firmware, "firmware", "", "bios or uefi")
	fs.StringVar(&b.spec.Machine, "machine", "", "QEMU machine type")
	fs.StringVar(&b.media, "media", "cdrom", "cdrom, usb or disk")
	fs.StringVar(&b.network, "network", "isolated", "isolated, user or none")
	fs.IntVar(&b.spec.Memory, "memory", 0, "MiB")
	fs.StringVar(&b.spec.Append, "append", "", "kernel parameters of a direct boot")
	fs.StringVar(&b.config, "config", "", "config.yaml given by the hypervisor")
	fs.StringVar(&b.stick, "stick", "", "image of a USB stick")
	fs.StringVar(&b.disk, "disk", "", "a disk; without an image the machine starts from it")
	fs.StringVar(&b.bus, "bus", "disk", "how it is attached: disk (virtio), nvme, nvme4k (large sectors), sata, mmc or usb")
	fs.StringVar(&b.state, "state", "", "disk for state; direct boot in disk mode")
	fs.StringVar(&b.spec.Kernel, "kernel", "", "kernel of another system, with -initrd and -append")
	fs.StringVar(&b.spec.Initrd, "initrd", "", "its initial RAM file system")
	fs.StringVar(&b.tftp, "tftp", "", "folder of a network boot")
	fs.StringVar(&b.bootfile, "bootfile", "", "file in it to boot")
	fs.StringVar(&b.beside, "beside", "", "another machine, whose network this one shares")
	fs.StringVar(&b.clock, "clock", "", "date that the machine starts with, as 1970-01-01")
	fs.StringVar(&b.room, "room", "", "room for another machine's SSH: its address in this network")
}

func boot(ts *script, _ bool, args []string) {
	var b bootFlags
	fs := flag.NewFlagSet("boot", flag.ContinueOnError)
	b.set(fs)
	ts.Check(fs.Parse(args))
	l := labOf(ts)
	m := l.machines[b.name]
	if m == nil {
		m = &machine{name: b.name}
		l.machines[b.name] = m
	}
	if m.vm != nil {
		ts.Fatalf("machine %q is on", b.name)
	}
	if fs.NArg() > 0 {
		b.spec.Image = ts.MkAbs(fs.Arg(0))
	}
	ts.Check(b.complete(ts, l))
	m.runs++
	b.spec.Log = filepath.Join(l.logs, fmt.Sprintf("%s-%d.log", b.name, m.runs))
	m.spec = b.spec
	ts.Check(m.start())
}

// complete turns the flags into the machine's spec.
func (b *bootFlags) complete(ts *script, l *lab) error {
	b.spec.Firmware, b.spec.Media = qemu.Firmware(b.firmware), qemu.Bus(b.media)
	if b.config != "" {
		b.spec.Config = ts.ReadFile(b.config)
	}
	if b.stick != "" {
		b.spec.Drives = append(b.spec.Drives, qemu.Drive{File: ts.MkAbs(b.stick), Bus: qemu.USB, ReadOnly: true})
	}
	if b.disk != "" {
		b.spec.Drives = append(b.spec.Drives, qemu.Drive{File: ts.MkAbs(b.disk), Bus: qemu.Bus(b.bus), Boot: true})
	}
	if b.state != "" {
		b.spec.Drives = append(b.spec.Drives, qemu.Drive{File: ts.MkAbs(b.state), Bus: qemu.Disk})
		b.spec.Append = strings.TrimSpace("kedge.mode=disk " + b.spec.Append)
	}
	b.spec.Direct = b.spec.Append != "" && b.spec.Kernel == ""
	if b.spec.Kernel != "" {
		b.spec.Kernel, b.spec.Initrd = ts.MkAbs(b.spec.Kernel), ts.MkAbs(b.spec.Initrd)
	}
	if b.clock != "" {
		var err error
		if b.spec.Clock, err = time.Parse(time.DateOnly, b.clock); err != nil {
			return err
		}
	}
	return b.plug(ts, l)
}

// plug gives the machine its network: a NAT of its own, or a place in the
// network of another machine, by a switch between them. Room is made for the
// second when the first is switched on, because its NAT forwards the ports.
func (b *bootFlags) plug(ts *script, l *lab) error {
	n := qemu.Network{User: b.network != "none", Isolated: b.network == "isolated", Bootfile: b.bootfile}
	if b.tftp != "" {
		n.TFTP = ts.MkAbs(b.tftp)
	}
	socket := ts.MkAbs("switch.sock")
	switch {
	case b.room != "":
		port, err := freePort()
		if err != nil {
			return err
		}
		lan, err := qemu.NewSwitch(socket)
		if err != nil {
			return err
		}
		l.closers = append(l.closers, func() { lan.Close() })
		ts.Setenv("ROOM", fmt.Sprint(port))
		n.Switch, n.MAC = socket, "52:54:00:6b:65:01"
		n.Forwards = []qemu.Forward{{Host: port, Port: 22, Guest: b.room}}
	case b.beside != "":
		if l.machines[b.beside] == nil {
			return fmt.Errorf("there is no machine %q to stand beside", b.beside)
		}
		if _, err := fmt.Sscan(ts.Getenv("ROOM"), &b.spec.SSHPort); err != nil {
			return fmt.Errorf("machine %q has no room: %w", b.beside, err)
		}
		n = qemu.Network{Switch: socket, MAC: "52:54:00:6b:65:02"}
	}
	b.spec.Network = n
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (m *machine) start() (err error) {
	ctx, cancel := within()
	defer cancel()
	m.vm, err = qemu.Launch(ctx, m.spec)
	m.boot, m.mark = 1, 0
	if err == nil {
		m.consoles = append(m.consoles, m.vm.Console)
	}
	return err
}

// reach waits for a stage.
func reach(ts *script, m *machine, neg bool, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: reach STAGE")
	}
	ctx, cancel := m.within()
	defer cancel()
	stage, err := m.vm.Console.WaitStage(ctx, m.boot, args[0])
	if err != nil {
		return fmt.Errorf("wait for %s: %w", args[0], err)
	}
	ts.Logf("%s: %s after %.1f s, %.1f s of them in the kernel", m.name, args[0], stage.At.Seconds(), stage.Seconds)
	return nil
}

func console(ts *script, m *machine, neg bool, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: console REGEXP")
	}
	pattern, err := regexp.Compile(args[0])
	if err != nil {
		return err
	}
	if neg {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // looks, but does not wait
		if text, _, err := m.vm.Console.WaitText(ctx, 0, pattern); err == nil {
			return fmt.Errorf("the console has %q", text)
		}
		return nil
	}
	ctx, cancel := m.within()
	defer cancel()
	text, next, err := m.vm.Console.WaitText(ctx, m.mark, pattern)
	if err != nil {
		return err
	}
	m.mark = next
	fmt.Fprintln(ts.Stdout(), text)
	return nil
}

func guest(ts *script, m *machine, neg bool, args []string) error {
	until, input := false, ""
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch {
		case args[0] == "-until":
			until, args = true, args[1:]
		case args[0] == "-stdin" && len(args) > 1:
			input, args = ts.ReadFile(args[1]), args[2:]
		default:
			return fmt.Errorf("guest: unknown flag %s", args[0])
		}
	}
	ctx, cancel := m.within()
	defer cancel()
	command := strings.Join(args, " ")
	for {
		var out, errs strings.Builder
		err := m.vm.Guest.Run(ctx, command, strings.NewReader(input), &out, &errs)
		var status qemu.ExitError
		if errors.As(err, &status) && until {
			select {
			case <-time.After(2 * time.Second):
				continue
			case <-ctx.Done():
				err = fmt.Errorf("%w after %v", err, limit)
			}
		}
		io.WriteString(ts.Stdout(), out.String())
		io.WriteString(ts.Stderr(), errs.String())
		switch {
		case err != nil && !(neg && errors.As(err, &status)):
			return err
		case err == nil && neg:
			return fmt.Errorf("%q succeeded in the guest", command)
		}
		return nil
	}
}

// apply creates what a manifest says. ${COREDNS} is the image that every
// machine has without a registry; busybox comes from the machine.
func apply(ts *script, m *machine, neg bool, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: apply [KEY=VALUE…] FILE")
	}
	ctx, cancel := m.within()
	defer cancel()
	image, err := m.vm.Guest.Output(ctx, "sudo kubectl -n kube-system get deployment coredns -o jsonpath='{.spec.template.spec.containers[0].image}'")
	if err != nil {
		return err
	}
	values := map[string]string{"COREDNS": image}
	for _, a := range args[:len(args)-1] {
		key, value, _ := strings.Cut(a, "=")
		values[key] = value
	}
	manifest := os.Expand(ts.ReadFile(args[len(args)-1]), func(key string) string { return values[key] })
	var out strings.Builder
	err = m.vm.Guest.Run(ctx, "sudo kubectl apply -f -", strings.NewReader(manifest), &out, &out)
	io.WriteString(ts.Stdout(), out.String())
	return err
}

// kubeconfig is what of a kubeconfig a request needs.
type kubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server string `yaml:"server"`
			CA     string `yaml:"certificate-authority-data"`
		} `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		User struct {
			Certificate string `yaml:"client-certificate-data"`
			Key         string `yaml:"client-key-data"`
		} `yaml:"user"`
	} `yaml:"users"`
}

// api asks the API server from outside; -until waits for a good answer: on a
// loaded machine its own checks run over their time now and then.
func api(ts *script, m *machine, neg bool, args []string) error {
	until := len(args) > 0 && args[0] == "-until"
	if until {
		args = args[1:]
	}
	if len(args) != 1 {
		return errors.New("usage: api [-until] PATH")
	}
	ctx, cancel := m.within()
	defer cancel()
	text, err := m.vm.Guest.Kubeconfig(ctx, m.vm.APIPort)
	if err != nil {
		return err
	}
	var k kubeconfig
	if err := yaml.Unmarshal([]byte(text), &k); err != nil || len(k.Clusters) != 1 || len(k.Users) != 1 {
		return fmt.Errorf("the kubeconfig has %d clusters and %d users: %v", len(k.Clusters), len(k.Users), err)
	}
	client, err := k.client()
	if err != nil {
		return err
	}
	for {
		response, err := client.Get(k.Clusters[0].Cluster.Server + args[0])
		if err != nil {
			return err
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if until && response.StatusCode != http.StatusOK && ctx.Err() == nil {
			time.Sleep(2 * time.Second)
			continue
		}
		fmt.Fprintf(ts.Stdout(), "%s\n%s\n", response.Status, body)
		return err
	}
}

func (k kubeconfig) client() (*http.Client, error) {
	var parts [3][]byte
	user := k.Users[0].User
	for i, s := range []string{k.Clusters[0].Cluster.CA, user.Certificate, user.Key} {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, err
		}
		parts[i] = b
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(parts[0]) {
		return nil, errors.New("the kubeconfig has no CA certificate")
	}
	pair, err := tls.X509KeyPair(parts[1], parts[2])
	if err != nil {
		return nil, err
	}
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
	}}, nil
}

// ask runs a command that takes its own connection down.
func (m *machine) ask(ctx context.Context, command string) error {
	var out strings.Builder
	err := m.vm.Guest.Run(ctx, command, nil, &out, &out)
	var status qemu.ExitError
	if errors.As(err, &status) && status > 0 {
		return fmt.Errorf("%w: %s", err, out.String())
	}
	return nil
}

func reboot(ts *script, m *machine, neg bool, args []string) error {
	ctx, cancel := m.within()
	defer cancel()
	resets := m.vm.Control.Count("RESET")
	if err := m.ask(ctx, "sudo kedge reboot"); err != nil {
		return err
	}
	if err := m.vm.Control.WaitEvent(ctx, "RESET", resets+1); err != nil {
		return err
	}
	m.boot++
	m.vm.Guest.Forget()
	_, err := m.vm.Console.WaitStage(ctx, m.boot, "initrd")
	return err
}

func powerOff(ts *script, m *machine, neg bool, args []string) error {
	ctx, cancel := m.within()
	defer cancel()
	if err := m.ask(ctx, "sudo kedge poweroff"); err != nil {
		return err
	}
	return m.off(ctx)
}

func powerButton(ts *script, m *machine, neg bool, args []string) error {
	ctx, cancel := m.within()
	defer cancel()
	if err := m.vm.PressPower(ctx); err != nil {
		return err
	}
	return m.off(ctx)
}

// waitOff waits until the machine switches itself off.
func waitOff(ts *script, m *machine, neg bool, args []string) error {
	ctx, cancel := m.within()
	defer cancel()
	return m.off(ctx)
}

// again waits until the machine has restarted by itself.
func again(ts *script, m *machine, neg bool, args []string) error {
	ctx, cancel := m.within()
	defer cancel()
	m.boot++
	m.vm.Guest.Forget()
	return m.vm.Console.WaitBoot(ctx, m.boot)
}

// typeText types lines on the console, as a person would.
func typeText(ts *script, m *machine, neg bool, args []string) error {
	return m.vm.Type(strings.Join(args, "\n") + "\n")
}

// pressKeys presses keys of a menu on the serial console. Ctrl-N is what GRUB
// takes for an arrow down.
func pressKeys(ts *script, m *machine, neg bool, args []string) error {
	for _, name := range args {
		key, known := map[string]string{"down": "\x0e", "enter": "\r"}[name]
		if !known {
			return fmt.Errorf("keys: unknown key %q", name)
		}
		if err := m.vm.Type(key); err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond) // a menu redraws at each
	}
	return nil
}

// off waits for the end, which must be the guest's own will.
func (m *machine) off(ctx context.Context) error {
	if err := m.vm.WaitOff(ctx); err != nil {
		return err
	}
	if !m.vm.OffByGuest() {
		return errors.New("QEMU ended, but the guest did not ask for it")
	}
	m.forget()
	return nil
}

func cutPower(ts *script, m *machine, neg bool, args []string) error {
	m.forget()
	return nil
}

func (m *machine) forget() {
	m.vm.Kill()
	m.vm = nil
}

func printStages(ts *script, m *machine, neg bool, args []string) error {
	for _, f := range qemu.BootFigures(m.vm.Console.Stages()) {
		fmt.Fprintln(ts.Stdout(), f)
	}
	return nil
}

// startClock begins to measure.
func startClock(ts *script, args []string) error {
	labOf(ts).since = time.Now()
	return nil
}

// took gives the seconds since the last start or took as a figure.
func took(ts *script, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: took NAME")
	}
	l, now := labOf(ts), time.Now()
	err := figure(ts, "%s %.1f s\n", args[0], now.Sub(l.since).Seconds())
	l.since = now
	return err
}

// rate gives what a command has just said, in MB/s, as a figure.
func rate(ts *script, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: rate NAME REGEXP")
	}
	pattern, err := regexp.Compile(args[1])
	if err != nil {
		return err
	}
	found := pattern.FindAllStringSubmatch(ts.ReadFile("stdout")+ts.ReadFile("stderr"), -1)
	if len(found) == 0 {
		return fmt.Errorf("rate %s: the last command did not say %s", args[0], pattern)
	}
	return figure(ts, "%s %s MB/s\n", args[0], found[len(found)-1][1])
}

// figure says a figure, and adds it to the file of figures if there is one.
func figure(ts *script, format string, values ...any) error {
	ts.Logf(format, values...)
	if *figures == "" {
		return nil
	}
	f, err := os.OpenFile(*figures, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format, values...)
	return errors.Join(err, f.Close())
}

func embedConfig(ts *script, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: embed IMAGE CONFIG [SOURCE]")
	}
	image, source := ts.MkAbs(args[0]), ts.Getenv("IMAGE")
	if len(args) > 2 {
		source = args[2]
	}
	if err := qemu.CopyFile(source, image); err != nil {
		return err
	}
	_, err := embed.Set(image, args[1], []byte(ts.ReadFile(args[1])), true)
	return err
}

// buildImage builds the image as another release, with the files of a folder
// over its own. Its chunk index comes to lie beside it.
func buildImage(ts *script, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: image FILE VERSION [OVERLAY]")
	}
	arch := ts.Getenv("ARCH")
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kedge-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	base, err := filepath.Rel(dir, filepath.Join(root, "images/edge.yaml"))
	if err != nil {
		return err
	}
	overlays := []string{"overlay"}
	if len(args) > 2 {
		overlays = append(overlays, ts.MkAbs(args[2]))
	}
	recipe := filepath.Join(dir, "next.yaml")
	text := fmt.Sprintf("base: %s\nroot: %s\noutputs: [iso]\noverlays: [%s]\n", base, root, strings.Join(overlays, ", "))
	if err := os.WriteFile(recipe, []byte(text), 0o644); err != nil {
		return err
	}
	if err := qemu.CopyFile(filepath.Join(root, "images/edge."+arch+".lock"), filepath.Join(dir, "next."+arch+".lock")); err != nil {
		return err
	}
	ctx, cancel := within()
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(*bin, "kedge"), "build", recipe, "--arch", arch, "--release", args[1],
		"--compression", "fast", "--fresh-lock-if-gone", "--output", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kedge build: %w\n%s", err, out)
	}
	built := filepath.Join(dir, "kedge-"+args[1]+"-"+arch+".iso")
	if err := os.Rename(built+chunk.Suffix, ts.MkAbs(args[0])+chunk.Suffix); err != nil {
		return err
	}
	return os.Rename(built, ts.MkAbs(args[0]))
}

// buildKubernetes builds Kubernetes alone in another version: the same source
// that says so of itself, or a program that only fails.
func buildKubernetes(ts *script, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: kubernetes FILE VERSION [broken]")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kedge-kubernetes-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	edge, err := os.ReadFile(filepath.Join(root, "images/edge.yaml"))
	if err != nil {
		return err
	}
	const version, module = "version.gitVersion=v1.36.3", "module: cmd/kube\n"
	if !strings.Contains(string(edge), version) || !strings.Contains(string(edge), module) {
		return errors.New("images/edge.yaml is not what this command changes")
	}
	text := strings.ReplaceAll(string(edge), version, "version.gitVersion="+args[1])
	if len(args) > 2 {
		broken := filepath.Join(dir, "broken")
		text = strings.ReplaceAll(text, module, "module: "+broken+"\n")
		for name, content := range map[string]string{"go.mod": "module example.org/broken\n\ngo 1.26.0\n", "main.go": "package main\n\nimport \"os\"\n\nfunc main() { os.Exit(1) }\n"} {
			if err := errors.Join(os.MkdirAll(broken, 0o755), os.WriteFile(filepath.Join(broken, name), []byte(content), 0o644)); err != nil {
				return err
			}
		}
	}
	recipe := filepath.Join(dir, "next.yaml")
	if err := os.WriteFile(recipe, []byte("root: "+root+"\n"+text), 0o644); err != nil {
		return err
	}
	if err := qemu.CopyFile(filepath.Join(root, "images/edge.amd64.lock"), filepath.Join(dir, "next.amd64.lock")); err != nil {
		return err
	}
	ctx, cancel := within()
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(*bin, "kedge"), "build", recipe, "--arch", "amd64", "--only", "kubernetes",
		"--compression", "fast", "--fresh-lock-if-gone", "--output", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kedge build: %w\n%s", err, out)
	}
	return os.Rename(filepath.Join(dir, "kedge-kubernetes-"+args[1]+"-amd64.img"), ts.MkAbs(args[0]))
}

// readKey puts the key in a public key file into a variable.
func readKey(ts *script, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: readkey VARIABLE FILE")
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[1])), "\n")
	ts.Setenv(args[0], lines[len(lines)-1])
	return nil
}

func makeStick(ts *script, args []string) error {
	if len(args) < 4 {
		return errors.New("usage: stick FILE KIND LABEL SOURCE…")
	}
	dir, err := os.MkdirTemp("", "kedge-stick-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, source := range args[3:] {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(source)), []byte(ts.ReadFile(source)), 0o644); err != nil {
			return err
		}
	}
	ctx, cancel := within()
	defer cancel()
	return qemu.MakeStick(ctx, ts.MkAbs(args[0]), args[1], args[2], dir)
}

func makeState(ts *script, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: state FILE SIZE")
	}
	_, size, err := qemu.ParseDisk("state:" + args[1])
	if err != nil {
		return err
	}
	ctx, cancel := within()
	defer cancel()
	return qemu.MakeState(ctx, ts.MkAbs(args[0]), size)
}

// makeDisk makes an empty disk, or one with the content of a file at its start.
func makeDisk(ts *script, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: disk FILE SIZE [CONTENT]")
	}
	_, size, err := qemu.ParseDisk("disk:" + args[1])
	if err != nil {
		return err
	}
	var content []byte
	if len(args) > 2 {
		content = []byte(ts.ReadFile(args[2]))
	}
	if err := os.WriteFile(ts.MkAbs(args[0]), content, 0o644); err != nil {
		return err
	}
	return os.Truncate(ts.MkAbs(args[0]), size)
}

// damage turns over every bit of the first two MiB of a slot of a disk, or of a
// file of the image in it.
func damage(ts *script, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: damage DISK SLOT [PATH]")
	}
	return inSlot(ts, args[0], args[1], func(disk *os.File, at, size int64) error {
		if len(args) > 2 {
			file, err := isoimage.Find(io.NewSectionReader(disk, at, size), size, "/"+args[2])
			if err != nil {
				return err
			}
			at += file.Offset
		}
		b := make([]byte, 2<<20)
		if _, err := disk.ReadAt(b, at); err != nil {
			return err
		}
		for n := range b {
			b[n] ^= 0xFF
		}
		_, err := disk.WriteAt(b, at)
		return err
	})
}

// flip damages one byte of a file in the image that lies in a slot of a disk:
// the byte at an offset, or one in the middle of where the file holds the bytes
// of another.
func flip(ts *script, args []string) error {
	if len(args) != 4 {
		return errors.New("usage: flip DISK SLOT PATH OFFSET|CONTENT")
	}
	return inSlot(ts, args[0], args[1], func(disk *os.File, at, size int64) error {
		file, err := isoimage.Find(io.NewSectionReader(disk, at, size), size, "/"+args[2])
		if err != nil {
			return err
		}
		offset, err := strconv.ParseInt(args[3], 10, 64)
		if err != nil {
			whole := make([]byte, file.Size)
			if _, err := disk.ReadAt(whole, at+file.Offset); err != nil {
				return err
			}
			content := ts.ReadFile(args[3])
			middle := len(content) / 2
			if offset = int64(bytes.Index(whole, []byte(content[middle:middle+64]))); offset < 0 {
				return fmt.Errorf("%s does not hold %s as it is", args[2], args[3])
			}
		}
		b := make([]byte, 1)
		if _, err := disk.ReadAt(b, at+file.Offset+offset); err != nil {
			return err
		}
		b[0] ^= 1
		ts.Logf("flip: byte %d of %s in slot %s, block %d", offset, args[2], args[1], offset/4096)
		_, err = disk.WriteAt(b, at+file.Offset+offset)
		return err
	})
}

// inSlot calls f with a disk and where in it a slot lies, in bytes.
func inSlot(ts *script, disk, slot string, f func(disk *os.File, at, size int64) error) error {
	file, err := os.OpenFile(ts.MkAbs(disk), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	parts, err := table.Read(file, size, 512)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(parts, func(p table.Partition) bool { return p.Name == layout.SlotPartition(slot) })
	if i < 0 {
		return fmt.Errorf("%s has no slot %s", disk, slot)
	}
	return f(file, parts[i].Start, parts[i].Size)
}

func isClean(ts *script, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: clean FILE")
	}
	err := clean(ts.MkAbs(args[0]))
	if neg && err == nil {
		ts.Fatalf("%s was unmounted in order", args[0])
	}
	if !neg {
		ts.Check(err)
	}
}

// clean asks the tools of ext4 itself: a journal that waits to be replayed, or
// anything that fsck would mend, is an unclean end.
func clean(disk string) error {
	out, err := exec.Command("/sbin/dumpe2fs", "-h", disk).CombinedOutput()
	if err != nil {
		return fmt.Errorf("dumpe2fs: %w: %s", err, out)
	}
	if strings.Contains(string(out), "needs_recovery") || !regexp.MustCompile(`(?m)^Filesystem state: +clean$`).Match(out) {
		return fmt.Errorf("%s was not unmounted:\n%s", disk, out)
	}
	if out, err := exec.Command("/sbin/e2fsck", "-f", "-n", disk).CombinedOutput(); err != nil {
		return fmt.Errorf("e2fsck: %w: %s", err, out)
	}
	return nil
}

// hostInNAT is this host, as guests see it.
const hostInNAT = "10.0.2.2"

func serve(ts *script, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: serve VARIABLE DIR")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(ts.MkAbs(args[1])))}
	go server.Serve(listener)
	l := labOf(ts)
	l.closers = append(l.closers, func() { server.Close() })
	ts.Setenv(args[0], fmt.Sprintf("http://%s:%d", hostInNAT, listener.Addr().(*net.TCPAddr).Port))
	return nil
}

func expand(ts *script, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: expand FILE")
	}
	return os.WriteFile(ts.MkAbs(args[0]), []byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), 0o644)
}
