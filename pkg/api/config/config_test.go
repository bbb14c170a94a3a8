package config

import (
	"bytes"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
)

func TestProblemString(t *testing.T) {
	for _, tt := range []struct {
		p    Problem
		want string
	}{
		{Problem{File: "f", Line: 3, Column: 5, Key: "k3os.k3Args", Message: "unknown key", Nearest: "k3s_args"}, `f:3:5: k3os.k3Args: unknown key; did you mean "k3s_args"?`},
		{Problem{File: CmdlineSource, Key: "hostname", Message: "no host name"}, "kernel command line: hostname: no host name"},
		{Problem{File: "f", Line: 1, Column: 1, Message: "a script, not YAML"}, "f:1:1: a script, not YAML"},
	} {
		if got := tt.p.String(); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// TestProblemsNeverShowSecrets puts one text into every secret, in forms that
// are refused or doubted.
func TestProblemsNeverShowSecrets(t *testing.T) {
	for _, value := range []string{`"se cr\net"`, "012345secret", "0123456", "12:34", "[ 12:34 ]", "{ a: 0123456 }", "K10zz::0123456", "yes"} {
		source := "k3os:\n  password: " + value + "\n  token: " + value + "\n  wifi: [ { name: a, passphrase: " + value + " } ]\nkedge: { token: other }\n"
		for _, p := range append(Validate("f", []byte(source)), problemsOf(source)...) {
			for _, secret := range []string{"cr", "0123456", "12:34", "K10zz"} {
				if strings.Contains(p.Message, secret) && !strings.Contains(p.Message, "secret") {
					t.Errorf("%s: %s", value, p)
				}
			}
		}
	}
}

func problemsOf(source string) []Problem {
	_, problems := Parse("f", []byte(source))
	return problems
}

func TestSpellings(t *testing.T) {
	for _, name := range []string{"k3s_args", "k3sArgs", "k3sargs", "k3s_arg", "K3S_ARGS", "k3s-args", "k3sArg"} {
		layer, problems := Parse("f", []byte("k3os: { "+name+": [ agent ] }"))
		if len(problems) > 0 || !slices.Equal(layer.Config.Kedge.K3sArgs, []string{"agent"}) {
			t.Errorf("%s: %v, %v", name, layer.Config.Kedge.K3sArgs, problems)
		}
		if strict := Validate("f", []byte("k3os: { "+name+": [ agent ] }")); (len(strict) > 0) != (name != "k3s_args") {
			t.Errorf("%s: strict: %v", name, strict)
		}
	}
}

func TestNearest(t *testing.T) {
	kedge, file := schema.find("kedge"), schema.find("write_files")
	for _, tt := range []struct {
		block      *key
		name, want string
	}{
		{kedge, "k3Args", "k3s_args"}, {kedge, "k3os_args", "k3s_args"}, {kedge, "k3_args", "k3s_args"},
		{kedge, "lables", "labels"}, {kedge, "hostname", "hostname"}, {kedge, "fallback_mode", ""}, {kedge, "enabled", ""},
		{schema, "ntp_servers", "kedge.ntp_servers"}, {schema, "hostnmae", "hostname"}, {schema, "merge_how", ""},
		{schema, "kegde", "kedge"}, {schema, "write_file_s", "write_files"}, {file, "enconding", "encoding"},
		{schema, strings.Repeat("x", 1000), ""},
	} {
		if got, _ := nearest(tt.block, tt.name); got != tt.want {
			t.Errorf("nearest %s = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestSpellingsAreUnlike(t *testing.T) {
	schema.each(func(k *key) {
		for i, a := range k.keys {
			for _, b := range k.keys[i+1:] {
				if normal(a.name) == normal(b.name) {
					t.Errorf("%s and %s read alike", a.path, b.path)
				}
			}
		}
	})
}

func TestDomains(t *testing.T) {
	key := "AAAAC3NzaC1lZDI1NTE5AAAAIBdW8K4w3yBzKLVv6Fe3Hpm/GbG6iVN/1L21X131okqP"
	for _, tt := range []struct {
		domain, name string
		good, bad    []string
	}{
		{"hostname", "", []string{"a", "edge-1", "Edge.example.org", "1a", strings.Repeat("a", 63)}, []string{"", "-a", "a-", "a_b", "a..b", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "b", "ä"}},
		{"label", "a.example.org/b", []string{"", "a", "1.2_3-4", strings.Repeat("a", 63)}, []string{"-a", "a b", strings.Repeat("a", 64)}},
		{"label", "UPPER/b", nil, []string{"a"}},
		{"label", "a/b/c", nil, []string{"a"}},
		{"taint", "", []string{"a:NoSchedule", "a=b:NoExecute", "x.y/a=:PreferNoSchedule"}, []string{"a", "a=b", "a:noschedule", ":NoSchedule", "a=b c:NoExecute"}},
		{"server url", "", []string{"https://a", "https://192.0.2.1:6443", "https://[2001:db8::1]:6443/"}, []string{"a", "http://a", "https://", "https:///x", "https://<server>"}},
		{"token", "", []string{"abc", "abcdef.0123456789abcdef", "K10" + strings.Repeat("0", 64) + "::a.b"}, []string{"a b", "a\n", "K10" + strings.Repeat("0", 63) + "::a", "K10" + strings.Repeat("0", 64) + "::"}},
		{"permissions", "", []string{"0644", "644", "04755", "0o600"}, []string{"", "0888", "rw", "17777", "64"}},
		{"owner", "", []string{"root", "root:root", "0:0", "kedge:1000"}, []string{"root:", ":root", "a b", "a:b:c"}},
		{"path", "", []string{"/a", "etc/b c"}, []string{"", "/a\x00", "a\nb"}},
		{"ssh key", "", []string{"ssh-ed25519 " + key, "ssh-ed25519 " + key + " me", "no-pty ssh-ed25519 " + key, "github:a-b", "gitlab:a.b", "https://a/b"},
			[]string{"ssh-rsa " + key, "ssh-ed25519 AAAA", "ssh-ed25519", "github:", "gh:a", "text", "ssh-ed25519 " + key + "\nssh-ed25519 " + key}},
		{"sysctl", "net.ipv4.conf.eth0/1.forwarding", []string{"1"}, []string{"", "a\nb"}},
		{"sysctl", "net/ipv4/ip_forward", []string{"1"}, nil},
		{"sysctl", "../../etc/passwd", nil, []string{"1"}},
		{"environment", "A_1", []string{"", "a b"}, []string{"a\nb"}},
		{"wifi passphrase", "", []string{"12345678", strings.Repeat("a", 64)}, []string{"1234567", strings.Repeat("x", 64)}},
		{"address", "", []string{"192.0.2.1", "2001:db8::1", "fe80::1%eth0"}, []string{"", "a", "192.0.2.1/24", "1.2.3"}},
		{"host", "", []string{"192.0.2.1", "a.b"}, []string{"", "a b"}},
		{"url", "", []string{"http://a/b", "/dev/x", "file:///a"}, []string{"a", "<url>", "http://a b"}},
		{"module", "", []string{"nbd", "kvm nested=1"}, []string{"", "../a", "a\nb", "-r a"}},
		{"data source", "", []string{"aws", "file=/a"}, []string{"", "azure", "aws2"}},
		{"encoding", "", []string{"", "b64", "GZIP+Base64"}, []string{"base65", "b64+b64"}},
		{"password", "", []string{"a b", "$6$a$b"}, []string{"", "a\nb"}},
		{"wifi name", "", []string{"a b"}, []string{"", strings.Repeat("a", 33)}},
		{"argument", "", []string{"a", "--a=b c"}, []string{"", "a\nb"}},
		{"command", "", []string{"a\nb"}, []string{"", " \n", "a\x00"}},
	} {
		for _, v := range tt.good {
			if err := check(tt.domain, tt.name, v); err != nil {
				t.Errorf("%s %s %q: %v", tt.domain, tt.name, v, err)
			}
		}
		for _, v := range tt.bad {
			if check(tt.domain, tt.name, v) == nil {
				t.Errorf("%s %s %q is taken", tt.domain, tt.name, v)
			}
		}
	}
}

func TestEveryKeyHasADomainThatExists(t *testing.T) {
	used := map[string]bool{}
	schema.each(func(k *key) {
		used[k.domain] = true
		if _, ok := domains[k.domain]; k.domain != "" && !ok {
			t.Errorf("%s: no domain %q", k.path, k.domain)
		}
	})
	for name := range domains {
		if !used[name] {
			t.Errorf("domain %q is not used", name)
		}
	}
}

func TestSources(t *testing.T) {
	utf16le := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune("hostname: wide\n")) {
		utf16le = append(utf16le, byte(u), byte(u>>8))
	}
	bomb := "run_cmd: &a [ x, x, x, x, x, x, x, x ]\nboot_cmd: &b [ *a, *a, *a, *a, *a, *a ]\ninit_cmd: [ *b, *b, *b ]\nhostname: bomb\n"
	for _, tt := range []struct {
		name, source, hostname string
		skipped, strict        int // problems
	}{
		{"empty", "", "", 0, 0},
		{"only comments", "# a\n", "", 0, 0},
		{"only a mark", "---\n", "", 0, 0},
		{"no final newline", "hostname: a", "a", 0, 0},
		{"UTF-16", string(utf16le), "wide", 0, 1},
		{"not UTF-8", "hostname: a\nrun_cmd: [ \"\xff\" ]\n", "a", 2, 2},
		{"NUL", "hostname: a\nrun_cmd: [ \"\x00\" ]\n", "a", 2, 2},
		{"later document broken", "hostname: a\n---\n\t- [", "a", 0, 1},
		{"two documents", "hostname: a\n---\nhostname: b\n", "a", 0, 1},
		{"three documents", "---\nhostname: a\n---\n---\n", "a", 0, 1},
		{"twice the same", "hostname: a\nhostname: a\n", "a", 0, 1},
		{"twice", "hostname: a\nhostname: b\n", "b", 1, 1},
		{"null after", "hostname: a\nhostname:\n", "a", 0, 1},
		{"alias bomb", bomb, "bomb", 9, 9},
		{"an alias of itself", "hostname: a\nrun_cmd: &x [ *x ]\n", "a", 1, 1},
		{"a merge of itself", "hostname: a\nk3os: &x { <<: *x, token: a }\n", "a", 1, 1},
		{"unknown anchor", "hostname: a\nrun_cmd: *x\n", "a", 1, 1},
		{"key that is a list", "hostname: a\n? [ a ]\n: b\n", "a", 1, 1},
		{"scalar", "hello", "", 1, 1},
		{"open bracket", "hostname: a\nrun_cmd: [ a\n", "a", 1, 1},
		{"a tab first", "\thostname: a\n", "", 2, 2},
		{"custom tag", "hostname: !x a\n", "", 1, 1},
		{"tag on the document", "!x {hostname: a}\n", "a", 0, 0},
		{"no mapping, broken", "a\n\t- [\n", "", 1, 1},
	} {
		layer, skipped := Parse("f", []byte(tt.source))
		strict := Validate("f", []byte(tt.source))
		if layer.Config.Hostname != tt.hostname || len(skipped) != tt.skipped || len(strict) != tt.strict {
			t.Errorf("%s: hostname %q, want %q\nskipped %v, want %d\nstrict %v, want %d", tt.name, layer.Config.Hostname, tt.hostname, skipped, tt.skipped, strict, tt.strict)
		}
	}
}

func TestLimits(t *testing.T) {
	if _, problems := Parse("f", bytes.Repeat([]byte("#"), MaxSize+1)); len(problems) != 1 || !problems[0].Fatal {
		t.Errorf("too long a source: %v", problems)
	}
	var many strings.Builder
	many.WriteString("hostname: a\nk3os:\n  labels: &l\n")
	for i := range 1000 {
		many.WriteString("    a" + strings.Repeat("b", i%40) + string(rune('a'+i%26)) + ": b\n")
	}
	many.WriteString("  environment:\n    <<: [" + strings.Repeat(" *l,", 1000) + " ]\nrun_cmd: [ never reached ]\n")
	_, problems := Parse("f", []byte(many.String()))
	if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Fatal }) {
		t.Errorf("%d problems, none says that there were too many values", len(problems))
	}
}

func TestMerge(t *testing.T) {
	layer := func(name, text string) Layer {
		l, problems := Parse(name, []byte(text))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return l
	}
	e := Merge(
		layer("image", "hostname: one\nssh_authorized_keys: [ github:a, github:b ]\nwrite_files:\n- { path: /a, content: old }\n- { path: b, content: b }\nk3os:\n  labels: { site: north, rack: a }\n  ntp_servers: [ a, b ]\n  install: { silent: true }\n"),
		layer("stick", "hostname: two\nssh_authorized_keys:\n- github:b\n- github:c\nwrite_files:\n- { path: /x/../a, content: new }\nkedge:\n  labels: { site: south }\n  ntp_servers: [ c ]\n  wifi: [ { name: w } ]\n  install: { silent: false, tty: ttyS0 }\nrun_cmd: [ one ]\n"),
		layer("last", "run_cmd: []\nboot_cmd:\nkedge: { wifi: [ { name: w, passphrase: 12345678 } ] }\n"),
	)
	want := Config{
		Hostname: "two", HasK3OS: true, SSHAuthorizedKeys: []string{"github:a", "github:b", "github:c"}, RunCmd: []string{},
		WriteFiles: []File{{Path: "/x/../a", Content: "new"}, {Path: "b", Content: "b"}},
		Kedge: Kedge{
			Labels: map[string]string{"site": "south", "rack": "a"}, NTPServers: []string{"c"},
			Wifi: []Wifi{{"w", "12345678"}}, Install: Install{TTY: "ttyS0"},
		},
	}
	if !reflect.DeepEqual(e.Config, want) {
		t.Errorf("got  %+v\nwant %+v", e.Config, want)
	}
	for key, origin := range map[string]string{
		"hostname": "stick:1", "kedge.labels.site": "stick:8", "kedge.labels.rack": "image:7", "kedge.ntp_servers": "stick:9", "kedge.ntp_servers[0]": "stick:9",
		"ssh_authorized_keys[0]": "image:2", "ssh_authorized_keys[1]": "stick:3", "ssh_authorized_keys[2]": "stick:4", "write_files[0]": "stick:6", "write_files[1]": "image:5",
		"kedge.install.silent": "stick:11", "run_cmd": "last:1", "kedge.wifi[0]": "last:3",
	} {
		if got := e.Origins[key].String(); got != origin {
			t.Errorf("origin of %s is %s, want %s", key, got, origin)
		}
	}
	if _, ok := e.Origins["kedge.ntp_servers[1]"]; ok {
		t.Error("an item that was replaced has an origin")
	}
	var leaves []string
	for _, l := range e.Leaves() {
		leaves = append(leaves, l.Key)
		if l.Secret != (l.Key == "kedge.wifi[0].passphrase") {
			t.Errorf("secret %v: %s", l.Secret, l.Key)
		}
	}
	wantLeaves := "hostname ssh_authorized_keys[0] ssh_authorized_keys[1] ssh_authorized_keys[2] write_files[0].path write_files[0].content write_files[1].path write_files[1].content " +
		"kedge.ntp_servers[0] kedge.wifi[0].name kedge.wifi[0].passphrase kedge.labels.rack kedge.labels.site kedge.install.silent kedge.install.tty"
	if got := strings.Join(leaves, " "); got != wantLeaves {
		t.Errorf("leaves\n%s, want\n%s", got, wantLeaves)
	}
}

// TestMergeLeavesLayersAlone merges twice and looks at the first layer.
func TestMergeLeavesLayersAlone(t *testing.T) {
	a, _ := Parse("a", []byte("kedge: { labels: { a: b }, modules: [ x ] }"))
	b, _ := Parse("b", []byte("kedge: { labels: { a: c }, modules: [ y ] }"))
	Merge(a, b)
	if a.Config.Kedge.Labels["a"] != "b" || len(a.Config.Kedge.Modules) != 1 {
		t.Errorf("the layer became %+v", a.Config.Kedge)
	}
}

func TestMasked(t *testing.T) {
	c := Config{Kedge: Kedge{Password: "secret", Token: "secret", Wifi: []Wifi{{"a", "secret"}, {"b", ""}}}}
	masked, err := Marshal(c.Masked())
	if err != nil || bytes.Contains(masked, []byte("secret")) || c.Kedge.Wifi[0].Passphrase != "secret" {
		t.Errorf("%s, %v, %+v", masked, err, c)
	}
	if schemaSecrets := strings.Count(string(Reference()), "Secret: never shown"); schemaSecrets != 3 {
		t.Errorf("the schema has %d secrets; Masked knows 3", schemaSecrets)
	}
}

func TestFromCmdline(t *testing.T) {
	line := `BOOT_IMAGE=/boot/vmlinuz kedge.id=0123 kedge.mode=live k3os.mode=install k3os.debug rescue quiet root=LABEL=x console=tty0 ` +
		`hostname=edge-1 ssh_authorized_keys=github:a ssh_authorized_keys=github:b run_cmd="echo a b" sshAuthorizedKeys= ` +
		`k3os.labels.example.org/a.b=c kedge.labels.site=north kedge.sysctls.vm.max_map_count=5 k3os.k3s_args=server k3os.k3s_args=--disable=traefik ` +
		`k3os.install.silent k3os.install.device=/dev/sda kedge.token=abc kedge.wifi.name=w kedge.wifi.passphrase=12345678 kedge.wifi.name=v ` +
		`write_files.path=/a write_files.content=b kedge.tokn=x kedge.server_url=bad init=/x kedge. kedge hostname.x=y .`
	layer, problems := FromCmdline(cmdline.Parse(line))
	want := Config{
		Hostname: "edge-1", HasK3OS: true, RunCmd: []string{"echo a b"}, WriteFiles: []File{{Path: "/a", Content: "b"}}, SSHAuthorizedKeys: []string{},
		Kedge: Kedge{
			Labels: map[string]string{"example.org/a.b": "c", "site": "north"}, Sysctls: map[string]string{"vm.max_map_count": "5"},
			K3sArgs: []string{"server", "--disable=traefik"}, Install: Install{Silent: true, Device: "/dev/sda"}, Token: "abc",
			Wifi: []Wifi{{"w", "12345678"}, {"v", ""}},
		},
	}
	if !reflect.DeepEqual(layer.Config, want) {
		t.Errorf("got  %+v\nwant %+v", layer.Config, want)
	}
	var said []string
	for _, p := range problems {
		said = append(said, p.String())
	}
	slices.Sort(said)
	wantSaid := []string{
		`kernel command line: kedge.server_url: a URL such as https://192.0.2.1:6443 is wanted, not "bad"`,
		`kernel command line: kedge.tokn: unknown key; did you mean "token"?`,
		`kernel command line: sshAuthorizedKeys: given twice: the last value counts`,
	}
	if !slices.Equal(said, wantSaid) {
		t.Errorf("problems %q, want %q", said, wantSaid)
	}
	if o := Merge(layer).Origins["kedge.labels.site"].String(); o != CmdlineSource {
		t.Errorf("origin %q", o)
	}
}

func TestGeneratedFiles(t *testing.T) {
	for path, data := range map[string][]byte{"schema.json": Schema(), "REFERENCE.md": Reference(), "../../../config.yaml.example": Example()} {
		golden(t, path, string(data))
	}
}

// TestExample holds config.yaml.example to the schema: it is sound, and every
// key is there and explained.
func TestExample(t *testing.T) {
	data, err := os.ReadFile("../../../config.yaml.example")
	if err != nil {
		t.Fatal(err)
	}
	if problems := Validate("config.yaml.example", data); len(problems) > 0 {
		t.Errorf("%v", problems)
	}
	layer, _ := Parse("config.yaml.example", data)
	set := map[string]bool{}
	for _, l := range Merge(layer).Leaves() {
		set[strings.ReplaceAll(l.Key, "[0]", "[]")] = true
	}
	paths := map[string]bool{}
	schema.each(func(k *key) {
		paths[k.path] = true
		path := k.path
		switch k.kind {
		case textListKind:
			path += "[]"
		case textMapKind:
			if len(layer.Config.Kedge.Labels) == 0 {
				t.Error("no labels")
			}
			return
		case blockKind, blockListKind:
			return
		}
		if !set[path] {
			t.Errorf("%s is not in the example", k.path)
		}
	})
	for path := range maps.Keys(texts) {
		if !paths[path] {
			t.Errorf("%s is explained, but no key", path)
		}
	}
	for path := range paths {
		if texts[path].text == "" {
			t.Errorf("%s is not explained", path)
		}
	}
}

func TestMarshalQuotes(t *testing.T) {
	for _, s := range []string{"yes", "y", "No", "true", "null", "~", "", " ", "0644", "1e3", "12:30", "0x1F", "- a", "a: b", "a #b", "\ttab", "end\n", "end\n\n", "\n", "é", "\xff\x00", "a\r\nb", "!x", "&x", "*x", "<<", "2026-11-20", "\u2028", "\ufeffx", "\x7f", "\u0085"} {
		c := Config{WriteFiles: []File{{Path: "/a", Content: s}}, RunCmd: []string{"x" + s}}
		text, err := Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		layer, _ := Parse("f", text)
		if problems := Validate("f", text); !strings.Contains(s, "\x00") && (len(problems) > 0 || !reflect.DeepEqual(layer.Config, c)) {
			t.Errorf("%q: %v in\n%s", s, problems, text)
		}
		if len(layer.Config.WriteFiles) != 1 || layer.Config.WriteFiles[0].Content != s {
			t.Errorf("content %q became %q", s, layer.Config.WriteFiles)
		}
	}
}

// TestSalvageOfALongFile has a long file with one bad line: all other lines count.
func TestSalvageOfALongFile(t *testing.T) {
	var b strings.Builder
	b.WriteString("k3os:\n  labels:\n")
	for range 20000 {
		b.WriteString("    a: b\n")
	}
	b.WriteString("    c: \"d\n    e: f\nhostname: long\n")
	layer, problems := Parse("f", []byte(b.String()))
	if !maps.Equal(layer.Config.Kedge.Labels, map[string]string{"a": "b", "e": "f"}) || layer.Config.Hostname != "long" || len(problems) != 1 || problems[0].Line != 20003 || problems[0].Column != 5 {
		t.Errorf("%+v, %v", layer.Config, problems)
	}
}

// A health check is a command, or a URL that must make sense as one.
func TestHealthChecks(t *testing.T) {
	for check, bad := range map[string]bool{
		"true": false, "wget -q http://a/": false, "http://127.0.0.1:30080/healthz": false, "https://[::1]/": false, "tcp://127.0.0.1:5432": false,
		"ftp://is-a-command": false, "http://": true, "tcp://127.0.0.1": true, "tcp://a:1/path": true, "http://a b": true, "": true,
	} {
		problems := Validate("f", []byte("kedge: {upgrade: {health: ['"+check+"']}}\n"))
		if (len(problems) > 0) != bad {
			t.Errorf("%q: %v", check, problems)
		}
	}
}
