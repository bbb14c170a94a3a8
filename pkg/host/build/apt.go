package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/process"
)

// Mirrors are the addresses of the two Debian archives.
type Mirrors struct {
	Main     string // holds dists/ and pool/
	Security string
}

// ErrNoMirror means that it is not known where Debian packages come from.
var ErrNoMirror = errors.New("this machine's apt configuration names no Debian archive")

// MirrorsAt returns the mirrors for an address the user gave: that of the main
// archive, beside which the security archive has "-security" added to its name.
func MirrorsAt(main string) Mirrors {
	main = strings.TrimRight(main, "/")
	return Mirrors{Main: main, Security: main + "-security"}
}

// FindMirrors asks this machine's apt where it gets Debian packages from. The
// error wraps ErrNoMirror or process.ErrNotInstalled.
func FindMirrors(ctx context.Context) (Mirrors, error) {
	out, err := process.Tool{Path: "apt-get", Args: []string{"indextargets", "--format", "$(RELEASE) $(REPO_URI)"}}.Output(ctx)
	if err != nil {
		return Mirrors{}, fmt.Errorf("ask apt for its sources: %w", err)
	}
	return chooseMirrors(out)
}

// chooseMirrors picks the archives out of lines of release and address.
func chooseMirrors(lines string) (m Mirrors, err error) {
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		u, err := url.Parse(f[1])
		if err != nil {
			continue
		}
		at := strings.TrimRight(f[1], "/")
		switch base := path.Base(strings.TrimRight(u.Path, "/")); {
		case strings.HasSuffix(f[0], "-security") && strings.Contains(base, "debian"):
			m.Security = cmp.Or(m.Security, at)
		case base == "debian":
			m.Main = cmp.Or(m.Main, at)
		}
	}
	if m.Main == "" {
		return m, ErrNoMirror
	}
	if m.Security == "" {
		m.Security = MirrorsAt(m.Main).Security
	}
	return m, nil
}

// base returns the address of an archive named in a lock.
func (m Mirrors) base(archive string) string {
	if archive == archiveSecurity {
		return m.Security
	}
	return m.Main
}

