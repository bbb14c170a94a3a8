package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
)

func TestMountPoint(t *testing.T) {
	for path, says := range map[string]string{
		"/var/lib/rancher/k3s/storage": "", "/var/data": "", "/mnt": "", "/mnt/data": "", "/srv": "", "/media/x": "", "/opt/app": "", "/home/kedge": "", "/usr/local/big": "",
		"/var/lib/rancher": "", "/var/log/pods": "",
		"/var": "a folder below", "/opt": "a folder below", "/": "a folder below", "/etc/x": "a folder below", "/usr": "a folder below",
		"/var/lib/kedge": "needs /var/lib/kedge", "/var/lib": "needs /var/lib/kedge", "/var/lib/kedge/config.d": "needs", "/var/log": "needs", "/var/run/x": "needs", "/var/home": "needs",
		"var/data": "absolute", "/var/../etc": "absolute", "/var/data/": "absolute",
	} {
		err := checkMountPoint("", path)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
}

func TestStorage(t *testing.T) {
	const text = `kedge:
  storage:
  - path: /var/data
    match: {serial: "S*", min_size: 100GB}
    required: true
  - path: /mnt/usb
    device: /dev/sdb1
    filesystem: vfat
    format: never
  - path: /var/bad
    match: {transport: pigeon}
  - path: /etc
    device: /dev/sdc
`
	layer, problems := Parse("f", []byte(text))
	want := []Storage{
		{Path: "/var/data", Match: DiskMatch{Serial: "S*", MinSize: "100GB"}, Required: true},
		{Path: "/mnt/usb", Device: "/dev/sdb1", Filesystem: "vfat", Format: FormatNever},
	}
	if !reflect.DeepEqual(layer.Config.Kedge.Storage, want) || len(problems) != 2 {
		t.Errorf("Parse = %+v, %v", layer.Config.Kedge.Storage, problems)
	}
	other, _ := Parse("g", []byte("kedge: {storage: [{path: /mnt/usb, label: usb}]}"))
	e := Merge(layer, other)
	want[1] = Storage{Path: "/mnt/usb", Label: "usb"}
	if !reflect.DeepEqual(e.Kedge.Storage, want) {
		t.Errorf("Merge = %+v", e.Kedge.Storage)
	}
	shown := map[string]string{}
	for _, l := range e.Leaves() {
		shown[l.Key] = l.Value + " from " + l.Origin.String()
	}
	for key, value := range map[string]string{
		"kedge.storage[0].match.serial": "S* from f:3", "kedge.storage[0].required": "true from f:3", "kedge.storage[1].label": "usb from g:1",
	} {
		if shown[key] != value {
			t.Errorf("%s = %q, want %q", key, shown[key], value)
		}
	}
	if _, wrong := shown["kedge.storage[1].required"]; wrong {
		t.Error("a value that is not set is shown")
	}
	line, problems := FromCmdline(cmdline.Parse("kedge.storage.path=/var/a kedge.storage.match.serial=S1 kedge.storage.match.model=M kedge.storage.path=/var/b kedge.storage.label=x"))
	if want := []Storage{{Path: "/var/a", Match: DiskMatch{Serial: "S1", Model: "M"}}, {Path: "/var/b", Label: "x"}}; !reflect.DeepEqual(line.Config.Kedge.Storage, want) || len(problems) > 0 {
		t.Errorf("FromCmdline = %+v, %v", line.Config.Kedge.Storage, problems)
	}
}
