package datasource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/sys/block"
	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// System is the Machine this program runs on. MountPoint is an empty folder
// for config media, made when it is missing.
type System struct{ MountPoint string }

// ReadFile implements Machine. A source larger than any sound one is refused.
func (System) ReadFile(path string) ([]byte, error) { return read(path) }

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, config.MaxSize+1))
	if err == nil && len(data) > config.MaxSize {
		err = fmt.Errorf("read %s: larger than %d MiB", path, config.MaxSize>>20)
	}
	return data, err
}

// Glob implements Machine.
func (System) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

// Times of waiting for sticks: at most settle, and until nothing was pending in
// two looks, because a disk shows a moment before its partitions.
const (
	settle     = 15 * time.Second
	settleLook = 250 * time.Millisecond
)

// Media implements Machine. It waits for a stick that the kernel is about to
// find; a machine without USB does not wait.
func (System) Media(ctx context.Context, labels []string) ([]Medium, error) {
	end, quiet := time.Now().Add(settle), true
	for first := true; ctx.Err() == nil && time.Now().Before(end); first = false {
		pending := block.USBPending() != ""
		if !pending && (quiet || first) {
			break
		}
		quiet = !pending
		time.Sleep(settleLook)
	}
	return labelled(labels)
}

func labelled(labels []string) ([]Medium, error) {
	var media []Medium
	for _, label := range labels {
		found, err := block.Find(label)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			media = append(media, Medium{Device: f.Path, Label: f.Label, Type: f.Type})
		}
	}
	return media, nil
}

// ReadMedium implements Machine. Names are found in any case, as FAT keeps
// them; the medium is never written to.
func (s System) ReadMedium(_ context.Context, m Medium, names []string) (files map[string][]byte, err error) {
	if err := os.MkdirAll(s.MountPoint, 0o700); err != nil {
		return nil, err
	}
	options := "ro,nosuid,nodev,noexec"
	if m.Type == "ext4" {
		options += ",noload"
	}
	if err := mount.Mount(mount.Spec{Source: m.Device, Target: s.MountPoint, Type: m.Type, Options: options}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, mount.Unmount(s.MountPoint)) }()
	return readFolder(s.MountPoint, names)
}

func readFolder(dir string, names []string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		if !e.Type().IsRegular() || !slices.Contains(names, name) {
			continue
		}
		data, err := read(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		files[name] = data
	}
	return files, nil
}
