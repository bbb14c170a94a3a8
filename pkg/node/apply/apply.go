// Package apply turns a configuration into an ordered list of steps on this
// machine, and runs them.
//
// The steps are data, made by pure functions; a loop runs them and collects
// what went wrong. A step that fails never stops the others.
//
// Three phases, named after the command lists of k3OS: Init before the network
// is up, Boot once it is and before Kubernetes starts, Run when the services
// run.
package apply

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
)

// A Machine is what steps may do.
type Machine interface {
	ReadFile(path string) ([]byte, error)
	// WriteFile replaces a file and makes its parent folders. Owner is
	// "user", "user:group" or "", by name or number.
	WriteFile(path string, data []byte, mode fs.FileMode, owner string) error
	MakeDir(path string, mode fs.FileMode, owner string) error
	Symlink(target, path string) error
	SetHostname(name string) error
	SetSysctl(key, value string) error
	LoadModule(ctx context.Context, name string, params string) error
	// Shell runs a command of the user; the error carries its last lines. When
	// it takes longer than patience it goes on by itself, and Shell returns an
	// error that says so.
	Shell(ctx context.Context, command string, patience time.Duration) error
}

// A Step is one thing to do. Its String is what a log shows and tests compare.
type Step interface {
	fmt.Stringer
	Do(context.Context, Machine) error
}

// A Failure is a step that did not work.
type Failure struct {
	Step Step
	Key  string // the configuration key it came from, "" for our own steps
	Err  error
}

func (f Failure) Error() string { return fmt.Sprintf("%s: %v", f.Step, f.Err) }

// Run does all steps in order and returns what failed.
func Run(ctx context.Context, m Machine, steps []Step) []Failure {
	var failures []Failure
	for _, s := range steps {
		if err := s.Do(ctx, m); err != nil {
			failures = append(failures, Failure{s, keyOf(s), err})
		}
	}
	return failures
}

func keyOf(s Step) string {
	if k, ok := s.(interface{ key() string }); ok {
		return k.key()
	}
	return ""
}

// Patience is how long a boot waits for one command of the user before it goes
// on without it.
const Patience = 2 * time.Minute

// Facts are what the machine itself brings along.
type Facts struct {
	Hostname string // when the configuration has none
}

// Places of what the agent writes for other programs.
const (
	KeysDir     = "/run/kedge/ssh/authorized_keys" // one file per user, read by sshd
	ChronyDir   = "/run/kedge/chrony"
	Environment = "/etc/environment"
	KubeArgFile = "/run/kedge/kube.args"
	User        = "kedge"
	Alias       = "rancher" // the same user under the name that k3OS gave it
	Home        = "/home/kedge"
)

// Init lists what is done before the network comes up.
func Init(c config.Config, f Facts) []Step {
	name := c.Hostname
	if name == "" {
		name = f.Hostname
	}
	steps := []Step{Hostname{Name: name}}
	for _, m := range c.Kedge.Modules {
		module, params, _ := strings.Cut(strings.TrimSpace(m), " ")
		steps = append(steps, Module{module, strings.TrimSpace(params)})
	}
	for _, k := range slices.Sorted(maps.Keys(c.Kedge.Sysctls)) {
		steps = append(steps, Sysctl{k, c.Kedge.Sysctls[k]})
	}
	steps = append(steps, environment(c)...)
	steps = append(steps, user(c)...)
	for _, file := range c.WriteFiles {
		steps = append(steps, File{file})
	}
	return append(steps, commands("init_cmd", c.InitCmd)...)
}

// Boot lists what is done when the network is up or was given up waiting for.
func Boot(c config.Config) []Step { return commands("boot_cmd", c.BootCmd) }

// Commands lists run_cmd, which comes last.
func Commands(c config.Config) []Step { return commands("run_cmd", c.RunCmd) }

func commands(list string, lines []string) []Step {
	var steps []Step
	for _, line := range lines {
		steps = append(steps, Command{list, line})
	}
	return steps
}

// environment keeps what the image says and adds the user's.
func environment(c config.Config) []Step {
	env := maps.Clone(c.Kedge.Environment)
	if more := KubeArgs(c, "", "").Environment; more != nil {
		if env == nil {
			env = map[string]string{}
		}
		maps.Copy(env, more)
	}
	if len(env) == 0 {
		return nil
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "%s=%s\n", k, env[k])
	}
	return []Step{Write{Path: Environment, Data: b.String(), Mode: 0o644, Key: "kedge.environment"}}
}

func user(c config.Config) []Step {
	steps := []Step{Dir{Path: Home, Mode: 0o750, Owner: User + ":" + User}}
	if c.HasK3OS {
		steps = append(steps, AliasUser{Of: User, Name: Alias}, Link{Target: Home, Path: path.Join("/home", Alias)})
	}
	if c.Kedge.Password != "" {
		steps = append(steps, Password{User: User, Value: c.Kedge.Password})
		if c.HasK3OS {
			steps = append(steps, Password{User: Alias, Value: c.Kedge.Password})
		}
	}
	return append(steps, Keys(c, LiteralKeys(c.SSHAuthorizedKeys))...)
}

// Keys lists the steps that let the holders of these keys in, and nobody else
// by this way.
func Keys(c config.Config, keys []string) []Step {
	text := ""
	for _, k := range keys {
		text += k + "\n"
	}
	steps := []Step{Write{Path: path.Join(KeysDir, User), Data: text, Mode: 0o644, Key: "ssh_authorized_keys"}}
	if c.HasK3OS {
		steps = append(steps, Write{Path: path.Join(KeysDir, Alias), Data: text, Mode: 0o644, Key: "ssh_authorized_keys"})
	}
	return steps
}

// Chrony writes the time servers. The configured ones win; those of the lease
// come before the default of the image.
func Chrony(servers []string) Step {
	var b strings.Builder
	for _, s := range servers {
		kind := "pool"
		if _, err := netip.ParseAddr(s); err == nil {
			kind = "server"
		}
		fmt.Fprintf(&b, "%s %s iburst\n", kind, s)
	}
	return Write{Path: path.Join(ChronyDir, "kedge.sources"), Data: b.String(), Mode: 0o644, Key: "kedge.ntp_servers"}
}

// Unsupported returns what the configuration asks for and this version cannot
// do yet.
func Unsupported(e config.Effective) []config.Problem {
	var problems []config.Problem
	say := func(key, message string) {
		o := e.Origins[key]
		p := config.Problem{File: o.Source, Line: o.Line, Key: key, Message: message}
		if o.Line > 0 {
			p.Column = 1
		}
		problems = append(problems, p)
	}
	if len(e.Kedge.Wifi) > 0 {
		say("kedge.wifi", "skipped: wireless networks are not in this version")
	}
	for i, s := range e.Kedge.DataSources {
		if name, _, _ := strings.Cut(s, "="); !slices.Contains([]string{"cdrom", "nocloud", "file"}, strings.ToLower(name)) {
			say(fmt.Sprintf("kedge.data_sources[%d]", i), fmt.Sprintf("skipped: source %q is not in this version", s))
		}
	}
	install := e.Kedge.Install
	for _, k := range []struct {
		key string
		set bool
	}{{"debug", install.Debug}, {"tty", install.TTY != ""}} {
		if k.set {
			say("kedge.install."+k.key, "skipped: not in this version")
		}
	}
	return problems
}
