package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/node/apply"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/control"
	"github.com/kedgeos/kedge/pkg/node/datasource"
	"github.com/kedgeos/kedge/pkg/node/network"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/link"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// networkPatience is how long Kubernetes waits for a first address.
const networkPatience = 15 * time.Second

// Places of the agent's own files.
const (
	keyFolder     = "/var/lib/kedge/ssh"
	fetchedKeys   = keyFolder + "/fetched_keys"
	keptStages    = "/run/kedge/agent.stages"
	keptHostname  = "/var/lib/kedge/hostname"
	machineIDFile = "/run/kedge/machine-id"
	mediumMount   = "/run/kedge/config-medium"
)

func agentCommand() *cli.Command {
	return &cli.Command{Name: "agent", Short: "the daemon that PID 1 starts", Run: func(ctx context.Context, env cli.Env) error {
		if err := noArguments(env); err != nil {
			return err
		}
		log := logrus.New()
		log.SetOutput(env.Stderr)
		log.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true})
		return newDaemon(log).run(ctx)
	}}
}

// A daemon is the agent at work.
type daemon struct {
	log  *logrus.Logger
	init *control.Client
	sys  apply.System
	net  *network.Manager
	kube *kubeKeeper // nil on a machine that keeps nothing; set before anything asks

	record boot.Record      // as PID 1 left it when the agent started
	config config.Effective // set before anything reads it

	mu          sync.Mutex
	found       []datasource.Found
	problems    []config.Problem
	stages      []boot.Mark
	node        status.Node
	login       status.Login
	ntp         string // what chronyd was given
	quiet       bool   // this boot's console has heard of the problems
	name        string // of the node; set when kube is first started
	address     string // given to kube; "" before it was started
	install     string // how an installation goes on; "" when there is none
	upgradeText string // how the last upgrade stands; "" when there was none
	held        string // for what Kubernetes is not started; "" for nothing
	onTrial     bool   // the running slot is not committed

	booted     chan struct{} // closed once it is known what this boot means for an upgrade
	bootedOnce sync.Once
}

// knowBoot tells that it is known what this boot means for an upgrade.
func (d *daemon) knowBoot() { d.bootedOnce.Do(func() { close(d.booted) }) }

func newDaemon(log *logrus.Logger) *daemon {
	d := &daemon{log: log, init: control.NewClient(""), booted: make(chan struct{})}
	d.sys.Late = func(command string, err error) {
		if err != nil {
			d.log.Warnf("late command %q: %v", command, err)
		}
	}
	return d
}

// run applies the configuration in the order of a boot and then looks after
// the node until ctx ends. Nothing in it stops the rest.
func (d *daemon) run(ctx context.Context) error {
	d.readKept()
	again := len(d.stages) > 0
	d.quiet = again
	d.stage(boot.StageAgent)
	d.readRecord()
	d.kube = d.newKubeKeeper()
	d.gather(ctx)
	d.net = network.New(network.Options{Nameservers: d.config.Kedge.DNSNameservers, Changed: d.networkChanged(ctx), Log: d.log})
	go func() {
		if err := status.Serve(ctx, status.Socket, d); err != nil {
			d.log.Error(err)
		}
	}()
	damaged := d.record.StateDamage != "" // then all is in memory: a cluster must not begin anew there
	rescue := d.record.Mode == boot.ModeRescue
	facts := apply.Facts{Hostname: d.hostname()}
	wanted := d.config.Config
	if rescue || again {
		wanted = withoutCommands(wanted)
	}
	d.do(ctx, apply.Init(wanted, facts))
	go func() {
		if err := d.net.Run(ctx); err != nil {
			d.log.Error(err)
		}
	}()
	d.startSSH(ctx)
	select {
	case <-d.net.Settled():
	case <-time.After(networkPatience):
		d.log.Warnf("no address after %s, going on without a network", networkPatience)
	case <-ctx.Done():
		return nil
	}
	d.leaseHostname(ctx)
	d.updateTime(ctx, d.net.State())
	kubeMay := rescue || d.installs() || d.mountStorage(ctx, wanted)
	d.do(ctx, apply.Boot(wanted))
	d.stage(boot.StageConfigured)
	go d.remoteKeys(ctx)
	if d.installs() {
		d.installHere(ctx)
		<-ctx.Done()
		return nil
	}
	if !rescue && !damaged {
		d.lookAfter(ctx, wanted, kubeMay, again)
	}
	<-ctx.Done()
	return nil
}

