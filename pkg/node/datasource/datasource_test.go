package datasource

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
)

// A machine holds files and media in memory.
type machine struct {
	files    map[string]string
	media    []Medium
	contents map[string]map[string]string // by device
}

func (m machine) ReadFile(path string) ([]byte, error) {
	text, ok := m.files[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

func (m machine) Glob(pattern string) (found []string, err error) {
	for path := range m.files {
		if ok, _ := filepath.Match(pattern, path); ok {
			found = append(found, path)
		}
	}
	return found, nil
}

func (m machine) Media(context.Context, []string) ([]Medium, error) { return m.media, nil }

func (m machine) ReadMedium(_ context.Context, medium Medium, names []string) (map[string][]byte, error) {
	all, ok := m.contents[medium.Device]
	if !ok {
		return nil, errors.New("mount: input/output error")
	}
	found := map[string][]byte{}
	for name, text := range all {
		if slices.Contains(names, name) {
			found[name] = []byte(text)
		}
	}
	return found, nil
}

func embed(t *testing.T, text string) string {
	t.Helper()
	area, err := isoimage.EncodeEmbed([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(area)
}

func TestGather(t *testing.T) {
	all := machine{
		files: map[string]string{
			Image:                "hostname: image\nkedge:\n  labels: {a: image, b: image}\n",
			Embedded:             embed(t, "hostname: embedded\n"),
			Firmware:             "hostname: firmware\n\x00\x00",
			State + "/20-b.yaml": "hostname: state-b\n",
			State + "/10-a.yaml": "hostname: state-a\nkedge:\n  labels: {a: state}\n",
			State + "/readme":    "hostname: no\n",
			Cmdline:              "quiet kedge.mode=disk hostname=cmdline\n",
		},
		media: []Medium{{"/dev/sdb1", "KEDGE", "vfat"}, {"/dev/sr0", "cidata", "iso9660"}},
		contents: map[string]map[string]string{
			"/dev/sdb1": {"config.yaml": "hostname: stick\n"},
			"/dev/sr0":  {"user-data": "#cloud-config\nhostname: cloud\n", "meta-data": "instance-id: i\nlocal-hostname: meta\n"},
		},
	}
	for _, c := range []struct {
		name     string
		change   func(*machine)
		live     bool
		want     string   // the host name in effect
		sources  []string // in order
		problems []string
	}{
		{name: "all of them", want: "cmdline", sources: []string{Image, "embedded config.yaml", "hypervisor config", State + "/10-a.yaml", State + "/20-b.yaml",
			"medium cidata (/dev/sr0)/meta-data", "medium cidata (/dev/sr0)/user-data", "medium KEDGE (/dev/sdb1)/config.yaml", "kernel command line"}},
		{name: "nothing but a command line", change: func(m *machine) {
			m.files, m.media = map[string]string{Cmdline: "quiet"}, nil
		}},
		{name: "live: no state", live: true, change: func(m *machine) { m.media = nil; m.files[Cmdline] = "" }, want: "firmware",
			sources: []string{Image, "embedded config.yaml", "hypervisor config"}},
		{name: "a damaged embed area costs only itself", live: true,
			change: func(m *machine) {
				m.media = nil
				m.files[Embedded] = "KEDGE-EMBED 1 99 00\n"
				delete(m.files, Firmware)
			},
			want: "cmdline", sources: []string{Image, "embedded config.yaml", "kernel command line"},
			problems: []string{"embedded config.yaml: embed area is damaged"}},
		{name: "a stick that cannot be read", live: true,
			change: func(m *machine) { m.contents = nil; m.media = m.media[:1]; m.files[Cmdline] = "" },
			want:   "firmware", sources: []string{Image, "embedded config.yaml", "hypervisor config", "medium KEDGE (/dev/sdb1)"},
			problems: []string{"medium KEDGE (/dev/sdb1): mount: input/output error"}},
		{name: "a stick with nothing on it", live: true,
			change: func(m *machine) {
				m.contents = map[string]map[string]string{"/dev/sdb1": {}}
				m.media = m.media[:1]
				m.files = map[string]string{Cmdline: ""}
			},
			sources: []string{"medium KEDGE (/dev/sdb1)"}, problems: []string{"medium KEDGE (/dev/sdb1): holds none of config.yaml, config.yml"}},
		{name: "one bad key", live: true,
			change: func(m *machine) {
				m.media = nil
				m.files = map[string]string{Image: "hostnam: x\nhostname: y\n", Cmdline: ""}
			},
			want: "y", sources: []string{Image}, problems: []string{Image + ":1:1: hostnam:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := all
			m.files = map[string]string{}
			for k, v := range all.files {
				m.files[k] = v
			}
			if c.change != nil {
				c.change(&m)
			}
			found := Gather(context.Background(), m, !c.live)
			var sources []string
			for _, f := range found {
				sources = append(sources, f.Source)
			}
			if !slices.Equal(sources, c.sources) {
				t.Errorf("sources\n%q\nwant\n%q", sources, c.sources)
			}
			layers, problems := Layers(found)
			if got := config.Merge(layers...).Hostname; got != c.want {
				t.Errorf("hostname %q, want %q", got, c.want)
			}
			if len(problems) != len(c.problems) {
				t.Fatalf("problems %v, want %q", problems, c.problems)
			}
			for i, p := range problems {
				if !strings.HasPrefix(p.String(), c.problems[i]) {
					t.Errorf("problem %q, want %q", p, c.problems[i])
				}
			}
		})
	}
}

// What an installation takes along stands for sources that are away, and for those
// only: a command that both have is run once.
func TestKept(t *testing.T) {
	line := "quiet kedge.mode=install kedge.install.silent kedge.server_url=https://one:6443 hostname=line\n"
	m := machine{
		files: map[string]string{Cmdline: line},
		media: []Medium{{"/dev/sdb1", "KEDGE", "vfat"}, {"/dev/sr0", "cidata", "iso9660"}},
		contents: map[string]map[string]string{
			"/dev/sdb1": {"config.yaml": "run_cmd: [stick]\nkedge: {install: {silent: true}}\n"},
			"/dev/sr0":  {"user-data": "#cloud-config\nrun_cmd: [disc]\n", "meta-data": "local-hostname: meta\n"},
		},
	}
	files, from, err := Kept(Gather(t.Context(), m, false))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"medium cidata (/dev/sr0)/meta-data", "medium cidata (/dev/sr0)/user-data", "medium KEDGE (/dev/sdb1)/config.yaml", config.CmdlineSource}; !slices.Equal(from, want) {
		t.Errorf("from %q, want %q", from, want)
	}
	installed := machine{files: map[string]string{Cmdline: "quiet kedge.mode=disk"}, contents: m.contents}
	for name, text := range files {
		installed.files[State+"/"+name] = string(text)
	}
	in := func() (config.Config, []string) {
		layers, problems := Layers(Gather(t.Context(), installed, true))
		if len(problems) > 0 {
			t.Error(problems)
		}
		var sources []string
		for _, l := range layers {
			sources = append(sources, l.Source)
		}
		return config.Merge(layers...).Config, sources
	}
	away, sources := in()
	if away.Hostname != "line" || away.Kedge.ServerURL != "https://one:6443" || len(away.RunCmd) != 2 {
		t.Errorf("away: %+v of %q", away, sources)
	}
	installed.media = m.media
	installed.files[Cmdline] = line
	if here, sources := in(); len(here.RunCmd) != 2 || len(sources) != 4 {
		t.Errorf("here: %+v of %q", here, sources)
	}
	// One that cannot be read replaces nothing.
	installed.contents = nil
	layers, problems := Layers(Gather(t.Context(), installed, true))
	if c := config.Merge(layers...).Config; len(problems) != 2 || len(c.RunCmd) != 2 {
		t.Errorf("unreadable: %v, %+v", problems, c)
	}
	// Another installation without them leaves nothing of them.
	if files, from, err = Kept(nil); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if len(text) > 0 {
			t.Errorf("%s: %q", name, text)
		}
	}
	if len(files) != 5 || len(from) > 0 {
		t.Errorf("%d files, from %q", len(files), from)
	}
}

func TestScriptAsUserData(t *testing.T) {
	m := machine{files: map[string]string{Cmdline: ""}, media: []Medium{{"/dev/sr0", "CIDATA", "iso9660"}},
		contents: map[string]map[string]string{"/dev/sr0": {"user-data": "#!/bin/sh\necho hello\n"}}}
	found := Gather(context.Background(), m, false)
	if len(found) != 1 || !strings.Contains(string(found[0].Script), "echo hello") {
		t.Errorf("found = %+v, want the script", found)
	}
}

func TestReadFolderInAnyCase(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"CONFIG.YAML": "hostname: x\n", "OTHER": "no"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := readFolder(dir, []string{"config.yaml", "user-data"})
	if err != nil || len(files) != 1 || string(files["config.yaml"]) != "hostname: x\n" {
		t.Errorf("readFolder = %q, %v", files, err)
	}
}
