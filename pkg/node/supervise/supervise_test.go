package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

func TestParse(t *testing.T) {
	d, err := Parse([]byte("name: kube\ncommand: [/usr/bin/kube]\nbackoff: {initial: 2s}\nstop_timeout: 30s\nenvironment: {GOGC: \"80\"}\n"))
	want := Definition{
		Name: "kube", Command: []string{"/usr/bin/kube"}, Environment: map[string]string{"GOGC": "80"}, Directory: "/",
		Restart: RestartAlways, Backoff: Backoff{2 * time.Second, time.Minute}, StopSignal: "TERM", StopTimeout: 30 * time.Second,
		Kill: KillProcess, Cgroup: "kube", Shutdown: 50,
	}
	if err != nil || !reflect.DeepEqual(d, want) {
		t.Errorf("Parse = %+v, %v; want %+v", d, err, want)
	}
	for text, want := range map[string]string{
		"command: [x]":              "name",
		"name: a/b\ncommand: [x]\n": "slash",
		"name: a\n":                 "no command",
		"name: a\ncommand: [x]\nrestart: often\n":      "restart",
		"name: a\ncommand: [x]\nkill: all\n":           "kill",
		"name: a\ncommand: [x]\nstop_signal: SIGX\n":   "stop_signal",
		"name: a\ncommand: [x]\nautostrat: true\n":     "autostrat",
		"name: a\ncommand: [x]\ncgroup: ../../escape":  "cgroup",
		"name: a\ncommand: [x]\neach: disk\n":          "each",
		"name: a\ncommand: [x]\nconsole: /dev/ttyS0\n": "console",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want %q in it", text, err, want)
		}
	}
}

// TestImage reads the definitions that the image has.
func TestImage(t *testing.T) {
	all, err := Load("../../../overlay/usr/lib/kedge/services")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]Definition{}
	for _, d := range all {
		names[d.Name] = d
	}
	for _, name := range []string{"agent", "kube", "sshd", "chronyd", "console"} {
		if _, ok := names[name]; !ok {
			t.Errorf("no service %s", name)
		}
	}
	if k := names["kube"]; k.Kill != KillProcess || k.Autostart || k.In("rescue") || k.Shutdown >= names["agent"].Shutdown {
		t.Errorf("kube = %+v", k)
	}
	if !names["agent"].Autostart {
		t.Error("the agent does not start by itself")
	}
}

func TestLoadReplaces(t *testing.T) {
	image, changed := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(image, "a.yaml"):   "name: a\ncommand: [old]\n",
		filepath.Join(image, "b.yaml"):   "name: b\ncommand: [b]\n",
		filepath.Join(image, "c.yaml"):   "name: c\n",
		filepath.Join(changed, "a.yaml"): "name: a\ncommand: [new]\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Load(image, changed, filepath.Join(image, "absent"))
	if err == nil || !strings.Contains(err.Error(), "c.yaml: service c: no command") {
		t.Errorf("Load = %v, want the problem of c.yaml", err)
	}
	if len(all) != 2 || all[0].Command[0] != "new" || all[1].Name != "b" {
		t.Errorf("Load = %+v", all)
	}
}

func TestOrder(t *testing.T) {
	order := func(all ...Definition) string {
		var names []string
		for _, d := range Order(all) {
			names = append(names, d.Name)
		}
		return strings.Join(names, " ")
	}
	if got := order(Definition{Name: "console", After: []string{"agent", "nobody"}}, Definition{Name: "agent"}); got != "agent console" {
		t.Errorf("Order = %s", got)
	}
	if got := order(Definition{Name: "a", After: []string{"b"}}, Definition{Name: "b", After: []string{"a"}}); got != "b a" {
		t.Errorf("Order of a circle = %s", got)
	}
}

