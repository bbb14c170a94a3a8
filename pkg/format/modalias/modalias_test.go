package modalias

import (
	"bufio"
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// readAliases returns pattern and module of each line of testdata, a slice of
// a real modules.alias.
func readAliases(t testing.TB) (text string, pairs [][2]string) {
	t.Helper()
	b, err := os.ReadFile("testdata/modules.alias")
	if err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(strings.NewReader(string(b)))
	for s.Scan() {
		if f := strings.Fields(s.Text()); len(f) == 3 && f[0] == "alias" {
			pairs = append(pairs, [2]string{f[1], f[2]})
		}
	}
	return string(b), pairs
}

func build(t testing.TB, text string) Index {
	t.Helper()
	x, err := Build(strings.NewReader(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if x, err = Decode(x.Encode()); err != nil {
		t.Fatal(err)
	}
	return x
}

func TestMatch(t *testing.T) {
	text, _ := readAliases(t)
	x := build(t, text)
	for _, c := range []struct {
		device string
		want   string
	}{
		{"pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00", "e1000e"},
		{"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", "ahci"}, // by class
		{"virtio:d00000001v00001AF4", "virtio_net"},
		{"usb:v0781p5567d0100dc00dsc00dp00ic08isc06ip50in00", "uas usb_storage"},
		{"acpi:PNP0A08:PNP0C0C:", "button"},
		{"of:NethernetT(null)Cbrcm,bcm2711-genet-v5Cfoo,bar", "genet"},
		{"of:Nmmc@7e340000T(null)Cbrcm,bcm2711-emmc2", "sdhci_iproc"},
		{"dmi:bvnSeaBIOS:pnStandardPC:", ""},
		{"pci:v0000FFFFd00000000sv00000000sd00000000bc00sc00i00", ""},
		{"", ""},
	} {
		if got := strings.Join(x.Match(c.device), " "); got != c.want {
			t.Errorf("Match(%q) = %q, want %q", c.device, got, c.want)
		}
	}
}

// TestMatchMissesNothing compares with trying every pattern.
func TestMatchMissesNothing(t *testing.T) {
	text, pairs := readAliases(t)
	x := build(t, text)
	for _, p := range pairs {
		device := strings.NewReplacer("*", "X1", "?", "7", "[0-9]", "5", "[1-9]", "5").Replace(p[0])
		if strings.ContainsAny(device, "[]\\") {
			continue
		}
		var want []string
		for _, q := range pairs {
			if Fits(q[0], device) {
				want = append(want, q[1])
			}
		}
		slices.Sort(want)
		if got := x.Match(device); !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("Match(%q) = %q, want %q", device, got, want)
		}
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"abc", "abc", true}, {"abc", "abd", false}, {"abc", "abcd", false},
		{"a*c", "abbbc", true}, {"a*c", "ac", true}, {"a*c", "a/c", true}, {"a*c*", "abcb", true},
		{"*", "", true}, {"", "", true}, {"", "a", false}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{"[0-9a]x", "5x", true}, {"[0-9a]x", "ax", true}, {"[0-9a]x", "bx", false}, {"[!0-9]", "b", true}, {"[!0-9]", "3", false},
		{`a\*`, "a*", true}, {`a\*`, "ab", false}, {"[ab", "a", false}, {`a\`, "a", false},
	} {
		if got := Fits(c.pattern, c.name); got != c.want {
			t.Errorf("Fits(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestBuildKeeps(t *testing.T) {
	x, err := Build(strings.NewReader("# comment\n\nalias pci:v1* one\nalias pci:v2* two\n"), func(m string) bool { return m == "two" })
	if err != nil || x.Len() != 1 || len(x.Match("pci:v1")) != 0 || len(x.Match("pci:v2")) != 1 {
		t.Errorf("index of two: %v, %d patterns", err, x.Len())
	}
	if _, err := Build(strings.NewReader("alias only-two\n"), nil); err == nil {
		t.Error("a damaged line is taken")
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, b := range []string{"", "kedge-alias 2\n", "kedge-alias 1\na b c"} {
		if _, err := Decode([]byte(b)); !errors.Is(err, ErrFormat) {
			t.Errorf("Decode(%q) = %v, want ErrFormat", b, err)
		}
	}
}

func TestOrder(t *testing.T) {
	m, err := ReadModules(
		strings.NewReader("kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko\nkernel/fs/jbd2/jbd2.ko:\nkernel/fs/mbcache.ko:\nkernel/lib/crc-x.ko.xz:\n"),
		strings.NewReader("# soft\nsoftdep ext4 pre: crc-x absent\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range m.Order("ext4", "jbd2", "no_such") {
		got = append(got, path.Base(f))
	}
	if want := "mbcache.ko jbd2.ko crc-x.ko.xz ext4.ko"; strings.Join(got, " ") != want {
		t.Errorf("Order = %q, want %q", got, want)
	}
	if !m.Has("crc_x") || !m.Has("crc-x") || m.Has("absent") || m.File("ext4") != "kernel/fs/ext4/ext4.ko" {
		t.Error("names with hyphens are not told from files that are absent")
	}
	if _, err := ReadModules(strings.NewReader("no colon\n"), nil); err == nil {
		t.Error("a damaged modules.dep is taken")
	}
}

func FuzzIndex(f *testing.F) {
	f.Add("kedge-alias 1\nk k* m\n", "kx")
	f.Add("kedge-alias 1\n\n\n a\n", "of:NaTbCcCd")
	f.Add("kedge-alias 1\nacpi*:A acpi*:A:* m\n", "acpi:A:B:")
	f.Fuzz(func(t *testing.T, file, device string) {
		if len(device) > 200 {
			return
		}
		if x, err := Decode([]byte(file)); err == nil {
			x.Match(device)
		}
	})
}

func FuzzFits(f *testing.F) {
	f.Add("a*[b-c]?\\d", "axbcd")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got := Fits(pattern, name)
		want, err := path.Match(pattern, name)
		special := strings.ContainsAny(pattern+name, "/[]^!\\") || strings.ContainsFunc(pattern+name, func(r rune) bool { return r > 127 })
		if err == nil && !special && got != want {
			t.Errorf("Fits(%q, %q) = %v, path.Match says %v", pattern, name, got, want)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	text, _ := readAliases(b)
	x := build(b, text)
	for b.Loop() {
		x.Match("pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00")
	}
}
