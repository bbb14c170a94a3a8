// Package supervise starts, restarts and stops the services of the machine,
// and keeps the last of what each of them wrote.
package supervise

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"
)

// A Definition says how a service is run. Files in /usr/lib/kedge/services
// and /run/kedge/services hold one each.
type Definition struct {
	Name         string            `yaml:"name"`
	Command      []string          `yaml:"command"`          // argv
	ArgsFile     string            `yaml:"args_file"`        // JSON array of strings appended to Command, read at each start
	EnvFile      string            `yaml:"env_file"`         // KEY=VALUE lines, read at each start; may be absent
	Environment  map[string]string `yaml:"environment"`      // wins over EnvFile
	Directory    string            `yaml:"directory"`        // where it runs; "" means /
	Modes        []string          `yaml:"modes"`            // boot modes it belongs to; none means all
	Autostart    bool              `yaml:"autostart"`        // started at boot, else by request only
	After        []string          `yaml:"after"`            // started later than these at boot
	Restart      Restart           `yaml:"restart"`          // "" means always
	Backoff      Backoff           `yaml:"backoff"`          // between restarts
	StopSignal   Signal            `yaml:"stop_signal"`      // "" means TERM
	StopTimeout  time.Duration     `yaml:"stop_timeout"`     // then it is killed; 0 means 10 s
	Kill         Kill              `yaml:"kill"`             // who gets the signals; "" means process
	Cgroup       string            `yaml:"cgroup"`           // "" means Name
	OOMScore     int               `yaml:"oom_score_adj"`    // -1000 … 1000; the kernel kills high ones first
	Console      string            `yaml:"console"`          // "console": also copied to /dev/console
	Terminal     string            `yaml:"terminal"`         // terminal, without /dev, it reads and writes; no log then
	Each         string            `yaml:"each"`             // "console": one for each console, its name for {console} below
	Shutdown     int               `yaml:"shutdown_order"`   // low ones are stopped first; 0 means 50
	ShutdownHook []string          `yaml:"shutdown_command"` // run after the service has stopped, when the machine goes down
}

// Restart says when a service that ended is started again.
type Restart string

// When a service is started again.
const (
	RestartAlways    Restart = "always"
	RestartOnFailure Restart = "on-failure"
	RestartNever     Restart = "never"
)

// Kill says who gets the signals that stop a service.
type Kill string

// Who gets the signals.
const (
	KillProcess Kill = "process"
	KillGroup   Kill = "group"
)

// Backoff is the pause before a restart: Initial, doubled each time up to Max.
// It starts over when the service ran for longer than Max.
type Backoff struct {
	Initial time.Duration `yaml:"initial"` // 0 means 1 s
	Max     time.Duration `yaml:"max"`     // 0 means 60 s
}

// Next returns the pause that follows after, for a service that ran so long.
func (b Backoff) Next(after, ran time.Duration) time.Duration {
	if after == 0 || ran > b.Max {
		return b.Initial
	}
	return min(2*after, b.Max)
}

// Signal is the name of a signal, without SIG.
type Signal string

var signals = map[Signal]syscall.Signal{
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
}

// Parse reads one definition strictly and fills in what it leaves out.
func Parse(data []byte) (Definition, error) {
	var d Definition
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&d); err != nil {
		return Definition{}, err
	}
	d.fill()
	return d, d.check()
}

func (d *Definition) fill() {
	byDefault(&d.Restart, RestartAlways)
	byDefault(&d.Backoff.Initial, time.Second)
	byDefault(&d.Backoff.Max, time.Minute)
	byDefault(&d.StopSignal, "TERM")
	byDefault(&d.StopTimeout, 10*time.Second)
	byDefault(&d.Kill, KillProcess)
	byDefault(&d.Cgroup, d.Name)
	byDefault(&d.Directory, "/")
	byDefault(&d.Shutdown, 50)
}

func byDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (d *Definition) check() error {
	switch {
	case d.Name == "" || strings.ContainsAny(d.Name, "/ \n"):
		return fmt.Errorf("name %q: empty, or with a slash or blank", d.Name)
	case strings.ContainsAny(d.Cgroup, "/ \n"):
		return fmt.Errorf("service %s: cgroup %q has a slash or blank", d.Name, d.Cgroup)
	case len(d.Command) == 0:
		return fmt.Errorf("service %s: no command", d.Name)
	case !slices.Contains([]Restart{RestartAlways, RestartOnFailure, RestartNever}, d.Restart):
		return fmt.Errorf("service %s: restart %q is none of always, on-failure, never", d.Name, d.Restart)
	case !slices.Contains([]Kill{KillProcess, KillGroup}, d.Kill):
		return fmt.Errorf("service %s: kill %q is neither process nor group", d.Name, d.Kill)
	case signals[d.StopSignal] == 0:
		return fmt.Errorf("service %s: unknown stop_signal %q", d.Name, d.StopSignal)
	case d.Each != "" && d.Each != "console":
		return fmt.Errorf("service %s: each %q is not console", d.Name, d.Each)
	case d.Console != "" && d.Console != "console":
		return fmt.Errorf("service %s: console %q is not console", d.Name, d.Console)
	}
	return nil
}

// In tells whether the service belongs to a boot mode.
func (d Definition) In(mode string) bool { return len(d.Modes) == 0 || slices.Contains(d.Modes, mode) }

// Expand returns the definition once for each console if it asks for that,
// else itself.
func (d Definition) Expand(consoles []string) []Definition {
	if d.Each == "" {
		return []Definition{d}
	}
	var all []Definition
	for _, name := range consoles {
		c := d
		put := strings.NewReplacer("{console}", name).Replace
		c.Name, c.Terminal, c.Each = d.Name+"-"+name, put(d.Terminal), ""
		if d.Cgroup == d.Name {
			c.Cgroup = c.Name
		}
		c.Command = nil
		for _, word := range d.Command {
			c.Command = append(c.Command, put(word))
		}
		all = append(all, c)
	}
	return all
}

// Load reads the definitions in several folders. A later folder's file replaces
// the one of the same file name in an earlier one. What is wrong in one
// file does not cost the others: the error joins all problems.
func Load(dirs ...string) ([]Definition, error) {
	files := map[string]string{}
	for _, dir := range dirs {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.yaml"))
		for _, p := range paths {
			files[filepath.Base(p)] = p
		}
	}
	var all []Definition
	var errs []error
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		d, err := read(files[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s: %w", files[name], err))
			continue
		}
		all = append(all, d)
	}
	return all, errors.Join(errs...)
}

func read(path string) (Definition, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Definition{}, err
	}
	return Parse(data)
}

// Order sorts definitions so that each stands behind those it starts after.
// Names that do not exist are passed over; a circle is cut where it is met.
func Order(all []Definition) []Definition {
	byName := map[string]Definition{}
	for _, d := range all {
		byName[d.Name] = d
	}
	var ordered []Definition
	seen := map[string]bool{}
	var visit func(Definition)
	visit = func(d Definition) {
		if seen[d.Name] {
			return
		}
		seen[d.Name] = true
		for _, name := range d.After {
			if first, ok := byName[name]; ok {
				visit(first)
			}
		}
		ordered = append(ordered, d)
	}
	for _, d := range all {
		visit(d)
	}
	return ordered
}

// argv returns the command line, with what the args file adds. An absent file
// adds nothing.
func (d Definition) argv() ([]string, error) {
	argv := slices.Clone(d.Command)
	if d.ArgsFile == "" {
		return argv, nil
	}
	data, err := os.ReadFile(d.ArgsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return argv, nil
	}
	if err != nil {
		return nil, err
	}
	var more []string
	if err := json.Unmarshal(data, &more); err != nil {
		return nil, fmt.Errorf("read %s: %w", d.ArgsFile, err)
	}
	return append(argv, more...), nil
}

// env returns the environment: base, then the lines of EnvFile, then
// Environment; later wins.
func (d Definition) env(base []string) []string {
	env := slices.Clone(base)
	if data, err := os.ReadFile(d.EnvFile); err == nil {
		env = append(env, parseEnv(data)...)
	}
	for _, key := range slices.Sorted(maps.Keys(d.Environment)) {
		env = append(env, key+"="+d.Environment[key])
	}
	return env
}

// parseEnv reads KEY=VALUE lines; comments and other lines are passed over, and
// one pair of quotes around a value is taken off.
func parseEnv(data []byte) []string {
	var env []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := strings.TrimPrefix(strings.TrimSpace(lines.Text()), "export ")
		key, value, found := strings.Cut(line, "=")
		if !found || strings.HasPrefix(line, "#") || key == "" {
			continue
		}
		for _, quote := range []string{`"`, `'`} {
			if len(value) > 1 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
				value = value[1 : len(value)-1]
				break
			}
		}
		env = append(env, key+"="+value)
	}
	return env
}
