// Package qemu runs an image in a virtual machine: it chooses firmware and
// accelerator, makes QEMU's argument list, reads the console, speaks to the
// machine over QMP and to the guest over SSH.
//
// Options.Args is a pure function. Launch does the rest: one folder per
// machine holds its sockets, its console log, its key and its copies of files;
// it goes with the machine. Memory is MiB, disk sizes are bytes, stage times
// are seconds since the kernel's start (from the guest) and durations since
// QEMU's start (from the host's clock).
//
// Sources: QEMU 7.2 invocation manual; QEMU Machine Protocol specification;
// the stages and their console lines are this project's own.
package qemu

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Firmware starts the boot loader.
type Firmware string

// The firmware kinds; arm64 machines have UEFI only.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Bus says what a drive looks like to the machine.
type Bus string

// The kinds of drive: a CD-ROM, a USB stick, and disks: virtio's, NVMe, NVMe with
// sectors of 4096 bytes, SATA, and an SD card.
const (
	CDROM Bus = "cdrom"
	USB   Bus = "usb"
	Disk  Bus = "disk"
	NVMe  Bus = "nvme"
	SATA  Bus = "sata" // amd64 only

	NVMe4K Bus = "nvme4k"
	MMC    Bus = "mmc" // a file whose size is a power of two
)

// A Drive is one medium or disk. Boot drives are tried in the order of the list.
type Drive struct {
	File     string
	Bus      Bus
	Format   string // "" means raw
	ReadOnly bool
	Boot     bool

	// Log is an empty file in which QEMU notes every write and flush of the disk,
	// with their data, in the format of Linux's dm-log-writes; "" means none. Only
	// raw files on the bus Disk can have one. Such a disk offers neither discard
	// nor "write zeroes", which QEMU 7.2 cannot note while other requests run, and
	// its requests are not merged, since a long one has no room for the note.
	Log string
}

// A Forward leads a TCP port of the host's loopback address to one of the
// guest. Guest is "" for the machine itself, or an address of its network.
type Forward struct {
	Host, Port int
	Guest      string
}

// A Network is what the machine's only network card is plugged into. The zero
// value is no card at all.
type Network struct {
	User     bool // QEMU's own NAT with DHCP, DNS and 10.0.2.2 for the host
	Isolated bool // with User: DHCP answers, but nothing can be reached
	Forwards []Forward
	TFTP     string // with User: folder served by TFTP
	Bootfile string // with User: file in it that DHCP names to the boot ROM
	Switch   string // Unix socket of a Switch: the card is plugged in there, and so is the NAT
	MAC      string // "" means QEMU's default
}

func (n Network) card() bool { return n.User || n.Switch != "" }

// A FwCfg hands a file of the host to the guest by name.
type FwCfg struct{ Name, File string }

// Options describe one machine. Arch, Accel and, with UEFI, Code and Vars are
// required.
type Options struct {
	Arch     string   // amd64 or arm64
	Machine  string   // "" means pc for BIOS, q35 for UEFI, virt for arm64
	Firmware Firmware // "" means BIOS on amd64 and UEFI on arm64
	Code     string   // UEFI firmware
	Vars     string   // UEFI variables; QEMU writes them
	Accel    Accelerator
	Memory   int       // MiB; 0 means DefaultMemory
	CPUs     int       // 0 means DefaultCPUs
	Clock    time.Time // of the machine at its start; zero means now
	Drives   []Drive
	Kernel   string // boots this directly, without a boot loader
	Initrd   string
	Append   string
	Network  Network
	FwCfg    []FwCfg
	Console  string // Unix socket of the serial console; QEMU waits for its reader
	Log      string // file with a copy of the console
	QMP      string // Unix socket of the control connection
}

// Defaults of a machine.
const (
	DefaultMemory = 2048
	DefaultCPUs   = 2
)

