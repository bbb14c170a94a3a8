// Package datasource gathers the configuration of this machine from everywhere
// it may stand: the image, the embed area, the hypervisor, the state disk, a
// config medium and the kernel command line. The order in this file is the
// order of weight: what comes later wins.
//
// A source that cannot be read costs only itself and becomes a problem; a
// source that is absent is no problem.
package datasource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
)

// Where sources stand on a running machine.
const (
	Image    = "/usr/lib/kedge/config.yaml"
	Embedded = "/run/kedge/medium" + isoimage.EmbedPath
	Firmware = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.kedgeos/config/raw"
	State    = "/var/lib/kedge/config.d"
	Cmdline  = "/proc/cmdline"
)

// Labels of file systems that are looked at for a config, in any case.
var Labels = []string{"kedge", "cidata"}

// A Medium is a file system with one of Labels.
type Medium struct{ Device, Label, Type string }

// A Machine is what this package needs of the system.
type Machine interface {
	ReadFile(path string) ([]byte, error)
	Glob(pattern string) ([]string, error)
	// Media returns the file systems that have one of the labels, in lower case.
	Media(ctx context.Context, labels []string) ([]Medium, error)
	// ReadMedium returns those of the named files that are on the medium.
	ReadMedium(ctx context.Context, m Medium, names []string) (map[string][]byte, error)
}

// A Found is one source with what it says.
type Found struct {
	config.Layer
	Problems []config.Problem

	passing kind   // what may be gone when the installed system starts; "" for none
	text    []byte // what was read, of a file
}

// Gather reads every source there is. State says whether the state disk is in
// use; without it config.d is not looked at.
func Gather(ctx context.Context, m Machine, state bool) []Found {
	var found []Found
	found = append(found, file(m, Image, Image, nil)...)
	found = append(found, file(m, Embedded, "embedded config.yaml", embedded)...)
	found = append(found, file(m, Firmware, "hypervisor config", nil)...)
	passing := append(media(ctx, m), kernel(m)...)
	if state {
		found = append(found, folder(m, State, passing)...)
	}
	return append(found, passing...)
}

// Layers returns what the sources say and what is wrong with them.
func Layers(found []Found) (layers []config.Layer, problems []config.Problem) {
	for _, f := range found {
		layers = append(layers, f.Layer)
		problems = append(problems, f.Problems...)
	}
	return layers, problems
}

func embedded(area []byte) ([]byte, error) { return isoimage.DecodeEmbed(area) }

// file reads one source; unwrap takes it out of what is around it.
func file(m Machine, path, name string, unwrap func([]byte) ([]byte, error)) []Found {
	data, err := m.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && unwrap != nil {
		data, err = unwrap(data)
	}
	if err != nil {
		return []Found{broken(name, err)}
	}
	return parse(name, data)
}

func parse(name string, data []byte) []Found {
	data = bytes.TrimRight(data, "\x00")
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	layer, problems := config.Parse(name, data)
	return []Found{{Layer: layer, Problems: problems, text: data}}
}

func broken(name string, err error) Found {
	p := config.Problem{File: name, Message: err.Error(), Fatal: true}
	return Found{Layer: config.Layer{Source: name}, Problems: []config.Problem{p}}
}

// folder reads the files of the state disk, but for those that stand for a source
// which is here itself.
func folder(m Machine, dir string, passing []Found) []Found {
	var names []string
	for _, ext := range []string{"*.yaml", "*.yml"} {
		matches, err := m.Glob(filepath.Join(dir, ext))
		if err != nil {
			return []Found{broken(dir, err)}
		}
		names = append(names, matches...)
	}
	slices.Sort(names)
	var found []Found
	for _, name := range names {
		if !slices.ContainsFunc(passing, func(f Found) bool { return f.replaces(filepath.Base(name)) }) {
			found = append(found, file(m, name, name, nil)...)
		}
	}
	return found
}

// wanted lists, for each label, the files that are looked for; only the first
// one found counts, except meta-data, which goes along with it.
var wanted = map[string][]string{
	"kedge":  {"config.yaml", "config.yml"},
	"cidata": {"config.yaml", "user-data", "config"},
}

func media(ctx context.Context, m Machine) []Found {
	all, err := m.Media(ctx, Labels)
	if err != nil {
		return []Found{broken("config medium", err)}
	}
	// A medium made for Kedge weighs more than one made for any cloud system.
	var found []Found
	for _, medium := range slices.SortedStableFunc(slices.Values(all), func(a, b Medium) int { return rank(a) - rank(b) }) {
		found = append(found, one(ctx, m, medium)...)
	}
	return found
}

func rank(m Medium) int { return -slices.Index(Labels, strings.ToLower(m.Label)) }

func one(ctx context.Context, m Machine, medium Medium) (found []Found) {
	name := fmt.Sprintf("medium %s (%s)", medium.Label, medium.Device)
	names := wanted[strings.ToLower(medium.Label)]
	files, err := m.ReadMedium(ctx, medium, append(slices.Clone(names), "meta-data"))
	if err != nil {
		return []Found{broken(name, err)}
	}
	defer func() { mark(found, ofMedium) }()
	if meta, ok := files["meta-data"]; ok {
		found = append(found, metadata(path.Join(name, "meta-data"), meta)...)
	}
	for _, file := range names {
		if data, ok := files[file]; ok {
			return append(found, parse(path.Join(name, file), data)...)
		}
	}
	if len(found) == 0 {
		return []Found{broken(name, fmt.Errorf("holds none of %s", strings.Join(names, ", ")))}
	}
	return found
}

// metadata takes the host name out of the meta-data of a NoCloud medium.
func metadata(name string, data []byte) []Found {
	var meta struct {
		LocalHostname string `yaml:"local-hostname"`
		Hostname      string `yaml:"hostname"`
	}
	if err := yaml.Unmarshal(data, &meta); err != nil {
		return []Found{broken(name, err)}
	}
	if meta.LocalHostname == "" {
		meta.LocalHostname = meta.Hostname
	}
	if meta.LocalHostname == "" {
		return nil
	}
	said, err := yaml.Marshal(map[string]string{"hostname": meta.LocalHostname})
	if err != nil {
		return []Found{broken(name, err)}
	}
	return parse(name, said)
}

func kernel(m Machine) []Found {
	line, err := m.ReadFile(Cmdline)
	if err != nil {
		return []Found{broken("kernel command line", err)}
	}
	layer, problems := config.FromCmdline(cmdline.Parse(string(line)))
	if len(layer.Lines) == 0 && len(problems) == 0 {
		return nil
	}
	return []Found{{Layer: layer, Problems: problems, passing: ofCmdline}}
}