// lookAfter starts Kubernetes, once its storage is there, and all that goes on
// beside it. Commands run only in the first agent of a boot.
func (d *daemon) lookAfter(ctx context.Context, wanted config.Config, kubeMay, again bool) {
	if kubeMay {
		d.startKube(ctx)
	}
	go func() {
		if !kubeMay {
			if !d.awaitStorage(ctx, wanted) {
				return
			}
			d.startKube(ctx)
		}
		if !again {
			d.runCommands(ctx, wanted)
		}
	}()
	go d.watchNode(ctx)
	go d.upgrades(ctx)
	go d.kube.keep(ctx)
	go d.serveUpgrades(ctx)
}

// withoutCommands leaves out what may be the reason for a rescue, and what is
// done once in a boot however often the agent starts.
func withoutCommands(c config.Config) config.Config {
	c.InitCmd, c.BootCmd, c.RunCmd, c.WriteFiles = nil, nil, nil, nil
	return c
}

// stage tells that a stage of the boot is reached; each is told once, even when
// the agent starts again.
func (d *daemon) stage(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.ContainsFunc(d.stages, func(m boot.Mark) bool { return m.Name == name }) {
		return
	}
	d.stages = append(d.stages, boot.Stage(name))
	text, err := json.Marshal(d.stages)
	if err == nil {
		err = atomicfile.WriteFile(keptStages, text, 0o644)
	}
	if err != nil {
		d.log.Warn(err)
	}
}

// readKept finds out what an agent before this one has reached in this boot.
func (d *daemon) readKept() {
	text, err := os.ReadFile(keptStages)
	if err == nil {
		err = json.Unmarshal(text, &d.stages)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn(err)
	}
}

func (d *daemon) readRecord() {
	var err error
	if d.record, err = bootRecord(); err != nil {
		d.log.Warn("read boot record: ", err)
	}
}

// gather reads the configuration and tells what in it is not sound.
func (d *daemon) gather(ctx context.Context) {
	loadFirmware(ctx)
	found := datasource.Gather(ctx, datasource.System{MountPoint: mediumMount}, d.record.Mode == boot.ModeDisk)
	layers, problems := datasource.Layers(found)
	d.config = config.Merge(layers...)
	d.mu.Lock()
	d.found = found
	d.mu.Unlock()
	for _, l := range layers {
		d.log.Infof("configuration from %s", l.Source)
	}
	d.tell(append(problems, apply.Unsupported(d.config)...))
}

// loadFirmware makes the hypervisor's configuration readable on QEMU.
func loadFirmware(ctx context.Context) {
	devices, _ := filepath.Glob("/sys/bus/acpi/devices/QEMU0002:*")
	if _, err := os.Stat("/sys/firmware/qemu_fw_cfg"); err == nil || len(devices) == 0 {
		return
	}
	_ = process.Tool{Path: "modprobe", Args: []string{"qemu_fw_cfg"}}.Run(ctx) // absent: no such source
}

// tell keeps problems for the status and says each on the console.
func (d *daemon) tell(problems []config.Problem) {
	d.mu.Lock()
	d.problems = append(d.problems, problems...)
	d.mu.Unlock()
	for _, p := range problems {
		d.log.Warn("not applied: ", p)
		if d.quiet {
			continue
		}
		if err := console.Write("kedge: not applied: " + p.String() + "\n"); err != nil {
			d.log.Warn(err)
		}
	}
}

// do runs steps and makes problems of those that failed.
func (d *daemon) do(ctx context.Context, steps []apply.Step) {
	var problems []config.Problem
	for _, f := range apply.Run(ctx, d.sys, steps) {
		o := d.config.Origins[f.Key]
		if f.Key == "" || o.Source == "" {
			o.Source = "this machine"
		}
		p := config.Problem{File: o.Source, Line: o.Line, Key: f.Key, Message: f.Error()}
		if o.Line > 0 {
			p.Column = 1
		}
		problems = append(problems, p)
	}
	d.tell(problems)
}

// hostname is the name to use when the configuration has none: the one kept
// from an earlier boot, or one made of the first cable's address.
func (d *daemon) hostname() string {
	if name, err := os.ReadFile(keptHostname); err == nil && len(name) > 0 {
		return strings.TrimSpace(string(name))
	}
	if wired, err := link.Wired(); err == nil && len(wired) > 0 {
		mac := strings.ReplaceAll(wired[0].MAC.String(), ":", "")
		return "kedge-" + mac[len(mac)-6:]
	}
	if id, err := os.ReadFile(machineIDFile); err == nil && len(id) >= 6 {
		return "kedge-" + string(id[:6])
	}
	return "kedge"
}

