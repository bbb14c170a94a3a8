package config

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/format/minisign"
)

// domains says, by the name in a check tag, which values are sound. Name is
// the key in a mapping, "" elsewhere. Words has the domain for the reference,
// pattern, where a regular expression can say it, for the JSON schema.
var domains = map[string]struct {
	words   string
	pattern *regexp.Regexp
	check   func(name, value string) error
}{
	"address":         {"IP address", nil, checkAddress},
	"argument":        {"text without line breaks", oneLine, nil},
	"bandwidth":       {"bytes per second, such as 500KB", nil, checkBandwidth},
	"command":         {"shell command", nil, checkCommand},
	"data source":     {"one of " + strings.Join(dataSources, ", ") + ", or file=PATH", regexp.MustCompile(`^(` + strings.Join(dataSources, "|") + `|file=.+)$`), nil},
	"encoding":        {"name of an encoding", nil, checkEncoding},
	"environment":     {"NAME: text without line breaks", nil, checkEnvironment},
	"file system":     {"ext4 or vfat", regexp.MustCompile(`^(ext4|vfat)$`), nil},
	"format":          {"if_blank or never", regexp.MustCompile(`^(if_blank|never)$`), nil},
	"fs label":        {"at most 16 letters, digits, dots, dashes and underscores (11 on vfat)", regexp.MustCompile(`^[A-Za-z0-9._-]{1,16}$`), nil},
	"health check":    {"shell command, or http, https or tcp URL", nil, checkHealth},
	"health timeout":  {"time such as 90s or 10m, at most 20m", nil, checkHealthTimeout},
	"host":            {"host name or IP address", nil, checkHost},
	"hostname":        {"host name of RFC 1123", nil, checkHostname},
	"label":           {"Kubernetes label", nil, checkLabel},
	"mount options":   {"options of mount(8), joined by commas", regexp.MustCompile(`^[A-Za-z0-9_=.:-]+(,[A-Za-z0-9_=.:-]+)*$`), nil},
	"mount point":     {"folder below /var, /opt, /home, /usr/local, /mnt, /media or /srv, or one of the last three", nil, checkMountPoint},
	"module":          {"module name, then its parameters", regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*( [^\x00-\x1f]*)?$`), nil},
	"owner":           {"user or user:group, names or numbers", regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`), nil},
	"pattern":         {"text, in which * stands for any", nil, checkPattern},
	"password":        {"password or its crypt hash, which begins with $", nil, checkPassword},
	"path":            {"path", regexp.MustCompile(`^[^\x00\n]+$`), nil},
	"permissions":     {"three to five octal digits", regexp.MustCompile(`^(0o)?[0-7]{3,5}$`), checkPermissions},
	"public key":      {"minisign public key", nil, checkPublicKey},
	"server url":      {"https URL", nil, checkServerURL},
	"size":            {"size such as 500GB or 64GiB", nil, checkSize},
	"ssh key":         {"public key line, github:USER, gitlab:USER or URL", nil, checkSSHKey},
	"sysctl":          {"name: value", nil, checkSysctl},
	"taint":           {"key=value:Effect, or key:Effect", nil, checkTaint},
	"token":           {"text without blanks", nil, checkToken},
	"transport":       {"one of " + strings.Join(transports, ", "), regexp.MustCompile(`^(` + strings.Join(transports, "|") + `)$`), nil},
	"url":             {"URL or absolute path", nil, checkURL},
	"wifi name":       {"at most 32 bytes", regexp.MustCompile(`^[^\x00\n]{1,32}$`), nil},
	"wifi passphrase": {"8 to 63 letters or 64 hexadecimal digits", nil, checkPassphrase},
}

var (
	oneLine     = regexp.MustCompile(`^[^\x00\r\n]+$`)
	transports  = []string{"mmc", "nvme", "sata", "scsi", "usb", "virtio"}
	dataSources = []string{"aws", "cdrom", "digitalocean", "gcp", "hetzner", "openstack", "packet", "scaleway", "vultr"}
)

// check tells why a value is out of its domain, nil if it is not.
func check(domain, name, value string) error {
	if domain == "" {
		return nil
	}
	d := domains[domain]
	if d.pattern != nil && !d.pattern.MatchString(value) {
		return fmt.Errorf("want %s, not %s", d.words, quoted(value))
	}
	if d.check == nil {
		return nil
	}
	return d.check(name, value)
}

// quoted shows a value in a message, shortened.
func quoted(s string) string {
	if len(s) > 60 {
		s = s[:57] + "..."
	}
	return fmt.Sprintf("%q", s)
}