func TestExpand(t *testing.T) {
	d, err := Parse([]byte("name: console\neach: console\ncommand: [k, --tty, \"{console}\"]\nterminal: \"{console}\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	all := d.Expand([]string{"tty1", "ttyS0"})
	if len(all) != 2 || all[1].Name != "console-ttyS0" || all[1].Terminal != "ttyS0" || all[1].Command[2] != "ttyS0" || all[1].Cgroup != "console-ttyS0" {
		t.Errorf("Expand = %+v", all)
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{Initial: time.Second, Max: 5 * time.Second}
	var got []time.Duration
	pause := time.Duration(0)
	for _, ran := range []time.Duration{0, 0, 0, 0, time.Hour, 0} {
		pause = b.Next(pause, ran)
		got = append(got, pause/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 5, 1, 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("pauses = %v, want %v seconds", got, want)
	}
}

func TestEnv(t *testing.T) {
	file := filepath.Join(t.TempDir(), "environment")
	if err := os.WriteFile(file, []byte("# c\nA=1\nexport B=\"two words\"\nnonsense\nC='x'\n=y\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := Definition{EnvFile: file, Environment: map[string]string{"A": "2"}}.env([]string{"PATH=/bin"})
	if want := []string{"PATH=/bin", "A=1", "B=two words", "C=x", "A=2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("env = %q, want %q", got, want)
	}
}

func TestRing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r := OpenRing(path)
	r.max = 100
	line := []byte(strings.Repeat("x", 29) + "\n")
	for range 10 {
		r.Write(line)
	}
	r.Close()
	for _, p := range []string{path, path + ".1"} {
		if info, err := os.Stat(p); err != nil || info.Size() > 100 || info.Size()%30 != 0 {
			t.Errorf("%s: %v, %v", p, info, err)
		}
	}
	r.Write([]byte("more\n"))
	if b, _ := os.ReadFile(path); strings.Contains(string(b), "more") {
		t.Errorf("log after Close = %q", b)
	}
}

func TestPrefixer(t *testing.T) {
	var b bytes.Buffer
	p := &prefixer{to: &b, prefix: "kube: "}
	fmt.Fprint(p, "one\ntw")
	fmt.Fprint(p, "o\n"+strings.Repeat("y", longLine))
	if got := b.String(); !strings.HasPrefix(got, "kube: one\nkube: two\nkube: yyy") {
		t.Errorf("written %.60q", got)
	}
}

// house is a supervisor with these definitions and a folder for what their
// scripts write.
func house(t *testing.T, definitions ...string) (*Supervisor, string) {
	t.Helper()
	dir := t.TempDir()
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	s, err := New(Options{Logs: dir, Env: append(os.Environ(), "DIR="+dir), Log: quiet, Load: func() ([]Definition, error) {
		var all []Definition
		var errs []error
		for _, text := range definitions {
			d, err := Parse([]byte(text))
			all, errs = append(all, d), append(errs, err)
		}
		return all, errors.Join(errs...)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s, dir
}

// until waits for a state of affairs; the test's own time limit ends it.
func until(condition func() bool) {
	for !condition() {
		time.Sleep(2 * time.Millisecond)
	}
}

func (s *Supervisor) one(t *testing.T, name string) Status {
	t.Helper()
	for _, v := range s.Services() {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no service %s", name)
	return Status{}
}

func TestRestarts(t *testing.T) {
	s, dir := house(t, `{name: a, command: [sh, -c, "echo run; exit 3"], backoff: {initial: 1ms, max: 2ms}}`)
	if err := s.Start("a"); err != nil {
		t.Fatal(err)
	}
	until(func() bool { return s.one(t, "a").Restarts >= 3 })
	if err := s.Stop("a"); err != nil {
		t.Fatal(err)
	}
	if got := s.one(t, "a"); got.State != Stopped || got.Pid != 0 {
		t.Errorf("status = %+v", got)
	}
	until(func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "a.log"))
		return strings.Count(string(b), "run\n") >= 3
	})
}

func TestEndings(t *testing.T) {
	s, _ := house(t,
		`{name: once, command: [sh, -c, "exit 0"], restart: never}`,
		`{name: bad, command: [sh, -c, "exit 5"], restart: never}`,
		`{name: done, command: ["true"], restart: on-failure}`,
		`{name: absent, command: [/no/such/program], restart: never}`,
	)
	for name, want := range map[string]struct {
		state State
		exit  string
	}{
		"once": {Stopped, "exit status 0"}, "bad": {Failed, "exit status 5"}, "done": {Stopped, "exit status 0"}, "absent": {Failed, "not installed"},
	} {
		if err := s.Start(name); err != nil {
			t.Fatal(err)
		}
		until(func() bool { return s.one(t, name).LastExit != "" && s.one(t, name).State != Running })
		if got := s.one(t, name); got.State != want.state || !strings.Contains(got.LastExit, want.exit) {
			t.Errorf("%s: %+v, want %v, %q", name, got, want.state, want.exit)
		}
	}
	if err := s.Start("nobody"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Start(nobody) = %v", err)
	}
}

// TestKill: with kill: process the child of a service outlives it, with kill:
// group it does not. One that ignores TERM is killed.
func TestKill(t *testing.T) {
	const script = `[sh, -c, "trap '' TERM; sleep 600 & echo $! > $DIR/%s; wait; wait"]`
	s, dir := house(t,
		`{name: process, stop_timeout: 50ms, command: `+fmt.Sprintf(script, "process")+`}`,
		`{name: group, stop_timeout: 50ms, kill: group, command: `+fmt.Sprintf(script, "group")+`}`,
	)
	for name, survives := range map[string]bool{"process": true, "group": false} {
		if err := s.Start(name); err != nil {
			t.Fatal(err)
		}
		child := 0
		until(func() bool {
			b, _ := os.ReadFile(filepath.Join(dir, name))
			n, _ := fmt.Sscan(string(b), &child)
			return n == 1
		})
		if err := s.Stop(name); err != nil {
			t.Fatal(err)
		}
		if survives {
			if syscall.Kill(child, 0) != nil {
				t.Errorf("%s: the child went with its service", name)
			}
			syscall.Kill(child, syscall.SIGKILL)
			continue
		}
		until(func() bool { return gone(child) })
	}
}

// gone tells whether a process has ended; it may be a zombie of whoever
// adopted it.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestArgsFile(t *testing.T) {
	s, dir := house(t, `{name: a, command: [sh, -c, 'echo "$@" > $DIR/out', sh], args_file: ARGS, restart: never}`)
	s.services["a"].d.ArgsFile = filepath.Join(dir, "args")
	s.o.Load = func() ([]Definition, error) { return nil, nil }
	if err := os.WriteFile(filepath.Join(dir, "args"), []byte(`["server","--node-name","x y"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Start("a"); err != nil {
		t.Fatal(err)
	}
	until(func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "out"))
		return string(b) == "server --node-name x y\n"
	})
}

// TestShutdown: the order holds, the shutdown command runs only for what was
// started, and nothing starts afterwards.
func TestShutdown(t *testing.T) {
	const script = `[sh, -c, "trap 'echo %[1]s >> $DIR/order; exit' TERM; echo up > $DIR/%[1]s; while :; do sleep 0.01; done"]`
	definition := func(name string, order int) string {
		return fmt.Sprintf(`{name: %s, shutdown_order: %d, shutdown_command: [sh, -c, "echo hook-%[1]s >> $DIR/order"], command: `, name, order) + fmt.Sprintf(script, name) + "}"
	}
	s, dir := house(t, definition("late", 90), definition("first", 10), definition("never", 20))
	var up sync.WaitGroup
	for _, name := range []string{"late", "first"} {
		if err := s.Start(name); err != nil {
			t.Fatal(err)
		}
		up.Go(func() {
			until(func() bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil })
		})
	}
	up.Wait()
	s.Shutdown()
	b, _ := os.ReadFile(filepath.Join(dir, "order"))
	if want := "first\nhook-first\nlate\nhook-late\n"; string(b) != want {
		t.Errorf("order:\n%swant:\n%s", b, want)
	}
	if err := s.Start("first"); !errors.Is(err, ErrClosed) {
		t.Errorf("Start = %v, want ErrClosed", err)
	}
}

func TestAutostart(t *testing.T) {
	s, _ := house(t,
		`{name: here, autostart: true, modes: [live], command: [sleep, "600"]}`,
		`{name: elsewhere, autostart: true, modes: [disk], command: [sleep, "600"]}`,
		`{name: asked, command: [sleep, "600"]}`,
	)
	if err := s.Autostart("live"); err != nil {
		t.Fatal(err)
	}
	until(func() bool { return s.one(t, "here").State == Running })
	for _, name := range []string{"elsewhere", "asked"} {
		if got := s.one(t, name); got.State != Stopped {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