// normal fills in what was left out.
func (o Options) normal() Options {
	if o.Firmware == "" {
		o.Firmware = defaultFirmware(o.Arch)
	}
	if o.Machine == "" {
		o.Machine = map[Firmware]string{BIOS: "pc", UEFI: "q35"}[o.Firmware]
		if o.Arch == "arm64" {
			o.Machine = "virt"
		}
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.CPUs == 0 {
		o.CPUs = DefaultCPUs
	}
	return o
}

func defaultFirmware(arch string) Firmware {
	if arch == "arm64" {
		return UEFI
	}
	return BIOS
}

// Args returns QEMU's arguments, the program first.
func (o Options) Args() ([]string, error) {
	o = o.normal()
	if err := o.check(); err != nil {
		return nil, err
	}
	a := &arguments{program(o.Arch)}
	a.add("-nodefaults", "-no-user-config", "-display", "none")
	a.add("-machine", o.Machine, "-accel", string(o.Accel), "-cpu", o.cpu())
	a.add("-smp", fmt.Sprint(o.CPUs), "-m", fmt.Sprint(o.Memory))
	if !o.Clock.IsZero() {
		a.add("-rtc", "base="+o.Clock.UTC().Format("2006-01-02T15:04:05"))
	}
	o.control(a)
	o.firmware(a)
	o.drives(a)
	o.network(a)
	a.add("-device", "virtio-rng-pci")
	for _, f := range o.FwCfg {
		a.add("-fw_cfg", fmt.Sprintf("name=%s,file=%s", f.Name, escape(f.File)))
	}
	return *a, nil
}

type arguments []string

func (a *arguments) add(s ...string) { *a = append(*a, s...) }

// escape writes a value into an option list, where a comma ends it.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func program(arch string) string {
	return map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}[arch]
}

func (o Options) check() error {
	switch {
	case program(o.Arch) == "":
		return fmt.Errorf("virtual machine: architecture %q is not amd64 or arm64", o.Arch)
	case o.Firmware != BIOS && o.Firmware != UEFI:
		return fmt.Errorf("virtual machine: firmware %q is not bios or uefi", o.Firmware)
	case o.Arch == "arm64" && o.Firmware == BIOS:
		return fmt.Errorf("virtual machine: arm64 has no BIOS")
	case o.Firmware == UEFI && (o.Code == "" || o.Vars == ""):
		return fmt.Errorf("virtual machine: no UEFI firmware given")
	case o.Accel == "":
		return fmt.Errorf("virtual machine: no accelerator given")
	}
	for _, d := range o.Drives {
		if !slices.Contains([]Bus{CDROM, USB, Disk, NVMe, NVMe4K, SATA, MMC}, d.Bus) {
			return fmt.Errorf("virtual machine: %s: drive kind %q is not cdrom, usb, disk, nvme, nvme4k, sata or mmc", d.File, d.Bus)
		}
		if d.Log != "" && (d.Bus != Disk || d.Format != "" && d.Format != "raw") {
			return fmt.Errorf("virtual machine: %s: only a raw drive of the kind disk can have its writes logged", d.File)
		}
	}
	return nil
}

// cpu is the host's own with hardware help; in software, all QEMU knows. On
// arm64 that includes pointer authentication, whose true algorithm would cost
// most of the time.
func (o Options) cpu() string {
	switch {
	case o.Accel == KVM:
		return "host"
	case o.Arch == "arm64":
		return "max,pauth-impdef=on"
	}
	return "max"
}

// control is the console and QMP. A screen is there on amd64, because a BIOS
// boot loader writes to one.
func (o Options) control(a *arguments) {
	if o.Arch == "amd64" {
		a.add("-device", "VGA")
	}
	if o.Console != "" {
		chardev := "socket,id=console,server=on,wait=on,path=" + escape(o.Console)
		if o.Log != "" {
			chardev += ",logfile=" + escape(o.Log)
		}
		a.add("-chardev", chardev, "-serial", "chardev:console")
	}
	if o.QMP != "" {
		a.add("-qmp", "unix:"+escape(o.QMP)+",server=on,wait=off")
	}
}

func (o Options) firmware(a *arguments) {
	if o.Firmware == UEFI {
		a.add("-drive", "if=pflash,format=raw,readonly=on,file="+escape(o.Code))
		a.add("-drive", "if=pflash,format=raw,file="+escape(o.Vars))
	}
	if o.Kernel != "" {
		a.add("-kernel", o.Kernel, "-initrd", o.Initrd, "-append", o.Append)
	}
}