var hostLabel = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func isHostname(s string) bool {
	return len(s) <= 253 && !slices.ContainsFunc(strings.Split(s, "."), func(l string) bool { return !hostLabel.MatchString(l) })
}

func checkHostname(_, s string) error {
	if !isHostname(s) {
		return fmt.Errorf("no host name: %s; letters, digits and dashes, in parts of at most 63 joined by dots", quoted(s))
	}
	return nil
}

func checkAddress(_, s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return fmt.Errorf("an IP address is wanted, not %s", quoted(s))
	}
	return nil
}

func checkHost(_, s string) error {
	if checkAddress("", s) != nil && !isHostname(s) {
		return fmt.Errorf("a host name or an IP address is wanted, not %s", quoted(s))
	}
	return nil
}

func checkPattern(_, s string) error {
	if _, err := path.Match(s, ""); err != nil {
		return fmt.Errorf("%s: a [ has no ]", quoted(s))
	}
	return nil
}

func checkHealthTimeout(_, s string) error {
	if d, err := time.ParseDuration(s); err != nil || d <= 0 || d > MaxHealthTimeout {
		return fmt.Errorf("a time such as 90s or 10m is wanted, at most 20m, not %s", quoted(s))
	}
	return nil
}

func checkPublicKey(_, s string) error {
	if _, err := minisign.ParsePublicKey(s); err != nil {
		return fmt.Errorf("the one line of a .pub file that begins with RW is wanted, not %s", quoted(s))
	}
	return nil
}

func checkSize(_, s string) error {
	_, err := ParseSize(s)
	return err
}

