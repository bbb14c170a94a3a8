package build

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/kedgeos/kedge/pkg/api/release"
)

// Architectures that images are made for, by their Debian and Go name.
var Architectures = []string{"amd64", "arm64"}

// A Recipe says what goes into an image. Paths of the build machine are
// relative to Root, those of the image are absolute.
type Recipe struct {
	Base     string              `yaml:"base"`         // another recipe that this one changes: maps merge, lists are replaced
	Root     string              `yaml:"root"`         // folder that other paths start from, relative to the recipe; "" means ".."
	Name     string              `yaml:"name"`         // first part of the names of what is built
	From     string              `yaml:"upgrade_from"` // versions whose machines may take this release, such as ">=0.1.0"; "" means all
	Debian   Debian              `yaml:"debian"`
	Packages map[string][]string `yaml:"packages"` // group → Debian packages for the root
	Only     map[string][]string `yaml:"only"`     // package → paths: nothing else of it goes into the root
	Tools    map[string][]string `yaml:"tools"`    // group → Debian packages that only the build needs
	Kernel   Kernel              `yaml:"kernel"`
	Firmware string              `yaml:"firmware"` // file that lists the firmware to keep; "" keeps none
	Programs []Program           `yaml:"programs"`
	Overlays []string            `yaml:"overlays"` // folders whose paths are their destination; later wins
	Folders  []string            `yaml:"folders"`  // empty folders of the root
	Links    map[string]string   `yaml:"links"`    // symbolic links of the root
	Applets  []Applets           `yaml:"applets"`  // names for multi-call programs, where nothing else has them
	Modes    map[string]string   `yaml:"modes"`    // octal permission bits by path
	Prune    []string            `yaml:"prune"`    // patterns of what packages bring and the root does without
	Keep     []string            `yaml:"keep"`     // patterns that Prune does not touch
	Images   []Image             `yaml:"images"`   // container images to preload
	Outputs  []string            `yaml:"outputs"`  // iso, netboot, sbom, kubernetes; none means the first three

	file string // where the recipe was read from
}

// Debian says which packages there are to choose from.
type Debian struct {
	Suite      string   `yaml:"suite"`
	Components []string `yaml:"components"`
}

// Kernel says which kernel, and which of its modules.
type Kernel struct {
	Package string `yaml:"package"` // the package that depends on the newest kernel; {arch} is replaced
	Modules string `yaml:"modules"` // selection for the root
	Initrd  string `yaml:"initrd"`  // selection for the initrd, out of those
	Strip   bool   `yaml:"strip"`   // take type information and signatures out of modules
}

// A Program is built from Go source.
type Program struct {
	Name        string            `yaml:"name"`
	Module      string            `yaml:"module"`  // folder with its go.mod; "" means Root
	Package     string            `yaml:"package"` // import path or ./folder; "" means the module's own folder
	Tags        []string          `yaml:"tags"`
	LDFlags     []string          `yaml:"ldflags"`
	CGO         bool              `yaml:"cgo"`         // needs the C compiler of the target; linked statically
	Destination string            `yaml:"destination"` // path in the root; "" when only an image has it
	Initrd      string            `yaml:"initrd"`      // path in the initrd
	Links       map[string]string `yaml:"links"`       // symbolic links in the root: path → target
	Copies      []string          `yaml:"copies"`      // further paths in the root with the same content
}

// Applets are commands that one program of the root stands in for.
type Applets struct {
	Program string   `yaml:"program"` // in /usr/bin
	Names   []string `yaml:"names"`
}

// An Image is a container image of one program.
type Image struct {
	Name       string   `yaml:"name"` // reference with tag
	File       string   `yaml:"file"` // its place in the root
	Program    string   `yaml:"program"`
	Path       string   `yaml:"path"` // of the program in the image
	Entrypoint []string `yaml:"entrypoint"`
	User       string   `yaml:"user"` // uid:gid; "" is root
}

// LoadRecipe reads a recipe and the ones it is based on. An error names file
// and line.
func LoadRecipe(file string) (*Recipe, error) {
	r := &Recipe{}
	if err := r.load(file, 0); err != nil {
		return nil, err
	}
	r.file = file
	if r.Root == "" {
		r.Root = ".."
	}
	if !filepath.IsAbs(r.Root) {
		r.Root = filepath.Join(filepath.Dir(file), r.Root)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("read recipe %s: %w", file, err)
	}
	return r, nil
}