func (o Options) drives(a *arguments) {
	boot := 0
	if o.Network.Bootfile != "" {
		boot++ // the network card comes first
	}
	var scsi, xhci bool
	sata := 0
	for i, d := range o.Drives {
		id := fmt.Sprintf("drive%d", i)
		format := d.Format
		if format == "" {
			format = "raw"
		}
		drive := fmt.Sprintf("if=none,id=%s,format=%s,file=%s", id, format, escape(d.File))
		if d.Log != "" {
			drive = fmt.Sprintf("if=none,id=%s,driver=blklogwrites,log-sector-size=512,file.driver=file,file.filename=%s,log.driver=file,log.filename=%s",
				id, escape(d.File), escape(d.Log))
		}
		if d.Bus == CDROM {
			drive += ",media=cdrom"
		}
		if d.ReadOnly || d.Bus == CDROM {
			drive += ",readonly=on"
		}
		device := o.device(d.Bus)
		if o.Machine == "q35" && strings.HasPrefix(device, "ide-") { // a SATA port has one drive
			device += fmt.Sprintf(",bus=ide.%d", sata)
			sata++
		}
		if device == "scsi-cd" && !scsi {
			scsi = true
			a.add("-device", "virtio-scsi-pci")
		}
		if d.Bus == USB && !xhci {
			xhci = true
			a.add("-device", "qemu-xhci")
		}
		device += ",id=" + id + "-dev,drive=" + id
		if d.Bus == MMC {
			a.add("-device", "sdhci-pci")
		}
		if d.Bus == NVMe || d.Bus == NVMe4K || d.Bus == SATA || d.Bus == Disk {
			device += ",serial=kedge-" + id
		}
		if d.Log != "" {
			device += ",discard=off,write-zeroes=off,request-merging=off"
		}
		if d.Boot && o.Kernel == "" && d.Bus != MMC { // a kernel given directly has place 0 itself
			device += fmt.Sprintf(",bootindex=%d", boot)
			boot++
		}
		a.add("-drive", drive, "-device", device)
	}
}

func (o Options) device(bus Bus) string {
	switch {
	case bus == USB:
		return "usb-storage"
	case bus == NVMe:
		return "nvme"
	case bus == NVMe4K:
		return "nvme,logical_block_size=4096,physical_block_size=4096"
	case bus == MMC:
		return "sd-card"
	case bus == SATA:
		return "ide-hd"
	case bus == CDROM && o.Arch == "arm64":
		return "scsi-cd"
	case bus == CDROM:
		return "ide-cd"
	}
	return "virtio-blk-pci"
}

// network plugs the card into the NAT or into the switch. With both, the NAT
// has a plug of its own in the switch: another machine's packets pass it by.
func (o Options) network(a *arguments) {
	n := o.Network
	if !n.card() {
		a.add("-nic", "none")
		return
	}
	card := "nat"
	if n.User {
		a.add("-netdev", n.nat())
	}
	if n.Switch != "" {
		card = "lan"
		a.add("-netdev", n.plug("lan"))
	}
	if n.User && n.Switch != "" {
		a.add("-netdev", n.plug("uplink"))
		a.add("-netdev", "hubport,id=hub-nat,hubid=0,netdev=nat", "-netdev", "hubport,id=hub-uplink,hubid=0,netdev=uplink")
	}
	device := "virtio-net-pci,netdev=" + card
	if n.MAC != "" {
		device += ",mac=" + n.MAC
	}
	if n.Bootfile != "" {
		device += ",bootindex=0"
	} else {
		device += ",romfile=" // no boot ROM: no wait for a network boot
	}
	a.add("-device", device)
}

func (n Network) plug(id string) string {
	return fmt.Sprintf("stream,id=%s,server=off,addr.type=unix,addr.path=%s", id, escape(n.Switch))
}

func (n Network) nat() string {
	s := "user,id=nat"
	if n.Isolated {
		s += ",restrict=on"
	}
	if n.TFTP != "" {
		s += ",tftp=" + escape(n.TFTP)
	}
	if n.Bootfile != "" {
		s += ",bootfile=" + escape(n.Bootfile)
	}
	for _, f := range n.Forwards {
		s += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-%s:%d", f.Host, f.Guest, f.Port)
	}
	return s
}
