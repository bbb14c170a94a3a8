package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/modalias"
)

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"vm.overcommit_memory":           "vm/overcommit_memory",
		"net/ipv4/ip_forward":            "net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/1.rp_filter": "net/ipv4/conf/eth0.1/rp_filter",
		"net/ipv4/conf/eth0.1/rp_filter": "net/ipv4/conf/eth0.1/rp_filter",
	} {
		if got := sysctlPath(key); got != want {
			t.Errorf("sysctlPath(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestSetSysctlStaysInside(t *testing.T) {
	root := filepath.Join(t.TempDir(), "sys")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"/../escape", "", "a/../../escape"} {
		if err := setSysctl(root, key, "1"); err == nil {
			t.Errorf("setSysctl(%q) gives no error", key)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "../escape")); err == nil {
		t.Error("a file outside was written")
	}
}

func TestParseSysctls(t *testing.T) {
	got, err := ParseSysctls(strings.NewReader("# c\n; c\nkernel.panic = 10\n-net.x=1 2\nnonsense\n"))
	want := []Sysctl{{"kernel.panic", "10", false}, {"net.x", "1 2", true}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ParseSysctls = %+v, %v; want %+v", got, err, want)
	}
}

func TestParseEvent(t *testing.T) {
	e, ok := parseEvent([]byte("add@/devices/x\x00ACTION=add\x00MODALIAS=usb:v1\x00"))
	want := Event{"add", "/devices/x", map[string]string{"ACTION": "add", "MODALIAS": "usb:v1"}}
	if !ok || !reflect.DeepEqual(e, want) {
		t.Errorf("parseEvent = %+v, %v; want %+v", e, ok, want)
	}
	if _, ok := parseEvent([]byte("libudev\x00\xfe\xed")); ok {
		t.Error("parseEvent took a message that is not the kernel's")
	}
}

// loads is a folder of modules whose loading is written down.
func loads(t *testing.T, fail map[string]error) (*Modules, func() []string) {
	t.Helper()
	dir := t.TempDir()
	index, err := modalias.Build(strings.NewReader("alias pci:v00001AF4d*sv* virtio_pci\nalias virtio:d00000002v* virtio_blk\nalias acpi:PNP0C0C:* button\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		AliasFile: string(index.Encode()),
		"modules.dep": "kernel/virtio.ko:\nkernel/virtio_pci.ko: kernel/virtio.ko\nkernel/virtio_blk.ko: kernel/virtio.ko\n" +
			"kernel/button.ko:\nkernel/overlay.ko:\n",
		"modules.softdep": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var log []string
	m, err := openModules(dir, func(path string) error {
		mu.Lock()
		defer mu.Unlock()
		name := modalias.Name(path)
		log = append(log, name)
		return fail[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, func() []string { return log }
}

func TestLoad(t *testing.T) {
	m, log := loads(t, nil)
	if err := m.Load("virtio-blk", "overlay", "builtin_thing", "virtio_pci"); err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(slices.Values(log()))
	if want := []string{"overlay", "virtio", "virtio_blk", "virtio_pci"}; !slices.Equal(got, want) {
		t.Errorf("loaded %v, want %v", got, want)
	}
	m.Close()
	if err := m.Load("button"); !errors.Is(err, ErrClosed) || len(log()) != 4 {
		t.Errorf("Load after Close = %v, loaded %v", err, log())
	}
}

func TestLoadErrors(t *testing.T) {
	m, log := loads(t, map[string]error{"virtio": syscall.EINVAL, "button": syscall.ENODEV, "overlay": syscall.EEXIST})
	err := m.Load("virtio_blk", "button", "overlay")
	if !errors.Is(err, syscall.EINVAL) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "load module virtio: ") {
		t.Errorf("Load = %v, want one error for virtio", err)
	}
	if len(log()) != 4 {
		t.Errorf("tried %v, want all", log())
	}
	if want := []string{"button", "overlay", "virtio_blk"}; !slices.Equal(m.Loaded(), want) {
		t.Errorf("Loaded = %v, want %v", m.Loaded(), want)
	}
}

func TestColdplug(t *testing.T) {
	m, log := loads(t, nil)
	devices := t.TempDir()
	for dir, alias := range map[string]string{
		"pci0/0000:00:01.0":         "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
		"pci0/0000:00:01.0/virtio0": "virtio:d00000002v00001AF4",
		"acpi/button":               "acpi:PNP0C0C:",
		"acpi/unknown":              "acpi:NONE:",
	} {
		if err := os.MkdirAll(filepath.Join(devices, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(devices, dir, "modalias"), []byte(alias+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.coldplug(devices, 2); err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(slices.Values(log()))
	if want := []string{"button", "virtio", "virtio_blk", "virtio_pci"}; !slices.Equal(got, want) {
		t.Errorf("loaded %v, want %v", got, want)
	}
	if slices.Index(log(), "virtio") > slices.Index(log(), "virtio_pci") {
		t.Errorf("loaded %v: virtio is needed first", log())
	}
}
