package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/api/layout"
	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/node/install"
)

// smallImage makes an image with an embed area.
func smallImage(t *testing.T, configuration string) *release.Image {
	t.Helper()
	m := release.Manifest{Schema: release.Schema, Name: "kedge", Version: "0.1.0", Arch: "amd64", Kernel: "6.12"}
	m.ID = m.ComputeID()
	area, err := isoimage.EncodeEmbed([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	folder, file := t.TempDir(), filepath.Join(t.TempDir(), "image.iso")
	for name, data := range map[string][]byte{release.ManifestPath: m.Encode(), isoimage.EmbedPath: area} {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", release.VolumeID, "-o", file, folder).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	iso, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	i, err := release.Open(bytes.NewReader(iso), int64(len(iso)))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestSilentChoice(t *testing.T) {
	image := smallImage(t, "hostname: stick\n")
	const size = 64e9
	parts, err := layout.Plan("amd64", size, 0)
	if err != nil {
		t.Fatal(err)
	}
	blank := install.Disk{Path: "/dev/sda", Size: size, Transport: "sata"}
	data := blank
	data.Holds = []string{"a partition table with 2 partitions"}
	ours := data
	ours.Ours, ours.Parts, ours.Path = true, parts, filepath.Join(t.TempDir(), "disk")
	disk, err := os.Create(ours.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	content := make([]byte, image.Size)
	if _, err := image.Reader().ReadAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.WriteAt(content, parts[2].Start); err != nil {
		t.Fatal(err)
	}
	if err := disk.Truncate(size); err != nil {
		t.Fatal(err)
	}
	wipe, keep := config.Install{Wipe: true}, config.Install{NoFormat: true}
	byDevice, bySize := wipe, wipe
	byDevice.Device, bySize.Disk.Match.MinSize = "/dev/sda", "1GB"
	another := smallImage(t, "hostname: kept-it\n")
	for _, c := range []struct {
		name     string
		disks    []install.Disk
		image    *release.Image
		wanted   config.Install
		fallback bool
		says     string // "" when it is installed
		is       error
	}{
		{"a blank disk", []install.Disk{blank}, image, config.Install{}, false, "", nil},
		{"the stick was left in", []install.Disk{ours}, image, config.Install{}, false, "or set install.wipe", errInstalled},
		{"the stick was left in, to wipe", []install.Disk{ours}, image, wipe, false, "install the same once more", errInstalled},
		{"the stick was left in, to keep the state", []install.Disk{ours}, image, keep, false, "install the same once more", errInstalled},
		{"another configuration, to keep the state", []install.Disk{ours}, another, keep, false, "", nil},
		{"another configuration, to wipe", []install.Disk{ours}, another, wipe, false, "", nil},
		{"wipes", []install.Disk{data}, image, wipe, false, "", nil},
		{"falls back to a blank disk", []install.Disk{blank}, image, wipe, true, "", nil},
		{"falls back, wipes whatever there is", []install.Disk{data}, image, wipe, true, "install.wipe wants install.device or install.disk.match", nil},
		{"falls back, wipes a disk by name", []install.Disk{data}, image, byDevice, true, "", nil},
		{"falls back, wipes a disk by size", []install.Disk{data}, image, bySize, true, "", nil},
		{"falls back, its disk was late", []install.Disk{ours}, another, wipe, true, "holds an installed system, and was not there in time", nil},
		{"falls back, its disk was late, and another is named", []install.Disk{ours, blank}, another, byDevice, true, "holds an installed system", nil},
		{"falls back, to keep a state", []install.Disk{ours}, another, keep, true, "holds an installed system", nil},
	} {
		i := &installer{image: c.image, disks: c.disks}
		i.config.Kedge.Install = c.wanted
		_, err := i.silentChoice(c.wanted, c.fallback)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || errors.Is(err, errInstalled) != (c.is != nil) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

// TestSettled: a disk that appears late is seen before one is chosen.
func TestSettled(t *testing.T) {
	defer func(before time.Duration) { disksPause = before }(disksPause)
	disksPause = 0
	a, b := install.Disk{Path: "/dev/sda"}, install.Disk{Path: "/dev/sdb"}
	looks := [][]install.Disk{{a, b}, {a, b}, {a}}
	look := func() ([]install.Disk, error) {
		now := looks[0]
		looks = looks[1:]
		return now, nil
	}
	got, err := settled(t.Context(), []install.Disk{a}, look)
	if err != nil || len(got) != 2 || len(looks) != 1 {
		t.Errorf("settled = %v, %v; %d looks left", got, err, len(looks))
	}
	if _, err := settled(t.Context(), nil, func() ([]install.Disk, error) { return nil, os.ErrPermission }); !errors.Is(err, os.ErrPermission) {
		t.Errorf("settled = %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	disksPause = time.Hour
	if _, err := settled(ended, nil, look); !errors.Is(err, context.Canceled) {
		t.Errorf("settled = %v", err)
	}
}

// TestTake: a disk that was picked by its number is not refused by what the
// configuration says of disks.
func TestTake(t *testing.T) {
	i := &installer{}
	i.config.Kedge.Install.Disk.Match = config.DiskMatch{Model: "fast*", Serial: "B"}
	i.answers.Kedge.Install = config.Install{Device: "/dev/sda", Wipe: true}
	i.take()
	disks := []install.Disk{{Path: "/dev/sda", Size: 64e9, Holds: []string{"data"}}, {Path: "/dev/sdb", Size: 64e9, Serial: "B", Model: "fast"}}
	if d, err := install.Choose(disks, i.config.Kedge.Install, 3e9); err != nil || d.Path != "/dev/sda" {
		t.Errorf("Choose = %v, %v", d, err)
	}
}

// A takeover ends by itself only as long as there is a system to go back to.
func TestGoesBack(t *testing.T) {
	for _, c := range []struct {
		takeover, wrote bool
		tried           time.Duration
		want            bool
	}{
		{true, false, takeoverPatience + 1, true},
		{true, false, takeoverPatience, false},
		{true, true, time.Hour, false},
		{false, false, time.Hour, false},
	} {
		if got := goesBack(c.takeover, c.wrote, c.tried); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