var (
	size      = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([kKMGT]i?)?B?$`)
	sizeUnits = map[string]float64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "ki": 1 << 10, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
)

// ParseSize returns the bytes that a text such as 500GB (powers of 1000) or
// 64GiB (powers of 1024) means; 0 for "".
func ParseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	m := size.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("a size such as 500GB or 64GiB is wanted, not %s", quoted(s))
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if n *= sizeUnits[m[2]]; err != nil || n > 1<<60 {
		return 0, fmt.Errorf("a size such as 500GB or 64GiB is wanted, not %s", quoted(s))
	}
	return int64(n), nil
}

func checkBandwidth(_, s string) error {
	_, err := ParseBandwidth(s)
	return err
}

// minBandwidth is the least that can have been meant, in bytes per second: with
// it an image takes a day and a half.
const minBandwidth = 1000

// ParseBandwidth returns the bytes per second that a text such as 500KB or
// 2MiB/s means; 0, which is no limit, for "" and "0".
func ParseBandwidth(s string) (int64, error) {
	n, err := ParseSize(strings.TrimSuffix(s, "/s"))
	if err != nil || n > 0 && n < minBandwidth {
		return 0, fmt.Errorf("bytes per second, such as 500KB or 2MiB, are wanted, at least 1KB, or 0 for no limit, not %s", quoted(s))
	}
	return n, nil
}

func checkCommand(_, s string) error {
	if strings.TrimSpace(s) == "" || strings.Contains(s, "\x00") {
		return errors.New("no command")
	}
	return nil
}

// IsProbe tells whether a health check is a URL to ask, not a command to run.
func IsProbe(check string) bool {
	scheme, _, ok := strings.Cut(check, "://")
	return ok && slices.Contains([]string{"http", "https", "tcp"}, scheme)
}

func checkHealth(name, s string) error {
	if !IsProbe(s) {
		return checkCommand(name, s)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || strings.ContainsAny(s, " <>"):
		return fmt.Errorf("a URL such as http://127.0.0.1:30080/healthz is wanted, not %s", quoted(s))
	case u.Scheme == "tcp" && (u.Port() == "" || u.Path != ""):
		return fmt.Errorf("an address such as tcp://127.0.0.1:5432 is wanted, not %s", quoted(s))
	}
	return nil
}

func checkEncoding(_, s string) error {
	if _, ok := encodings[strings.ToLower(strings.TrimSpace(s))]; !ok {
		return fmt.Errorf("unknown encoding %s; known are %s", quoted(s), strings.Join(Encodings()[1:], ", "))
	}
	return nil
}

func checkPermissions(_, s string) error {
	_, err := File{Permissions: s}.Mode()
	return err
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkEnvironment(name, s string) error {
	if !envName.MatchString(name) {
		return fmt.Errorf("no name of a variable: %s", quoted(name))
	}
	if strings.ContainsAny(s, "\x00\r\n") {
		return errors.New("a value without line breaks is wanted")
	}
	return nil
}

var sysctlName = regexp.MustCompile(`^[A-Za-z0-9_-]+([./][A-Za-z0-9_:@-]+)+$`)

func checkSysctl(name, s string) error {
	if !sysctlName.MatchString(name) {
		return fmt.Errorf("no name of a sysctl: %s", quoted(name))
	}
	if s == "" || strings.ContainsAny(s, "\x00\r\n") {
		return errors.New("a value of one line is wanted")
	}
	return nil
}

var labelPart = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)

func checkLabelName(name string) error {
	prefix, rest, ok := strings.Cut(name, "/")
	if !ok {
		prefix, rest = "prefix", name
	}
	if !labelPart.MatchString(rest) || !isHostname(prefix) || prefix != strings.ToLower(prefix) {
		return fmt.Errorf("no Kubernetes name: %s", quoted(name))
	}
	return nil
}

func checkLabel(name, s string) error {
	if err := checkLabelName(name); err != nil {
		return err
	}
	if s != "" && !labelPart.MatchString(s) {
		return fmt.Errorf("no value of a label: %s; at most 63 letters, digits, dashes, underscores and dots", quoted(s))
	}
	return nil
}

func checkTaint(_, s string) error {
	rest, effect, ok := strings.Cut(s, ":")
	if !ok || !slices.Contains([]string{"NoSchedule", "PreferNoSchedule", "NoExecute"}, effect) {
		return fmt.Errorf("a taint ends with :NoSchedule, :PreferNoSchedule or :NoExecute, not %s", quoted(s))
	}
	name, value, _ := strings.Cut(rest, "=")
	return checkLabel(name, value)
}

func checkURL(_, s string) error {
	if strings.HasPrefix(s, "/") {
		return nil
	}
	if u, err := url.Parse(s); err != nil || u.Scheme == "" || u.Host == "" && u.Path == "" || strings.ContainsAny(s, " <>") {
		return fmt.Errorf("a URL is wanted, not %s", quoted(s))
	}
	return nil
}

func checkServerURL(_, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.ContainsAny(s, " <>\"") {
		return fmt.Errorf("a URL such as https://192.0.2.1:6443 is wanted, not %s", quoted(s))
	}
	return nil
}

var (
	printable   = regexp.MustCompile(`^[\x21-\x7e]+$`)
	pinnedToken = regexp.MustCompile(`^K10[0-9a-f]{64}::[^:]+`)
)

func checkToken(_, s string) error {
	if !printable.MatchString(s) {
		return errors.New("a token without blanks is wanted")
	}
	if strings.HasPrefix(s, "K10") && strings.Contains(s, "::") && !pinnedToken.MatchString(s) {
		return errors.New("a token that begins with K10 has 64 hexadecimal digits, two colons and a secret")
	}
	return nil
}

// checkPassword, like those of all secrets, does not show the value.
func checkPassword(_, s string) error {
	if !oneLine.MatchString(s) {
		return errors.New("a password of one line is wanted")
	}
	return nil
}

var passphrase = regexp.MustCompile(`^[\x20-\x7e]{8,63}$|^[0-9A-Fa-f]{64}$`)

func checkPassphrase(_, s string) error {
	if !passphrase.MatchString(s) {
		return errors.New("8 to 63 ASCII letters or 64 hexadecimal digits are wanted")
	}
	return nil
}

var forge = regexp.MustCompile(`^(github|gitlab):[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func checkSSHKey(_, s string) error {
	switch {
	case forge.MatchString(s):
		return nil
	case strings.HasPrefix(s, "https://"), strings.HasPrefix(s, "http://"):
		return checkURL("", s)
	case strings.ContainsAny(s, "\x00\r") || strings.Contains(strings.TrimSpace(s), "\n"):
		return errors.New("one key per item is wanted")
	}
	fields := strings.Fields(s)
	for i, f := range fields[:max(len(fields)-1, 0)] {
		if !strings.HasPrefix(f, "ssh-") && !strings.HasPrefix(f, "ecdsa-") && !strings.HasPrefix(f, "sk-") {
			continue
		}
		blob, err := base64.StdEncoding.DecodeString(fields[i+1])
		if err != nil || len(blob) < 4+len(f) || hex.EncodeToString(blob[:4]) != fmt.Sprintf("%08x", len(f)) || string(blob[4:4+len(f)]) != f {
			return fmt.Errorf("damaged %s key", f)
		}
		return nil
	}
	return fmt.Errorf("a public key, github:USER, gitlab:USER or a URL is wanted, not %s", quoted(s))
}