// keyring holds the keys that sign Debian's archives.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// MakeLock resolves the packages of a recipe through an apt state of its own
// in a temporary folder; apt checks the archives' signatures. Nothing of this
// machine's package management is touched.
func MakeLock(ctx context.Context, r *Recipe, arch string, m Mirrors, now time.Time) (Lock, error) {
	lock := Lock{Suite: r.Debian.Suite, Arch: arch, Date: now.UTC().Truncate(time.Second)}
	if _, err := os.Stat(keyring); err != nil {
		return lock, fmt.Errorf("find the keys of Debian's archives: %w", err)
	}
	dir, err := os.MkdirTemp("", "kedge-apt-")
	if err != nil {
		return lock, err
	}
	defer os.RemoveAll(dir)
	a := aptState{dir: dir}
	if err := a.write(r, arch, m); err != nil {
		return lock, err
	}
	if _, err := a.run(ctx, "apt-get", "update", "-qq", "--error-on=any"); err != nil {
		return lock, fmt.Errorf("read the package lists of %s: %w", r.Debian.Suite, err)
	}
	if lock.Kernel, err = a.kernel(ctx, r.kernelPackage(arch)); err != nil {
		return lock, err
	}
	names := []string{lock.Kernel}
	for _, groups := range []map[string][]string{r.Packages, r.Tools} {
		for name := range forArch(groups, arch) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	lock.Packages, err = a.resolve(ctx, slices.Compact(names), m)
	return lock, err
}

type aptState struct{ dir string }

func (a aptState) write(r *Recipe, arch string, m Mirrors) error {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "apt.conf.d", "preferences.d", "sources.list.d"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	in := func(name string) string { return filepath.Join(a.dir, name) }
	conf := fmt.Sprintf(`APT::Architecture %q; APT::Architectures { %q; };
Dir::State %q; Dir::State::status %q; Dir::Cache %q; Dir::Log %q;
Dir::Etc::main "/dev/null"; Dir::Etc::parts %q; Dir::Etc::preferencesparts %q;
Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts %q;
Acquire::Languages "none"; Acquire::ForceHash "sha256"; APT::Sandbox::User "";
`, arch, arch, in("state"), in("status"), in("cache"), in("log"), in("apt.conf.d"), in("preferences.d"), in("sources.list.d"))
	components := strings.Join(r.Debian.Components, " ")
	sources := fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s %s-updates\nComponents: %s\nSigned-By: %s\n\n"+
		"Types: deb\nURIs: %s\nSuites: %s-security\nComponents: %s\nSigned-By: %s\n",
		m.Main, r.Debian.Suite, r.Debian.Suite, components, keyring, m.Security, r.Debian.Suite, components, keyring)
	for name, text := range map[string]string{"status": "", "apt.conf": conf, "sources.list.d/debian.sources": sources} {
		if err := os.WriteFile(in(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (a aptState) run(ctx context.Context, args ...string) (string, error) {
	return process.Tool{
		Path: args[0], Args: args[1:],
		Env: []string{"APT_CONFIG=" + filepath.Join(a.dir, "apt.conf"), "LC_ALL=C"},
	}.Output(ctx)
}

// kernel returns the package that meta depends on.
func (a aptState) kernel(ctx context.Context, meta string) (string, error) {
	out, err := a.run(ctx, "apt-cache", "depends", "--important", meta)
	if err != nil {
		return "", fmt.Errorf("find kernel %s: %w", meta, err)
	}
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", fmt.Errorf("find kernel %s: it depends on no linux-image package", meta)
}

var notThere = regexp.MustCompile(`(?:Unable to locate package|No candidate version found for|Can't find .* for package) (\S+)`)

// resolve asks apt where the newest version of each package is.
func (a aptState) resolve(ctx context.Context, names []string, m Mirrors) ([]Locked, error) {
	out, err := a.run(ctx, append([]string{"apt-get", "download", "--print-uris", "-qq"}, names...)...)
	if err != nil {
		if miss := notThere.FindAllStringSubmatch(err.Error(), -1); miss != nil {
			var list []string
			for _, f := range miss {
				list = append(list, f[1])
			}
			return nil, fmt.Errorf("find packages: Debian has no %s", strings.Join(list, ", "))
		}
		return nil, fmt.Errorf("find packages: %w", err)
	}
	var locked []Locked
	for line := range strings.Lines(out) {
		p, err := parseURI(strings.TrimSpace(line), m)
		if err != nil {
			return nil, err
		}
		locked = append(locked, p)
	}
	slices.SortFunc(locked, func(a, b Locked) int { return strings.Compare(a.Name, b.Name) })
	for _, name := range names {
		if _, ok := (Lock{Packages: locked}).find(name); !ok {
			return nil, fmt.Errorf("find packages: apt gave no address for %s", name)
		}
	}
	return locked, nil
}

// parseURI reads a line of apt-get --print-uris: 'URI' NAME_VERSION_ARCH.deb
// SIZE SHA256:HEX.
func parseURI(line string, m Mirrors) (Locked, error) {
	f := strings.Fields(line)
	if len(f) != 4 || !strings.HasPrefix(f[3], "SHA256:") {
		return Locked{}, fmt.Errorf("read apt's answer %q: not an address, name, size and SHA256", line)
	}
	parts := strings.Split(strings.TrimSuffix(f[1], ".deb"), "_")
	if len(parts) != 3 {
		return Locked{}, fmt.Errorf("read apt's answer %q: %q is not a package file", line, f[1])
	}
	version, err := url.PathUnescape(parts[1])
	if err != nil {
		return Locked{}, fmt.Errorf("read apt's answer %q: %w", line, err)
	}
	p := Locked{Name: parts[0], Version: version, SHA256: strings.TrimPrefix(f[3], "SHA256:")}
	if p.Size, err = strconv.ParseInt(f[2], 10, 64); err != nil {
		return p, fmt.Errorf("read apt's answer %q: %w", line, err)
	}
	address := strings.Trim(f[0], "'")
	for _, archive := range []string{archiveSecurity, archiveMain} {
		if rest, ok := strings.CutPrefix(address, strings.TrimRight(m.base(archive), "/")+"/"); ok {
			p.Archive, p.Path = archive, rest
			return parseLocked([]string{p.Name, p.Version, p.SHA256, strconv.FormatInt(p.Size, 10), p.Archive, p.Path})
		}
	}
	return p, fmt.Errorf("read apt's answer %q: from neither archive", line)
}
