package main

import (
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/host/qemu"
)

func settled(t *testing.T, args string) (runOptions, error) {
	t.Helper()
	var o runOptions
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.flags(fs)
	if err := fs.Parse(strings.Fields(args)); err != nil {
		return o, err
	}
	return o, o.settle()
}

func TestRunSettle(t *testing.T) {
	for _, c := range []struct{ name, args, wait, append string }{
		{"nothing asked for", "", "", ""},
		{"a command waits for ready", "--exec id", "ready", ""},
		{"unless told otherwise", "--exec id --wait agent", "agent", ""},
		{"figures are of a boot to ready", "--figures", "ready", ""},
		{"state needs its mode", "--state a.img", "", "kedge.mode=disk"},
		{"more parameters stay behind it", "--state a.img --append kedge.debug", "", "kedge.mode=disk kedge.debug"},
	} {
		o, err := settled(t, c.args)
		if err != nil || o.wait != c.wait || o.spec.Append != c.append || o.spec.Direct != (c.append != "") {
			t.Errorf("%s: %q gives wait %q, append %q, %v", c.name, c.args, o.wait, o.spec.Append, err)
		}
	}
	o, err := settled(t, "--network isolated --media usb --firmware uefi")
	if err != nil || !o.spec.Network.Isolated || !o.spec.Network.User || o.spec.Media != qemu.USB || o.spec.Firmware != qemu.UEFI {
		t.Errorf("settled = %+v, %v", o.spec, err)
	}
}

func TestRunRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"--wait reddy":               "the stages are",
		"--keep --detach":            "choose one",
		"--network wifi":             "choose user, isolated or none",
		"--network none --exec id":   "reach the guest through its network",
		"--network none --figures":   "reach the guest through its network",
		"--timeout soon --wait kube": "invalid value",
	} {
		if _, err := settled(t, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}
