package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/format/minisign"
	"github.com/kedgeos/kedge/pkg/node/apply"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/datasource"
	"github.com/kedgeos/kedge/pkg/node/install"
	"github.com/kedgeos/kedge/pkg/sys/console"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/filelock"
	"github.com/kedgeos/kedge/pkg/sys/link"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// Files of an installation, in memory.
const (
	fetchedImage = "/run/kedge/install.iso"
	installLock  = "/run/kedge/install.lock"
	installMount = "/run/kedge/install-medium"
)

// installOptions is what "kedge install" was asked for.
type installOptions struct {
	device, image, config string
	wipe, yes, restart    bool
	keep                  bool
	takeover, powerOff    bool
	unsigned              bool // take an image that nobody has signed who is trusted
}

func installCommand() *cli.Command {
	var o installOptions
	return &cli.Command{
		Name: "install", Usage: "[flags]", Short: "install this system to a disk",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&o.device, "device", "", "`disk` to install to (default: the configuration's, or a question)")
			fs.StringVar(&o.image, "image", "", "install this image, a `file` or URL (default: the running medium)")
			fs.StringVar(&o.config, "config", "", "configuration `file` of the installed system")
			fs.BoolVar(&o.wipe, "wipe", false, "install to a disk that holds data; all of it is lost")
			fs.BoolVar(&o.keep, "no-format", false, "install to a disk with an installed Kedge and keep its state")
			fs.BoolVar(&o.takeover, "takeover", false, "replace the system that runs, which is not Kedge, by --image, from memory")
			fs.BoolVar(&o.unsigned, "allow-unsigned", false, "take an --image or install.iso_url without a signature of somebody whom this system trusts")
			fs.BoolVar(&o.powerOff, "poweroff", false, "with --takeover: power off when done, instead of a restart")
			fs.BoolVar(&o.yes, "yes", false, "ask nothing")
			fs.BoolVar(&o.restart, "reboot", false, "restart the machine when done")
		},
		Run: func(ctx context.Context, env cli.Env) error {
			if err := noArguments(env); err != nil {
				return err
			}
			if err := rootOnly("install"); err != nil {
				return err
			}
			if o.takeover {
				return installHint(takeOver(ctx, env, o))
			}
			i, err := newInstaller(ctx, o, env.Stderr)
			if err != nil {
				return installHint(err)
			}
			defer i.close()
			if !o.yes {
				t, err := console.Open("tty")
				if err != nil {
					return cli.Hint(fmt.Errorf("install: there is no terminal to ask at: %w", err), "--yes asks nothing")
				}
				defer t.Close()
				if err := i.ask(ctx, t); err != nil {
					return err
				}
			}
			if err := i.run(ctx, newTeller(env.Stderr)); err != nil {
				return installHint(err)
			}
			fmt.Fprintln(env.Stdout, "installed: take the medium out; the next start is from the disk")
			if o.restart {
				_, init := sockets()
				return initHint(init.Power(ctx, power.Reboot))
			}
			return nil
		},
	}
}

// installHint tells the way out of what a person can mend.
func installHint(err error) error {
	switch {
	case errors.Is(err, install.ErrData):
		return cli.Hint(err, "--wipe destroys what is there")
	case errors.Is(err, install.ErrDoubt), errors.Is(err, install.ErrNoDisk), errors.Is(err, install.ErrForeign):
		return cli.Hint(err, "--device names the disk; \"lsblk\" lists them")
	case errors.Is(err, install.ErrChanged):
		return cli.Hint(err, "nothing was written; look at the disk, and start again")
	case errors.Is(err, errBusy):
		return cli.Hint(err, "wait for it, or look at the other console")
	case errors.Is(err, release.ErrUnsigned), errors.Is(err, release.ErrPartial), errors.Is(err, minisign.ErrUnknownKey):
		return cli.Hint(err, "sign it with \"kedge sign\" and a key in upgrade.keys of the configuration; --allow-unsigned, or upgrade.allow_unsigned there, takes it as it is")
	}
	return err
}

