package cmdline

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line string
		want []Param
	}{
		{"", nil},
		{"quiet", []Param{{Key: "quiet"}}},
		{"a=1  b=\tc", []Param{{"a", "1", true}, {"b", "", true}, {Key: "c"}}},
		{`hostname=x run_cmd="echo a b"`, []Param{{"hostname", "x", true}, {"run_cmd", "echo a b", true}}},
		{`"run_cmd=echo a b" q`, []Param{{"run_cmd", "echo a b", true}, {Key: "q"}}},
		{`key=a"b c"d`, []Param{{"key", `a"b c"d`, true}}},
		{`kedge.labels.a=b=c`, []Param{{"kedge.labels.a", "b=c", true}}},
		{`open="no end`, []Param{{"open", "no end", true}}},
		{`""`, []Param{{}}},
		{`k=""`, []Param{{"k", "", true}}},
	} {
		if got := Parse(c.line); !reflect.DeepEqual(got, c.want) {
			t.Errorf("Parse(%q) = %+v, want %+v", c.line, got, c.want)
		}
	}
}

func TestGetAll(t *testing.T) {
	params := Parse("console=tty0 kedge.debug console=ttyS0,115200 console")
	if v, ok := Get(params, "kedge.debug"); v != "" || !ok {
		t.Errorf("Get(kedge.debug) = %q, %v", v, ok)
	}
	if _, ok := Get(params, "kedge"); ok {
		t.Error("Get(kedge) found something")
	}
	if got := All(params, "console"); !reflect.DeepEqual(got, []string{"tty0", "ttyS0,115200"}) {
		t.Errorf("All(console) = %q", got)
	}
}

// FuzzPrint holds that what was read, printed and read again is the same,
// whenever no quote is left inside a value: the kernel cannot spell those.
func FuzzPrint(f *testing.F) {
	for _, seed := range []string{`a="b c" "d=e f" g`, `k="" "`, "a\x00b", `"a b"=c`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		params := Parse(line)
		for _, p := range params {
			if strings.Contains(p.Key+p.Value, `"`) || p.Key == "" || strings.ContainsAny(p.Key, space) {
				return
			}
		}
		if got := Parse(String(params)); !reflect.DeepEqual(got, params) {
			t.Errorf("Parse(%q) = %+v; printed %q, read %+v", line, params, String(params), got)
		}
	})
}
