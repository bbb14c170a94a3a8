package build

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

// TestOurRecipes reads every recipe of the repository against its locks and
// selections.
func TestOurRecipes(t *testing.T) {
	files, err := filepath.Glob("../../../images/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recipes: %v", err)
	}
	for _, file := range files {
		r, err := LoadRecipe(file)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, list := range []string{r.Kernel.Modules, r.Kernel.Initrd, r.Firmware} {
			if list == "" {
				continue
			}
			if _, err := ReadSelection(r.path(list)); err != nil {
				t.Error(err)
			}
		}
		for _, arch := range Architectures {
			lock, err := ReadLock(r.LockPath(arch))
			if err != nil {
				t.Error(err)
				continue
			}
			if err := lock.covers(r, arch); err != nil {
				t.Errorf("%s: %v", r.LockPath(arch), err)
			}
		}
	}
}

func TestBase(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"images/one.yaml": smallRecipe,
		"images/two.yaml": "base: one.yaml\nname: two\nprune: []\npackages: {extra: [more]}\n",
		"images/bad.yaml": "base: bad.yaml\n",
	})
	r, err := LoadRecipe(filepath.Join(dir, "images/two.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "two" || len(r.Prune) != 0 || len(r.Packages) != 2 || len(r.Programs) != 1 {
		t.Errorf("recipe = %+v", r)
	}
	if _, err := LoadRecipe(filepath.Join(dir, "images/bad.yaml")); err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("error = %v", err)
	}
}