// An installer is one installation.
type installer struct {
	image   *release.Image
	source  *os.File
	lock    *filelock.Lock
	medium  string // device of the running system, "" for none
	disks   []install.Disk
	config  config.Config     // of this boot, with install.* as it counts
	file    []byte            // configuration of the installed system
	kept    map[string][]byte // more of it, from sources that may go away
	answers config.Config
	wrote   bool // to a disk: what was there is no more
}

// errBusy means that another installation runs.
var errBusy = errors.New("install: another installation is running")

// newInstaller gets all that an installation needs, and tells w whom the image is
// trusted for.
func newInstaller(ctx context.Context, o installOptions, w io.Writer) (_ *installer, err error) {
	i := &installer{} // not the result, which is nil when it is closed
	defer func() {
		if err != nil {
			i.close()
		}
	}()
	if i.lock, err = filelock.Try(installLock); errors.Is(err, filelock.ErrLocked) {
		return nil, errBusy
	} else if err != nil {
		return nil, err
	}
	var record boot.Record
	if text, err := os.ReadFile(boot.RecordPath); err == nil {
		if err := json.Unmarshal(text, &record); err != nil {
			return nil, fmt.Errorf("read boot record: %w", err)
		}
	}
	found := datasource.Gather(ctx, datasource.System{MountPoint: installMount}, record.Mode == boot.ModeDisk)
	layers, _ := datasource.Layers(found)
	i.config = config.Merge(layers...).Config
	wanted := &i.config.Kedge.Install
	if o.device != "" {
		wanted.Device = o.device
	}
	wanted.Wipe, wanted.NoFormat = wanted.Wipe || o.wipe, wanted.NoFormat || o.keep
	if i.file, err = readConfig(ctx, o.config, wanted.ConfigURL); err != nil {
		return nil, err
	}
	if i.file == nil {
		var from []string
		if i.kept, from, err = datasource.Kept(found); err != nil {
			return nil, err
		}
		if len(from) > 0 {
			fmt.Fprintf(w, "kedge: install: the installed system gets a copy of this configuration: %s\n", strings.Join(from, ", "))
		}
	}
	if err = i.open(ctx, o, record.Medium, w); err != nil {
		return nil, err
	}
	i.medium = record.Medium
	i.disks, err = i.look()
	return i, err
}

// open opens the image to install; one that is not the medium that runs must be
// of somebody who is trusted.
func (i *installer) open(ctx context.Context, o installOptions, medium string, w io.Writer) (err error) {
	if i.source, err = openImage(ctx, o.image, medium, i.config.Kedge.Install.ISOURL); err != nil {
		return err
	}
	size, err := i.source.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if i.image, err = release.Open(i.source, size); err != nil {
		return fmt.Errorf("open image %s: %w", i.source.Name(), err)
	}
	if err = i.image.Manifest.Of(release.System); err != nil {
		return err
	}
	if i.source.Name() != medium { // that is what runs
		policy := i.config.Kedge.Upgrade
		policy.AllowUnsigned = policy.AllowUnsigned || o.unsigned
		return trustImage(ctx, i.image, policy, keyFiles, w)
	}
	return nil
}

// look lists the disks as they are now.
func (i *installer) look() ([]install.Disk, error) { return install.Disks(i.medium) }

func (i *installer) close() {
	if i.source != nil {
		i.source.Close()
	}
	i.lock.Unlock()
}

// readConfig returns the configuration that the installed system gets, and
// refuses one that is not sound: nobody may be there to mend it.
func readConfig(ctx context.Context, file, url string) ([]byte, error) {
	var data []byte
	var err error
	name := file
	switch {
	case file != "":
		data, err = os.ReadFile(file)
	case strings.HasPrefix(url, "/"):
		name = url
		data, err = os.ReadFile(url)
	case url != "":
		name = url
		data, err = fetch.Bytes(ctx, url, fetch.Options{})
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration to install: %w", err)
	}
	for _, p := range config.Validate(name, data) {
		if p.Fatal {
			return nil, fmt.Errorf("the configuration to install: %v", p)
		}
	}
	return data, nil
}

