package apply

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
)

var update = flag.Bool("update", false, "rewrite golden files")

// A machine writes down what it is asked to do; files are kept in memory.
type machine struct {
	strings.Builder
	files map[string]string
	fail  map[string]error // by the line that is written down
}

func (m *machine) did(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	m.WriteString(line + "\n")
	return m.fail[line]
}

func (m *machine) ReadFile(path string) ([]byte, error) {
	text, ok := m.files[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

func (m *machine) WriteFile(path string, data []byte, mode fs.FileMode, owner string) error {
	if err := m.did("write %s %v %q", path, mode, owner); err != nil {
		return err
	}
	m.files[path] = string(data)
	for line := range strings.Lines(string(data)) {
		if user, _, salted := strings.Cut(line, ":$6$"); salted {
			line = user + ":$6$…\n"
		}
		fmt.Fprintf(m, "    %s\n", strings.TrimSuffix(line, "\n"))
	}
	return nil
}

func (m *machine) MakeDir(path string, mode fs.FileMode, owner string) error {
	return m.did("mkdir %s %v %q", path, mode, owner)
}
func (m *machine) Symlink(target, path string) error { return m.did("symlink %s -> %s", path, target) }
func (m *machine) SetHostname(name string) error     { return m.did("hostname %s", name) }
func (m *machine) SetSysctl(key, value string) error { return m.did("sysctl %s=%s", key, value) }
func (m *machine) LoadModule(_ context.Context, name, params string) error {
	return m.did("modprobe %s %q", name, params)
}
func (m *machine) Shell(_ context.Context, line string, _ time.Duration) error {
	return m.did("sh -c %q", line)
}

func newMachine() *machine {
	return &machine{files: map[string]string{
		"/etc/passwd":  "root:x:0:0:root:/root:/bin/bash\nkedge:x:1000:1000:Kedge operator:/home/kedge:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n",
		"/etc/shadow":  "root:*:20000:0:99999:7:::\nkedge:*:20000:0:99999:7:::\n",
		"/etc/group":   "root:x:0:\nsudo:x:27:kedge\nkedge:x:1000:\n",
		"/etc/gshadow": "root:*::\nkedge:*::\n",
		"/etc/hosts":   "127.0.0.1\tlocalhost\n127.0.1.1\told\n",
	}}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", path, got)
	}
}

// TestPhases applies a file with every key and compares all that happens.
func TestPhases(t *testing.T) {
	text, err := os.ReadFile("testdata/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	layer, problems := config.Parse("all.yaml", text)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c := config.Merge(layer)
	m := newMachine()
	var all []Step
	for _, phase := range []struct {
		name  string
		steps []Step
	}{
		{"init", Init(c.Config, Facts{Hostname: "unused"})},
		{"boot", append([]Step{Chrony(c.Kedge.NTPServers)}, Boot(c.Config)...)},
		{"run", Commands(c.Config)},
	} {
		fmt.Fprintf(m, "--- %s\n", phase.name)
		for _, f := range Run(context.Background(), m, phase.steps) {
			t.Error(f)
		}
		all = append(all, phase.steps...)
	}
	golden(t, "all.actions", m.String())
	var names strings.Builder
	for _, s := range all {
		fmt.Fprintln(&names, s)
	}
	golden(t, "all.steps", names.String())
}

func TestEmptyConfig(t *testing.T) {
	m := newMachine()
	if f := Run(context.Background(), m, Init(config.Config{}, Facts{Hostname: "kedge-0a0b0c"})); len(f) > 0 {
		t.Error(f)
	}
	golden(t, "empty.actions", m.String())
}

func TestOneFailureDoesNotStopTheOthers(t *testing.T) {
	c := config.Config{
		WriteFiles: []config.File{{Path: "/usr/bin/x", Content: "x"}, {Path: "/etc/y", Content: "y", Permissions: "rw"}, {Path: "/etc/z", Content: "z"}},
		InitCmd:    []string{"false", "true"},
		Kedge:      config.Kedge{Sysctls: map[string]string{"no.such": "1", "vm.swappiness": "1"}, Modules: []string{"nosuch"}, Password: "$nosuch$x"},
	}
	m := newMachine()
	m.fail = map[string]error{
		`write /usr/bin/x -rw-r--r-- ""`: &fs.PathError{Op: "open", Path: "/usr/bin/x", Err: syscall.EROFS},
		`sh -c "false"`:                  errors.New("sh: exit status 1"),
		`sysctl no.such=1`:               fs.ErrNotExist,
		`modprobe nosuch ""`:             errors.New("modprobe: exit status 1"),
	}
	var got []string
	for _, f := range Run(context.Background(), m, Init(c, Facts{Hostname: "h"})) {
		got = append(got, f.Key+": "+f.Error())
	}
	want := []string{
		"kedge.modules: load module nosuch: modprobe: exit status 1",
		"kedge.sysctls.no.such: set sysctl no.such=1: this kernel has no such parameter; a module may have to be loaded first",
		`kedge.password: set password of kedge: this kind of hash is not known; one that works comes from "openssl passwd -6"`,
		"write_files: write file /usr/bin/x: /usr/bin is part of the read-only system image; /etc, /var, /home, /opt, /usr/local and /root can be written",
		`write_files: write file /etc/y: permissions are octal digits such as "0644", not "rw"`,
		"init_cmd: init_cmd: false: sh: exit status 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("failures:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, done := range []string{"sysctl vm.swappiness=1", "write /etc/z", `sh -c "true"`} {
		if !strings.Contains(m.String(), done) {
			t.Errorf("%s was not done", done)
		}
	}
}

func TestHosts(t *testing.T) {
	for _, c := range []struct{ before, name, want string }{
		{"127.0.0.1\tlocalhost\n", "a", "127.0.0.1\tlocalhost\n127.0.1.1\ta\n"},
		{"127.0.0.1\tlocalhost", "a.b.example", "127.0.0.1\tlocalhost\n127.0.1.1\ta.b.example a\n"},
		{"127.0.1.1\told\n::1\tlocalhost\n", "new", "::1\tlocalhost\n127.0.1.1\tnew\n"},
	} {
		if got := Hosts(c.before, c.name); got != c.want {
			t.Errorf("Hosts(%q, %s) = %q, want %q", c.before, c.name, got, c.want)
		}
	}
}

func TestPasswords(t *testing.T) {
	made, err := Hash("geheim")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, hash, password string
		want                 error
	}{
		{"ours", made, "geheim", nil},
		{"ours, wrong", made, "geheim ", ErrWrong},
		// From "openssl passwd -1|-5|-6 -salt saltsalt geheim".
		{"md5", "$1$saltsalt$wTLsTBb/.H7e4VHujepbF0", "geheim", nil},
		{"sha256", "$5$saltsalt$cKRA0A5uaKu0/NNi2WMrB.mMOAVMowckrDNQ4fKUJ06", "geheim", nil},
		{"sha512", "$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1", "geheim", nil},
		{"locked", "*", "", ErrNoPassword},
		{"empty is locked", "", "", ErrNoPassword},
		{"disabled hash", "!" + made, "geheim", ErrNoPassword},
	} {
		if err := Check("root:*:1::::::\nkedge:"+c.hash+":20000:0:99999:7:::\n", "kedge", c.password); !errors.Is(err, c.want) {
			t.Errorf("%s: Check = %v, want %v", c.name, err, c.want)
		}
	}
	if err := Check("root:*:1::::::\n", "nobody", ""); !errors.Is(err, ErrWrong) {
		t.Errorf("unknown user: Check = %v", err)
	}
}

func TestKeys(t *testing.T) {
	entries := []string{"ssh-ed25519 AAAA me", "github:octo cat", "", "gh:x", "# old", "gitlab:y", "https://example.org/keys", "gh:x", "key:with colon"}
	if got, want := LiteralKeys(entries), []string{"ssh-ed25519 AAAA me", "key:with colon"}; !slices.Equal(got, want) {
		t.Errorf("LiteralKeys = %q", got)
	}
	if got, want := RemoteKeys(entries), []string{"github:octo cat", "gh:x", "gitlab:y", "https://example.org/keys"}; !slices.Equal(got, want) {
		t.Errorf("RemoteKeys = %q", got)
	}
	if got := KeyURL("github:octo cat"); got != "https://github.com/octo%20cat.keys" {
		t.Errorf("KeyURL = %s", got)
	}
	page := "<html>\nssh-rsa AAAA\r\n\necdsa-sha2-nistp256 BBBB x\nssh-dss\n"
	if got, want := FetchedKeys(page), []string{"ssh-rsa AAAA", "ecdsa-sha2-nistp256 BBBB x"}; !slices.Equal(got, want) {
		t.Errorf("FetchedKeys = %q", got)
	}
}

func TestEnvironment(t *testing.T) {
	got := ReadEnvironment("# no\nA=1\n export B=\"two words\"\nnothing\nC='x=y'\nD=\n")
	if want := []string{"A=1", "B=two words", "C=x=y", "D="}; !slices.Equal(got, want) {
		t.Errorf("ReadEnvironment = %q", got)
	}
}

func TestUnsupported(t *testing.T) {
	layer, problems := config.Parse("c.yaml", []byte("kedge:\n  data_sources: [aws, cdrom]\n  wifi:\n  - name: home\n    passphrase: 12345678\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	for _, p := range Unsupported(config.Merge(layer)) {
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Key))
	}
	if want := []string{"4 kedge.wifi", "2 kedge.data_sources[0]"}; !slices.Equal(got, want) {
		t.Errorf("Unsupported = %q, want %q", got, want)
	}
}

// TestSystem uses the real machine below a folder.
func TestSystem(t *testing.T) {
	root := t.TempDir()
	s := System{Root: root}
	uid, gid := os.Getuid(), os.Getgid()
	passwd := fmt.Sprintf("me:x:%d:%d::/:/bin/sh\n", uid, gid)
	if err := s.WriteFile("/etc/passwd", []byte(passwd), 0o644, fmt.Sprintf("%d:%d", uid, gid)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, owner string
		mode        fs.FileMode
		want        string
	}{
		{"/deep/down/file", "me", 0o640, ""},
		{"/suid", "me", 0o755 | fs.ModeSetuid, ""},
		{"/x", "nobodyhere", 0o644, `owner "nobodyhere": /etc/passwd has no "nobodyhere"`},
	} {
		err := s.WriteFile(c.path, []byte("data"), c.mode, c.owner)
		if c.want != "" {
			if err == nil || err.Error() != c.want {
				t.Errorf("%s: %v, want %s", c.path, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(root, c.path))
		if err != nil || info.Mode() != c.mode {
			t.Errorf("%s: mode %v, %v", c.path, info.Mode(), err)
		}
	}
	if err := s.Shell(context.Background(), "echo first; echo last words >&2; exit 3", time.Minute); err == nil || !strings.Contains(err.Error(), "last words") {
		t.Errorf("Shell = %v, want its last words", err)
	}
	if err := s.Shell(context.Background(), "sleep 0.2", time.Millisecond); err == nil || !strings.Contains(err.Error(), "still running") {
		t.Errorf("Shell = %v, want a note that it is still running", err)
	}
}