// soundName matches names that a node can have (RFC 1123).
var soundName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9.]{0,61}[A-Za-z0-9])?$`)

// leaseHostname takes the name that a DHCP server gave, when nothing else
// named this machine, and keeps it: a node must not change its name.
func (d *daemon) leaseHostname(ctx context.Context) {
	name := d.net.State().Hostname
	if _, err := os.Stat(keptHostname); err == nil || d.config.Hostname != "" || name == "localhost" || !soundName.MatchString(name) {
		return
	}
	d.do(ctx, []apply.Step{apply.Hostname{Name: name}, apply.Write{Path: keptHostname, Data: name + "\n", Mode: 0o644}})
}

// startSSH makes the host keys, once, and starts the server.
func (d *daemon) startSSH(ctx context.Context) {
	steps := []apply.Step{apply.Dir{Path: "/var/lib/kedge", Mode: 0o755}, apply.Dir{Path: keyFolder, Mode: 0o755}, apply.Dir{Path: "/run/sshd", Mode: 0o755}}
	for _, book := range []string{"/run/utmp", "/var/log/lastlog"} { // of who logged in; sshd makes neither
		if _, err := os.Stat(book); err != nil {
			steps = append(steps, apply.Write{Path: book, Mode: 0o644})
		}
	}
	d.do(ctx, steps)
	for _, kind := range []string{"ed25519", "ecdsa"} {
		path := filepath.Join(keyFolder, "ssh_host_"+kind+"_key")
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			continue
		}
		if err := makeHostKey(ctx, kind, path); err != nil {
			d.log.Error("make SSH host key: ", err)
		}
	}
	d.setLogin(len(apply.LiteralKeys(d.config.SSHAuthorizedKeys)))
	if cached, err := os.ReadFile(fetchedKeys); err == nil && len(apply.RemoteKeys(d.config.SSHAuthorizedKeys)) > 0 {
		d.useKeys(ctx, apply.FetchedKeys(string(cached)))
	}
	d.start(ctx, "sshd")
}

// makeHostKey leaves nothing behind when the power goes in the middle.
func makeHostKey(ctx context.Context, kind, path string) error {
	temporary := path + ".new"
	for _, p := range []string{temporary, temporary + ".pub"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := (process.Tool{Path: "ssh-keygen", Args: []string{"-q", "-t", kind, "-N", "", "-C", "", "-f", temporary}}).Run(ctx); err != nil {
		return err
	}
	if err := atomicfile.Adopt(temporary+".pub", path+".pub"); err != nil {
		return err
	}
	return atomicfile.Adopt(temporary, path)
}

func (d *daemon) start(ctx context.Context, service string) {
	if err := d.init.Start(ctx, service); err != nil {
		d.log.Error(err)
		d.tell([]config.Problem{{File: "this machine", Message: err.Error()}})
	}
}

// setLogin notes who can get in.
func (d *daemon) setLogin(keys int) {
	shadow, err := os.ReadFile("/etc/shadow")
	if err != nil {
		d.log.Warn(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.login = status.Login{User: apply.User, Keys: keys, Password: apply.HasPassword(string(shadow), apply.User)}
}

// networkChanged returns what is done whenever the network is not what it was.
func (d *daemon) networkChanged(ctx context.Context) func(network.State) {
	return func(s network.State) {
		d.mu.Lock()
		before := d.address
		d.mu.Unlock()
		if before == "" { // still booting: the boot itself looks
			return
		}
		d.updateTime(ctx, s)
		if now := s.Node.String(); now != before && s.Addressed() {
			d.log.Infof("node address changes from %s to %s", before, now)
			d.giveKube(now)
			if err := d.kube.restart(ctx, func() error { return d.init.Restart(ctx, kubeService) }); err != nil {
				d.log.Error(err)
			}
		}
	}
}

// updateTime gives chronyd its servers: the user's, else those of the leases,
// else those of the image.
func (d *daemon) updateTime(ctx context.Context, s network.State) {
	servers := d.config.Kedge.NTPServers
	if d.config.Origins["kedge.ntp_servers"].Source == datasource.Image && len(s.NTP) > 0 {
		servers = nil
		for _, a := range s.NTP {
			servers = append(servers, a.String())
		}
	}
	text := strings.Join(servers, " ")
	d.mu.Lock()
	first, same := d.ntp == "", d.ntp == text
	d.ntp = text
	d.mu.Unlock()
	if same {
		return
	}
	d.do(ctx, []apply.Step{
		apply.Dir{Path: "/var/lib/chrony", Mode: 0o750, Owner: "_chrony:_chrony"},
		apply.Dir{Path: "/run/chrony", Mode: 0o750, Owner: "_chrony:_chrony"},
		apply.Chrony(servers),
	})
	if first {
		d.start(ctx, "chronyd")
	} else if err := d.init.Restart(ctx, "chronyd"); err != nil {
		d.log.Error(err)
	}
}

// startKube writes kube's arguments and has PID 1 start it. The folder of the
// socket that its pods see is there before, and stays.
func (d *daemon) startKube(ctx context.Context) {
	d.do(ctx, []apply.Step{apply.Dir{Path: ask.Folder, Mode: 0o750, Owner: fmt.Sprintf("root:%d", ask.Group)}})
	d.giveKube(d.net.State().Node.String())
	d.kube.start(ctx, func() { d.start(ctx, kubeService) })
	d.stage(boot.StageKube)
}

func (d *daemon) giveKube(address string) {
	d.mu.Lock()
	if d.name == "" {
		if name, err := os.Hostname(); err == nil {
			d.name = strings.ToLower(name)
		}
	}
	kube := apply.KubeArgs(d.config.Config, d.name, address)
	d.address = address
	d.node.Name, d.node.Role, d.node.Address = kube.NodeName(), kube.Role, address
	d.mu.Unlock()
	d.kube.setArgs(kube.Args)
	text, err := json.Marshal(kube.Args)
	if err == nil {
		err = atomicfile.WriteFile(apply.KubeArgFile, append(text, '\n'), 0o600) // the token is in it
	}
	if err != nil {
		d.log.Error(err)
	}
}

// runCommands runs what comes after the start of the services: run_cmd, then
// sources that are scripts.
func (d *daemon) runCommands(ctx context.Context, c config.Config) {
	d.do(ctx, apply.Commands(c))
	for i, f := range d.found {
		if len(f.Script) > 0 {
			path := fmt.Sprintf("/run/kedge/userdata-%d", i)
			d.do(ctx, []apply.Step{apply.Write{Path: path, Data: string(f.Script), Mode: 0o700}, apply.Command{List: f.Source, Line: path}})
		}
	}
}

// watchNode asks Kubernetes for the node: each second until it is Ready, then
// slowly.
func (d *daemon) watchNode(ctx context.Context) {
	w := status.Watcher{BootID: bootID()}
	told := false
	for ctx.Err() == nil {
		d.mu.Lock()
		name := d.node.Name
		d.mu.Unlock()
		since, held := d.kube.watch()
		w.Since = since
		n := w.Node(ctx, name)
		if held != "" {
			n.Ready, n.Reason = false, held
		}
		d.mu.Lock()
		n.Name, n.Role, n.Address = d.node.Name, d.node.Role, d.node.Address
		if n.Kubernetes == "" {
			n.Kubernetes = d.node.Kubernetes
		}
		d.node = n
		d.mu.Unlock()
		if n.Ready && !told {
			told = true
			d.stage(boot.StageReady)
		}
		delay := time.Second
		if n.Ready {
			delay = 10 * time.Second
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// Status implements status.Source.
func (d *daemon) Status(ctx context.Context) status.Status {
	s := status.Status{Version: release.Version, ID: d.record.ID, Mode: d.record.Mode, Messages: append([]string{}, d.record.Messages...)}
	s.Hostname, _ = os.Hostname()
	s.BootID = bootID()
	d.addNetwork(&s)
	services, err := d.init.Services(ctx)
	if err != nil {
		s.Messages = append(s.Messages, err.Error())
	}
	for _, svc := range services {
		s.Services = append(s.Services, status.Service{Name: svc.Name, State: string(svc.State), Pid: svc.Pid, Restarts: svc.Restarts})
	}
	s.KubeTrial = d.kube.status()
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Node, s.Login, s.Skipped = d.node, d.login, slices.Clone(d.problems)
	s.Slot, s.Trial, s.Install = d.record.Slot, d.onTrial, d.install
	addRoot(&s)
	s.Upgrade, s.Failure = d.upgradeText, failureText(failureFile)
	if s.State = damagedText(d.record); s.State == "" {
		s.State = d.held
	}
	for _, f := range d.found {
		s.Sources = append(s.Sources, f.Source)
	}
	for _, m := range append(slices.Clone(d.record.Stages), d.stages...) {
		s.Stages = append(s.Stages, status.Stage{Name: m.Name, Seconds: m.Seconds})
	}
	return s
}

// bootID is the kernel's name for this boot; the kubelet tells it to the API.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func (d *daemon) addNetwork(s *status.Status) {
	n := d.net.State()
	s.Online = n.Online
	for _, l := range n.Links {
		out := status.Link{Name: l.Name, Carrier: l.Carrier}
		for _, p := range l.Addresses {
			if !p.Addr().IsLinkLocalUnicast() {
				out.Addresses = append(out.Addresses, p.String())
				s.Addresses = append(s.Addresses, p.Addr().String())
			}
		}
		s.Links = append(s.Links, out)
	}
}

// Config implements status.Source.
func (d *daemon) Config(context.Context) []status.Value {
	var values []status.Value
	for _, l := range d.config.Leaves() {
		v := status.Value{Key: l.Key, Value: l.Value, Source: l.Origin.Source, Line: l.Origin.Line}
		if l.Secret {
			v.Value = config.Mask
		}
		values = append(values, v)
	}
	return values
}