// openImage opens what is installed: the image that was named, the medium that
// runs, or the one that the configuration names.
func openImage(ctx context.Context, named, medium, url string) (*os.File, error) {
	if named == "" && medium != "" {
		return os.Open(medium)
	}
	if named == "" {
		named = url
	}
	if named == "" {
		return nil, errors.New("install: there is no image to install: this system was not started from a medium, and the configuration has no install.iso_url")
	}
	return openNamed(ctx, named, fetchedImage, fetch.Options{})
}

// openNamed opens a file, or what a URL leads to, which is fetched to the path
// fetched.
func openNamed(ctx context.Context, name, fetched string, o fetch.Options) (*os.File, error) {
	if !strings.Contains(name, "://") {
		return os.Open(name)
	}
	if err := fetch.File(ctx, name, fetched, o); err != nil {
		return nil, err
	}
	return os.Open(fetched)
}

// need is the smallest disk that does, in bytes; partitions that are kept are
// looked at one by one.
func (i *installer) need() int64 {
	if i.config.Kedge.Install.NoFormat {
		return 0
	}
	return install.Need(i.image.Manifest.Arch, i.image.Size)
}

// ask asks a person; what was answered counts for this installation.
func (i *installer) ask(ctx context.Context, t install.Terminal) error {
	known := install.Known{Version: i.image.Manifest.Version, Disks: i.disks, Need: i.need(), Config: i.config}
	known.Hostname, _ = os.Hostname()
	wired, err := link.Wired()
	if err != nil {
		return err
	}
	for _, l := range wired {
		state := "no cable"
		if l.Carrier {
			state = "connected"
		}
		known.Links = append(known.Links, fmt.Sprintf("%s  %s  %s", l.Name, l.MAC, state))
	}
	if i.answers, err = install.Ask(ctx, t, known); err != nil {
		return err
	}
	i.take()
	return nil
}

// take lets the answers count. Whoever named a disk by its number has seen it: what
// the configuration says about disks does not hold for it.
func (i *installer) take() {
	wanted := &i.config.Kedge.Install
	wanted.Device, wanted.Wipe = i.answers.Kedge.Install.Device, i.answers.Kedge.Install.Wipe
	wanted.Disk = config.DiskSelection{}
}

// run chooses the disk and installs to it, if it is still what was looked at.
func (i *installer) run(ctx context.Context, report install.Report) error {
	disk, err := install.Choose(i.disks, i.config.Kedge.Install, i.need())
	if err != nil {
		return err
	}
	now, err := i.look()
	if err != nil {
		return err
	}
	if disk, err = install.Unchanged(disk, now); err != nil {
		return err
	}
	keep, committed := i.config.Kedge.Install.NoFormat, ""
	if keep {
		committed, _ = install.Committed(disk) // where it cannot be read, slots tell
	}
	i.answers.Kedge.Install = config.Install{} // that was for now
	if p := i.answers.Kedge.Password; p != "" && !strings.HasPrefix(p, "$") {
		if i.answers.Kedge.Password, err = apply.Hash(p); err != nil {
			return err
		}
	}
	answers, err := config.Marshal(i.answers)
	if err != nil {
		return err
	}
	steps, err := install.Steps(install.Options{Disk: disk, Image: i.image, Config: i.file, Answers: answers, Kept: i.kept, Keep: keep, Committed: committed})
	if err != nil {
		return err
	}
	return install.Run(ctx, install.System{}, steps, func(s install.Step, done int64) {
		i.wrote = i.wrote || install.Changes(s)
		report(s, done)
	})
}

// newTeller reports to a stream: each step on a line of its own, long ones with
// every tenth of their way.
func newTeller(w io.Writer) install.Report {
	var share func(int64)
	return func(s install.Step, done int64) {
		if done == 0 {
			share = newShare(w, "install", s.Bytes())
			fmt.Fprintf(w, "kedge: install: %s\n", s)
			return
		}
		share(done)
	}
}
