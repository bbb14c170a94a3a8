package qemu

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestArgs(t *testing.T) {
	for name, o := range map[string]Options{
		"amd64-bios-cdrom": {Arch: "amd64", Accel: Software, Drives: []Drive{{File: "a,b.iso", Bus: CDROM, Boot: true}},
			Network: Network{User: true, Isolated: true, Forwards: []Forward{{Host: 2022, Port: 22}, {Host: 16443, Port: 6443}}},
			Console: "/r/console.sock", Log: "/r/console.log", QMP: "/r/qmp.sock"},
		"amd64-uefi-usb": {Arch: "amd64", Accel: KVM, Firmware: UEFI, Code: "code.fd", Vars: "vars.fd", Memory: 1024, CPUs: 1,
			Drives: []Drive{{File: "a.iso", Bus: USB, ReadOnly: true, Boot: true}, {File: "stick.img", Bus: USB}, {File: "state.img", Bus: Disk}},
			FwCfg:  []FwCfg{{"opt/org.kedgeos/config", "/r/config.yaml"}}},
		"amd64-disks": {Arch: "amd64", Accel: Software, Drives: []Drive{
			{File: "a", Bus: SATA, Boot: true}, {File: "b", Bus: MMC, Boot: true}, {File: "c", Bus: NVMe4K, Boot: true}, {File: "d", Bus: USB, Boot: true}}},
		"amd64-direct": {Arch: "amd64", Accel: Software, Kernel: "/r/vmlinuz", Initrd: "/r/initrd", Append: "kedge.id=0123 kedge.mode=live",
			Drives: []Drive{{File: "a.iso", Bus: CDROM, Boot: true}}},
		"amd64-netboot": {Arch: "amd64", Accel: Software,
			Network: Network{User: true, TFTP: "/srv", Bootfile: "boot.ipxe"}},
		"arm64-uefi-cdrom": {Arch: "arm64", Accel: Software, Code: "code.fd", Vars: "vars.fd",
			Drives: []Drive{{File: "a.iso", Bus: CDROM, Boot: true}}},
		"switch-and-nat": {Arch: "amd64", Accel: Software,
			Network: Network{User: true, Switch: "/r/switch.sock", MAC: "52:54:00:00:00:01", Forwards: []Forward{{Host: 1, Port: 22, Guest: "10.0.2.16"}}}},
		"write-log":   {Arch: "amd64", Accel: Software, Drives: []Drive{{File: "a,b.img", Bus: Disk, Boot: true, Log: "a.log"}}},
		"switch-only": {Arch: "amd64", Accel: Software, Network: Network{Switch: "/r/switch.sock"}},
	} {
		t.Run(name, func(t *testing.T) {
			args, err := o.Args()
			if err != nil {
				t.Fatal(err)
			}
			// One option and its value a line.
			got := strings.ReplaceAll(strings.Join(args, " ")+"\n", " -", "\n-")
			golden := filepath.Join("testdata", name+".args")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("Args =\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestArgsRefused(t *testing.T) {
	for want, o := range map[string]Options{
		`architecture "riscv64"`: {Arch: "riscv64", Accel: Software},
		"arm64 has no BIOS":      {Arch: "arm64", Accel: Software, Firmware: BIOS},
		"no UEFI firmware":       {Arch: "amd64", Accel: Software, Firmware: UEFI},
		`firmware "coreboot"`:    {Arch: "amd64", Accel: Software, Firmware: "coreboot"},
		"no accelerator":         {Arch: "amd64"},
		"only a raw drive":       {Arch: "amd64", Accel: Software, Drives: []Drive{{File: "a", Bus: NVMe, Log: "b"}}},
		`drive kind "floppy"`:    {Arch: "amd64", Accel: Software, Drives: []Drive{{File: "a", Bus: "floppy"}}},
	} {
		if _, err := o.Args(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Args(%+v) = %v, want an error with %q", o, err, want)
		}
	}
}
