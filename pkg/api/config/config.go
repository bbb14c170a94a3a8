// Package config knows config.yaml: its keys, their values and how several
// sources become one configuration.
//
// The Go types below are the schema: their tags name each key, its aliases and
// its domain, the table in text.go explains it, and the decoder, the JSON
// schema, the reference and config.yaml.example are derived from the two.
//
// One engine reads in two moods. Validate is strict and names everything that
// is doubtful. Parse is for a machine that boots: it takes every sound key,
// accepts what k3OS accepted, and tells what it left out; one bad key or list
// item never costs the others. What Validate finds no fault with, Parse reads
// without a problem and in the same sense.
//
// The package decides; it opens no file and applies nothing.
package config

import (
	"fmt"
	"strings"
	"time"
)

// Config is one configuration. The k3os: block of a k3OS file is read into
// Kedge; HasK3OS tells that there was one.
type Config struct {
	Hostname          string   `key:"hostname" check:"hostname"`
	SSHAuthorizedKeys []string `key:"ssh_authorized_keys,adds,once" check:"ssh key"`
	WriteFiles        []File   `key:"write_files,adds" identity:"path"`
	InitCmd           []string `key:"init_cmd,adds" check:"command"`
	BootCmd           []string `key:"boot_cmd,adds" check:"command"`
	RunCmd            []string `key:"run_cmd,adds" check:"command"`
	Kedge             Kedge    `key:"kedge" alias:"k3os"`

	HasK3OS bool `key:"-"`
}

// Kedge is the block kedge:, with all keys that k3OS had in its own.
type Kedge struct {
	DataSources    []string          `key:"data_sources" check:"data source"`
	Modules        []string          `key:"modules,adds,once" check:"module"`
	Sysctls        map[string]string `key:"sysctls" check:"sysctl"`
	NTPServers     []string          `key:"ntp_servers" check:"host"`
	DNSNameservers []string          `key:"dns_nameservers" check:"address"`
	Wifi           []Wifi            `key:"wifi,adds" identity:"name"`
	Password       string            `key:"password,secret" check:"password"`
	ServerURL      string            `key:"server_url,role" check:"server url"`
	Token          string            `key:"token,secret,role" check:"token"`
	Labels         map[string]string `key:"labels" check:"label"`
	K3sArgs        []string          `key:"k3s_args,role" check:"argument"`
	Environment    map[string]string `key:"environment" check:"environment"`
	Taints         []string          `key:"taints" check:"taint"`
	Storage        []Storage         `key:"storage,adds" identity:"path"`
	Install        Install           `key:"install"`
	Upgrade        Upgrade           `key:"upgrade"`
}

// Wifi is one wireless network; without a passphrase it is an open one.
type Wifi struct {
	Name       string `key:"name,required" check:"wifi name"`
	Passphrase string `key:"passphrase,secret" alias:"pass,password" check:"wifi passphrase"`
}

// File is one file to write; see Bytes, Mode and Target.
type File struct {
	Path        string `key:"path,required" check:"path"`
	Content     string `key:"content"`
	Encoding    string `key:"encoding" check:"encoding"`
	Owner       string `key:"owner" check:"owner"`
	Permissions string `key:"permissions" check:"permissions"`
}

// Install says how the system is installed to a disk.
type Install struct {
	Device    string        `key:"device" check:"path"`
	Disk      DiskSelection `key:"disk"`
	Wipe      bool          `key:"wipe"`
	ConfigURL string        `key:"config_url" check:"url"`
	ISOURL    string        `key:"iso_url" check:"url"`
	Silent    bool          `key:"silent"`
	ForceEFI  bool          `key:"force_efi"`
	NoFormat  bool          `key:"no_format"`
	PowerOff  bool          `key:"power_off"`
	Debug     bool          `key:"debug"`
	TTY       string        `key:"tty" check:"argument"`
}

// Upgrade says how another release is put on trial.
type Upgrade struct {
	HealthTimeout string   `key:"health_timeout" check:"health timeout"`
	Health        []string `key:"health,adds,once" check:"health check"`
	Keys          []string `key:"keys,adds,once" check:"public key"`
	KeysURL       string   `key:"keys_url" check:"url"`
	AllowUnsigned bool     `key:"allow_unsigned"`
	Bandwidth     string   `key:"bandwidth" check:"bandwidth"`
}

// Bounds of upgrade.health_timeout. PID 1 restarts a trial that nobody has
// decided about a little later than the longest.
const (
	DefaultHealthTimeout = 15 * time.Minute
	MaxHealthTimeout     = 20 * time.Minute
)

// DiskSelection says which disk is meant without its name.
type DiskSelection struct {
	Match DiskMatch `key:"match"`
}

// DiskMatch tells disks apart; all that is set must fit. The texts are patterns
// of path.Match, without regard to case.
type DiskMatch struct {
	Serial    string `key:"serial" check:"pattern"`
	Model     string `key:"model" check:"pattern"`
	Transport string `key:"transport" check:"transport"`
	MinSize   string `key:"min_size" check:"size"`
	MaxSize   string `key:"max_size" check:"size"`
}

// A Problem is one thing in a source that is not sound. Line and Column count
// from 1 and are 0 where the source has none, as a kernel command line.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Key     string `json:"key,omitempty"`     // as the user wrote it
	Message string `json:"message"`           //
	Nearest string `json:"nearest,omitempty"` // the known key that was probably meant
	Fatal   bool   `json:"fatal,omitempty"`   // the whole source is lost, or a key that decides the node's role
}

// String is the problem as a compiler would print it: file:line:column: key: message.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	b.WriteString(": " + p.Message)
	if p.Nearest != "" {
		fmt.Fprintf(&b, "; did you mean %q?", p.Nearest)
	}
	return b.String()
}

// A Layer is what one source says.
type Layer struct {
	Source string         // as given to Parse
	Config Config         //
	Lines  map[string]int // every key the source sets, by its full name (kedge.labels.site, write_files[0]), and its line
	Script []byte         // the whole source, when it is a script and no YAML; nothing else is set then
}

// Has tells whether the source sets the key with this full name.
func (l Layer) Has(key string) bool {
	_, ok := l.Lines[key]
	return ok
}

// Effective is the configuration that several layers make together.
type Effective struct {
	Config
	Origins map[string]Origin // full name of a key, as in Layer.Lines, to where its value comes from
}

// Origin is the place where a value was set; Line is 0 where the source has
// no lines.
type Origin struct {
	Source string `json:"source"`
	Line   int    `json:"line,omitempty"`
}

func (o Origin) String() string {
	if o.Line == 0 {
		return o.Source
	}
	return fmt.Sprintf("%s:%d", o.Source, o.Line)
}