func TestRecipeRefuses(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"name: small", "name: small\nupgrade_from: '>=0.1'", `upgrade_from: read versions ">=0.1"`},
		{"name: small", "name: Big!", `name: "Big!" is not a name`},
		{"suite: trixie, ", "", "debian: suite and components are needed"},
		{"[sample, part]", "['sam ple']", `packages: base: "sam ple" is not a package name`},
		{"netboot", "floppy", `outputs: "floppy" is none of iso, netboot, sbom, kubernetes`},
		{"program: hello", "program: other", `there is no program "other"`},
		{`"0600"`, `"rw"`, `modes: /etc/secret: "rw" is not an octal mode`},
		{"name: hello,", "name: ,", "programs: number 1"},
		{"name: small", "name: small\nname: twice", "already defined"},
		{"debian:", "\tdebian:", "line 2"},
	} {
		file := filepath.Join(t.TempDir(), "bad.yaml")
		if err := os.WriteFile(file, []byte(strings.Replace(smallRecipe, c.old, c.new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadRecipe(file); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "bad.yaml") {
			t.Errorf("%s: error = %v, want %q", c.new, err, c.want)
		}
	}
}

func TestForArch(t *testing.T) {
	groups := map[string][]string{"a": {"both", "one [amd64]"}, "b": {"two [arm64 riscv64]"}}
	for arch, want := range map[string]string{"amd64": "both one", "arm64": "both two"} {
		if got := strings.Join(slices.Sorted(maps.Keys(forArch(groups, arch))), " "); got != want {
			t.Errorf("forArch(%s) = %q, want %q", arch, got, want)
		}
	}
}

func sampleLock() Lock {
	return Lock{
		Suite: "trixie", Arch: "amd64", Date: time.Unix(1_700_000_000, 0).UTC(), Kernel: "linux-image-6.12-amd64",
		Packages: []Locked{
			{"bash", "5.2-1+b1", strings.Repeat("a", 64), 12345, archiveMain, "pool/main/b/bash/bash_5.2-1%2bb1_amd64.deb"},
			{"libssl3", "3.5~deb13u1", strings.Repeat("b", 64), 99, archiveSecurity, "pool/updates/main/o/openssl/libssl3_3.5~deb13u1_amd64.deb"},
		},
	}
}

func TestLock(t *testing.T) {
	text := string(sampleLock().Encode())
	golden(t, "sample.lock", text)
	got, err := DecodeLock(strings.NewReader(text))
	if err != nil || !reflect.DeepEqual(got, sampleLock()) {
		t.Errorf("DecodeLock = %+v, %v", got, err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"suite trixie\n", "", "suite, arch, date and kernel are needed"},
		{"date 2023", "date yesterday", "line 5"},
		{"12345", "many", `line 8: bash: "many" is not a size`},
		{strings.Repeat("a", 64), "abc", "is not a sha256"},
		{"pool/main", "../main", "is not a pool path"},
		{"pool/main", "pool/../main", "is not a pool path"},
		{" debian pool", " ubuntu pool", `unknown archive "ubuntu"`},
		{"suite trixie", "sweet trixie", `unknown field "sweet"`},
		{" debian pool", " pool", "5 fields instead of 6"},
	} {
		if _, err := DecodeLock(strings.NewReader(strings.Replace(text, c.old, c.new, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error = %v, want %q", c.new, err, c.want)
		}
	}
}

func TestCompareLocks(t *testing.T) {
	old, now := sampleLock(), sampleLock()
	now.Packages[0].Version = "5.3-1"
	now.Packages[1].Name = "libssl4"
	got := strings.Join(compare(old, now), "\n")
	want := "amd64: bash 5.2-1+b1 -> 5.3-1\namd64: + libssl4 3.5~deb13u1\namd64: - libssl3 3.5~deb13u1"
	if got != want {
		t.Errorf("compare = %s", got)
	}
}

func TestChooseMirrors(t *testing.T) {
	for _, c := range []struct {
		lines          string
		main, security string
	}{
		{"bookworm http://mirror.example/debian/\nbookworm-security http://mirror.example/debian-security/\n", "http://mirror.example/debian", "http://mirror.example/debian-security"},
		{"nodistro https://other.example/node/\nbookworm http://mirror.example/a/debian/\n", "http://mirror.example/a/debian", "http://mirror.example/a/debian-security"},
		{"noble http://ubuntu.example/ubuntu/\nnoble-security http://ubuntu.example/ubuntu/\n", "", ""},
		{"", "", ""},
	} {
		m, err := chooseMirrors(c.lines)
		if m.Main != c.main || m.Security != c.security || (err != nil) != (c.main == "") {
			t.Errorf("chooseMirrors(%q) = %+v, %v", c.lines, m, err)
		}
	}
}

func TestParseURI(t *testing.T) {
	m := MirrorsAt("http://mirror.example/debian/")
	sum := strings.Repeat("c", 64)
	p, err := parseURI("'http://mirror.example/debian-security/pool/updates/main/o/openssl/openssl_3.5-1_amd64.deb' openssl_1%3a3.5-1_amd64.deb 77 SHA256:"+sum, m)
	want := Locked{"openssl", "1:3.5-1", sum, 77, archiveSecurity, "pool/updates/main/o/openssl/openssl_3.5-1_amd64.deb"}
	if err != nil || p != want {
		t.Errorf("parseURI = %+v, %v, want %+v", p, err, want)
	}
	for _, line := range []string{
		"", "'http://mirror.example/debian/pool/x.deb' x_1_all.deb 7 MD5Sum:00",
		"'http://mirror.example/debian/pool/x.deb' x_1_all.deb 7 SHA256:",
		"'http://elsewhere.example/debian/pool/x.deb' x_1_all.deb 7 SHA256:" + sum,
		"'http://mirror.example/debian/pool/x.deb' x.deb 7 SHA256:" + sum,
	} {
		if _, err := parseURI(line, m); err == nil {
			t.Errorf("parseURI(%q) takes it", line)
		}
	}
}

func TestSelection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list")
	text := "# comment\n+ drivers/net lib # more\n- drivers/net/hamradio *test*\n+ drivers/net/hamradio/good\n- drivers/*/*/bad*\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := ReadSelection(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"drivers/net/tun": true, "drivers/net/ethernet/intel/e1000": true, "drivers/network": false, "drivers": false,
		"drivers/net/hamradio/x": false, "drivers/net/hamradio/good": true, "drivers/net/usb/badly/x": false,
		"lib/test_bpf": false, "lib/crc": true, "sound/core": false,
	} {
		if got := s.Keep(name); got != want {
			t.Errorf("Keep(%s) = %v", name, got)
		}
	}
	for _, bad := range []string{"drivers/net\n", "+\n", "+ [a\n"} {
		if err := os.WriteFile(file, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSelection(file); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: error = %v", bad, err)
		}
	}
}
