package boot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
)

// LinkDisks keeps links to disks and partitions in the folders by-label, by-uuid,
// by-partlabel, by-partuuid and by-id of /dev/disk, until ctx ends.
func LinkDisks(ctx context.Context) error {
	events, err := kernel.Events(ctx)
	if err != nil {
		return err
	}
	if err := linkDisks(); err != nil {
		return err
	}
	for e := range events {
		if e.Values["SUBSYSTEM"] == "block" || e.Action == "overrun" {
			if err := linkDisks(); err != nil {
				return err
			}
		}
	}
	return nil
}

func linkDisks() error {
	devices, err := block.List()
	if err != nil {
		return err
	}
	block.ReadPartUUIDs(devices)
	want := map[string]string{}
	for _, d := range devices {
		if d.Size == 0 {
			continue
		}
		fs, _ := block.ProbeDevice(d) // none is no label
		id := ""
		if !d.Partition {
			id = hardwareID(block.Describe(d))
		}
		addDiskLinks(want, d, fs, id)
	}
	return replaceLinks("/dev/disk", want)
}

// addDiskLinks adds the links of one device, path below /dev/disk to target.
// The first device keeps a name that two of them have: whole disks come first.
func addDiskLinks(links map[string]string, d block.Device, fs block.FileSystem, id string) {
	target := "../../" + strings.TrimPrefix(d.Path, "/dev/")
	for folder, name := range map[string]string{
		"by-label": fs.Label, "by-uuid": fs.UUID, "by-partlabel": d.PartName, "by-partuuid": d.PartUUID, "by-id": id,
	} {
		path := filepath.Join(folder, escapeName(name))
		if _, taken := links[path]; name != "" && !taken {
			links[path] = target
		}
	}
}

// hardwareID names a disk as udev does, by what its hardware says: transport,
// model and serial number. Without a serial number there is none.
func hardwareID(h block.Hardware) string {
	if h.Serial == "" || h.Transport == "" {
		return ""
	}
	transport := map[string]string{"sata": "ata"}[h.Transport]
	if transport == "" {
		transport = h.Transport
	}
	name := h.Serial
	if h.Model != "" {
		name = h.Model + "_" + name
	}
	return transport + "-" + strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == ' ' || r == '/' }), "_")
}

// escapeName writes a label as the name of a link, the way udev does.
func escapeName(label string) string {
	var b strings.Builder
	for _, c := range []byte(label) {
		if c > 0x7F || c == '_' || strings.IndexByte("#+-.:=@", c) >= 0 || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// replaceLinks makes the links below dir be exactly those that are wanted.
func replaceLinks(dir string, want map[string]string) error {
	old, _ := filepath.Glob(filepath.Join(dir, "by-*", "*"))
	for _, path := range old {
		name, _ := filepath.Rel(dir, path)
		if _, keep := want[name]; !keep {
			os.Remove(path)
		}
	}
	for name, target := range want {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := (Host{}).Symlink(target, path); err != nil {
			return err
		}
	}
	return nil
}
