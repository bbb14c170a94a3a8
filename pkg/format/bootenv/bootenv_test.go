package bootenv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var samples = []Env{
	nil,
	{{"good", "a"}},
	{{"begin", "b:3"}, {"trial", "b"}, {"tries", "3"}, {"check", "b:3"}},
	{{"empty", ""}, {"path", `C:\new`}, {"lines", "one\ntwo\n"}, {"sharp", "#=#"}, {"end", `\`}},
	{{"bytes", "\x01\xff é"}, {"long", strings.Repeat("x", 400)}},
}

func block(t testing.TB, e Env) []byte {
	t.Helper()
	b, err := e.Bytes()
	if err != nil || len(b) != Size {
		t.Fatalf("Bytes of %q = %d bytes, %v", e, len(b), err)
	}
	return b
}

func TestParseBytes(t *testing.T) {
	for _, e := range samples {
		got, err := Parse(block(t, e))
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("Parse = %q, %v; want %q", got, err, e)
		}
	}
}

func TestParseDamaged(t *testing.T) {
	pad := func(s string) []byte { return []byte(s + strings.Repeat("#", Size-len(s))) }
	for _, row := range []struct {
		about string
		block []byte
		want  Env
		err   string
	}{
		{"nothing", nil, nil, "0 bytes, want 1024"},
		{"short", pad(header)[:Size-1], nil, "1023 bytes"},
		{"long", append(pad(header), '#'), nil, "1025 bytes"},
		{"zeros", make([]byte, Size), nil, "no header"},
		{"header without its newline", pad(header[:len(header)-1]), nil, "no header"},
		{"empty", pad(header), nil, ""},
		{"comment", pad(header + "# a=b\nc=d\n"), Env{{"c", "d"}}, ""},
		{"no padding", append(pad(header + "a=b\n")[:Size-1], '\n'), Env{{"a", "b"}}, ""},
		{"torn in a value", pad(header + "a=b\nc=d"), Env{{"a", "b"}}, ""},
		{"torn in a name", pad(header + "a=b\nc"), Env{{"a", "b"}}, ""},
		{"torn in an escape", pad(header + "a=b\nc=\\"), Env{{"a", "b"}}, ""},
		{"a line without =", pad(header + "a\nb=c\nd=e\n"), Env{{"a\nb", "c"}, {"d", "e"}}, ""},
		{"twice", pad(header + "a=1\na=2\n"), Env{{"a", "1"}, {"a", "2"}}, ""},
		{"NUL", pad(header + "a\x00b=c\x00d\ne=f\n"), Env{{"a", "c"}, {"e", "f"}}, ""},
		{"second sector lost", append(pad(header + "a=b\n")[:Sector:Sector], make([]byte, Sector)...), Env{{"a", "b"}}, ""},
	} {
		got, err := Parse(row.block)
		if !reflect.DeepEqual(got, row.want) || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: Parse = %q, %v; want %q, %q", row.about, got, err, row.want, row.err)
		}
	}
	twice := Env{{"a", "1"}, {"a", "2"}}
	if got := twice.Get("a"); got != "2" {
		t.Errorf("Get of two = %q, want the last", got)
	}
}

func TestBytesRefuses(t *testing.T) {
	full := Sector - len(header) - len("a=\n")
	for _, row := range []struct {
		env Env
		err string
	}{
		{Env{{"a", strings.Repeat("x", full)}}, ""},
		{Env{{"a", strings.Repeat("x", full+1)}}, "end at byte 513, limit 512"},
		{Env{{"a", strings.Repeat("\n", full/2+1)}}, "limit 512"},
		{Env{{"", "x"}}, `"" is no name`},
		{Env{{"#a", "x"}}, "no name"},
		{Env{{"a=b", "x"}}, "no name"},
		{Env{{"a\nb", "x"}}, "no name"},
		{Env{{`a\`, "x"}}, "no name"},
		{Env{{"a\x00", "x"}}, "no name"},
		{Env{{"a", "\x00"}}, "variable a: value holds NUL"},
		{Env{{"a", "1"}, {"a", "1"}}, "twice"},
	} {
		_, err := row.env.Bytes()
		if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("Bytes of %.40q: %v, want %q", row.env, err, row.err)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	full := block(t, Env{{"a", strings.Repeat("x", 400)}})
	broken := append(append([]byte{}, full[:Size-1]...), 0)
	if _, err := Set(broken, "a", "y"); err == nil {
		t.Error("Set took a block whose padding is damaged")
	}
	if _, err := Set(full, "b", strings.Repeat("y", 600)); err == nil {
		t.Error("Set found room where there is none")
	}
	if _, err := Set(full[1:], "a", "y"); err == nil {
		t.Error("Set took a short block")
	}
}

// editenv runs grub-editenv on a block and returns what it printed and made.
func editenv(t testing.TB, block []byte, args ...string) (printed string, after []byte, err error) {
	t.Helper()
	if _, err := exec.LookPath("grub-editenv"); err != nil {
		t.Skip("grub-editenv is not installed")
	}
	file := filepath.Join(t.TempDir(), "grubenv")
	if err := os.WriteFile(file, block, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("grub-editenv", append([]string{file}, args...)...).Output()
	after, rerr := os.ReadFile(file)
	if rerr != nil {
		t.Fatal(rerr)
	}
	return string(out), after, err
}

func list(e Env) string {
	var b strings.Builder
	for _, v := range e {
		fmt.Fprintf(&b, "%s=%s\n", v.Name, v.Value)
	}
	return b.String()
}

func TestGrubReadsWhatWeWrite(t *testing.T) {
	for _, e := range samples {
		got, _, err := editenv(t, block(t, e), "list")
		if err != nil || got != list(e) {
			t.Errorf("grub-editenv list = %q, %v; want %q", got, err, list(e))
		}
	}
}

func TestWeReadWhatGrubWrites(t *testing.T) {
	for _, e := range samples {
		args := []string{"set"}
		for _, v := range e {
			args = append(args, v.Name+"="+v.Value)
		}
		_, b, err := editenv(t, nil, "create")
		if err == nil && len(e) > 0 {
			_, b, err = editenv(t, b, args...)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(b); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("Parse of what grub-editenv wrote = %q, %v; want %q", got, err, e)
		}
	}
}

// damage returns a block with a few bytes changed, moved or doubled; mostly
// such bytes as matter in a block.
func damage(r *rand.Rand, block []byte) []byte {
	b := append([]byte{}, block...)
	used := len(bytes.TrimRight(b, "#"))
	at := func() int { return len(header) + r.IntN(used-len(header)+8) }
	for range 1 + r.IntN(4) {
		switch i, j := at(), at(); r.IntN(4) {
		case 0:
			b[i] = "#=\\\n\x00ab"[r.IntN(7)]
		case 1: // one byte more
			copy(b[i+1:], b[i:])
			b[i] = "#=\\\n\x00ab"[r.IntN(7)]
		case 2: // some bytes doubled
			n := min(r.IntN(40), len(b)-max(i, j))
			copy(b[i:i+n], append([]byte{}, b[j:j+n]...))
		case 3:
			b[len(b)-1-r.IntN(8)] = "#=\\\n\x00ab"[r.IntN(7)]
		}
	}
	return b
}

// TestGrubAgreesOnDamage shows damaged blocks to grub-editenv, whose reader
// and writer are GRUB's own.
func TestGrubAgreesOnDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range 200 {
		b := damage(r, block(t, samples[1+i%(len(samples)-1)]))
		e, err := Parse(b)
		printed, _, gerr := editenv(t, b, "list")
		if (err == nil) != (gerr == nil) || printed != list(e) {
			t.Fatalf("block %q:\nParse = %q, %v\ngrub-editenv list = %q, %v", b, e, err, printed, gerr)
		}
		v := Var{[]string{"good", "begin", "check", "new"}[r.IntN(4)], []string{"a", "b:2", "x\\\ny"}[r.IntN(3)]}
		after, err := Set(b, v.Name, v.Value)
		_, gafter, gerr := editenv(t, b, "set", v.Name+"="+v.Value)
		if (err == nil) != (gerr == nil) || err == nil && !bytes.Equal(after, gafter) {
			t.Fatalf("block %q:\nSet %q = %q, %v\ngrub-editenv set = %q, %v", b, v, after, err, gafter, gerr)
		}
		if err != nil {
			refused++
		}
	}
	if refused == 0 || refused == 200 {
		t.Errorf("Set refused %d of 200 blocks", refused)
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range samples {
		f.Add(block(f, e)[len(header):])
	}
	f.Add([]byte("a=1\na=2\n"))
	f.Add([]byte("a\nb=1\n#c\n\\=\\"))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := append([]byte(header), body...)
		if len(b) < Size { // else hardly any input would have the length
			b = append(b, bytes.Repeat([]byte("#"), Size-len(b))...)
		}
		e, err := Parse(b)
		if err != nil {
			return
		}
		if after, err := Set(b, "x", "y"); err == nil && len(after) != Size {
			t.Fatalf("Set made %d bytes", len(after))
		}
		clean, err := e.Bytes()
		if err != nil {
			return
		}
		again, err := Parse(clean)
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("Parse = %q, after Bytes %q, %v", e, again, err)
		}
		if b, err := again.Bytes(); err != nil || !bytes.Equal(b, clean) {
			t.Fatalf("Bytes changed: %v", err)
		}
	})
}