func (r *Recipe) load(file string, depth int) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read recipe: %w", err)
	}
	var head struct {
		Base string `yaml:"base"`
	}
	if err := yaml.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("read recipe %s: %w", file, err)
	}
	if head.Base != "" {
		if depth > 4 {
			return fmt.Errorf("read recipe %s: its bases go round in a circle", file)
		}
		if err := r.load(filepath.Join(filepath.Dir(file), head.Base), depth+1); err != nil {
			return err
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(r); err != nil {
		return fmt.Errorf("read recipe %s: %w", file, errors.New(strings.ReplaceAll(err.Error(), "\n  ", " ")))
	}
	return nil
}

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]*$`)
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]*( \[[a-z0-9 ]+\])?$`)
)

// outputKubernetes is Kubernetes alone, which is put beside a system. It is made
// when it is asked for: it takes as long as a good part of an image.
const outputKubernetes = "kubernetes"

var outputKinds = []string{"iso", "netboot", "sbom", outputKubernetes}

func (r *Recipe) check() error {
	switch {
	case !nameForm.MatchString(r.Name):
		return fmt.Errorf("name: %q is not a name", r.Name)
	case r.Debian.Suite == "" || len(r.Debian.Components) == 0:
		return errors.New("debian: suite and components are needed")
	case r.Kernel.Package == "" || r.Kernel.Modules == "" || r.Kernel.Initrd == "":
		return errors.New("kernel: package, modules and initrd are needed")
	}
	if _, err := release.ParseConstraint(r.From); err != nil {
		return fmt.Errorf("upgrade_from: %w", err)
	}
	for _, groups := range []map[string][]string{r.Packages, r.Tools} {
		for group, list := range groups {
			for _, p := range list {
				if !packageForm.MatchString(p) {
					return fmt.Errorf("packages: %s: %q is not a package name", group, p)
				}
			}
		}
	}
	for _, o := range r.Outputs {
		if !slices.Contains(outputKinds, o) {
			return fmt.Errorf("outputs: %q is none of %s", o, strings.Join(outputKinds, ", "))
		}
	}
	return errors.Join(r.checkPrograms(), r.checkModes())
}

func (r *Recipe) checkPrograms() error {
	names := map[string]bool{}
	for i, p := range r.Programs {
		if !nameForm.MatchString(p.Name) || names[p.Name] {
			return fmt.Errorf("programs: number %d: %q is not a name of its own", i+1, p.Name)
		}
		names[p.Name] = true
	}
	for _, i := range r.Images {
		if !names[i.Program] {
			return fmt.Errorf("images: %s: there is no program %q", i.Name, i.Program)
		}
		if i.File == "" || i.Path == "" || !strings.Contains(i.Name, ":") {
			return fmt.Errorf("images: %q needs a tag, a file and a path", i.Name)
		}
	}
	return nil
}

func (r *Recipe) checkModes() error {
	_, err := r.modes()
	return err
}

// modes returns Modes by path without leading slash.
func (r *Recipe) modes() (map[string]fs.FileMode, error) {
	modes := map[string]fs.FileMode{}
	for path, text := range r.Modes {
		n, err := strconv.ParseUint(text, 8, 12)
		if err != nil {
			return nil, fmt.Errorf("modes: %s: %q is not an octal mode", path, text)
		}
		m := fs.FileMode(n & 0o777)
		for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
			if n&bit != 0 {
				m |= flag
			}
		}
		modes[strings.TrimPrefix(path, "/")] = m
	}
	return modes, nil
}

// wants tells whether an output kind is to be made.
func (r *Recipe) wants(kind string) bool {
	return len(r.Outputs) == 0 && kind != outputKubernetes || slices.Contains(r.Outputs, kind)
}

// path returns where a file of the recipe is on the build machine.
func (r *Recipe) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.Root, name)
}

// LockPath returns the lock file that stands beside the recipe.
func (r *Recipe) LockPath(arch string) string {
	return strings.TrimSuffix(r.file, filepath.Ext(r.file)) + "." + arch + ".lock"
}

// kernelPackage returns the name of the package that chooses the kernel.
func (r *Recipe) kernelPackage(arch string) string {
	return strings.ReplaceAll(r.Kernel.Package, "{arch}", arch)
}

// forArch returns the packages of groups that an architecture gets, each with
// its group. "name [amd64]" is only for amd64.
func forArch(groups map[string][]string, arch string) map[string]string {
	out := map[string]string{}
	for group, list := range groups {
		for _, p := range list {
			name, only, limited := strings.Cut(strings.TrimSuffix(p, "]"), " [")
			if !limited || slices.Contains(strings.Fields(only), arch) {
				out[name] = group
			}
		}
	}
	return out
}
