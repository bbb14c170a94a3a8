package config

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
)

func corpus(t testing.TB) [][]byte {
	paths, _ := filepath.Glob("testdata/k3os/*.yaml")
	var all [][]byte
	for _, path := range append(paths, "../../../config.yaml.example") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	return all
}

func FuzzParse(f *testing.F) {
	for _, data := range corpus(f) {
		f.Add(data)
	}
	f.Fuzz(readsBack)
}

func FuzzValidate(f *testing.F) {
	for _, data := range corpus(f) {
		f.Add(data)
	}
	f.Fuzz(moodsAgree)
}

func FuzzFromCmdline(f *testing.F) {
	f.Add(`hostname=a k3os.labels.x=y kedge.wifi.name=a kedge.install.silent write_files.path.x=1 kedge.k3s_args`)
	f.Fuzz(func(t *testing.T, line string) {
		layer, _ := FromCmdline(cmdline.Parse(line))
		if _, err := Marshal(layer.Config); err != nil {
			t.Error(err)
		}
	})
}

// TestShuffledLines holds the fuzz properties for texts made of the corpus'
// lines and of what YAML finds special; they come deeper than changed bytes.
func TestShuffledLines(t *testing.T) {
	var lines []string
	for _, data := range corpus(t) {
		lines = append(lines, strings.SplitAfter(string(data), "\n")...)
	}
	special := strings.Split(`  |	|- |"|'|:|: |#|{|}|[|]|&a |*a|<<: *a|!!binary |~|null|yes|0644|!x |? |,|>-`, "|")
	special = append(special, "|", "\n", "---\n", "k3os:\n", "kedge:\n", "\xff", "\x00", "\u0085", "\u2028", "\ufeff")
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var b strings.Builder
		at := r.IntN(len(lines))
		for range 1 + r.IntN(12) {
			if r.IntN(3) == 0 {
				at = r.IntN(len(lines))
			}
			line := lines[at%len(lines)]
			for at++; r.IntN(4) == 0; {
				i := r.IntN(len(line) + 1)
				line = line[:i] + special[r.IntN(len(special))] + line[i:]
			}
			b.WriteString(line)
		}
		readsBack(t, []byte(b.String()))
		moodsAgree(t, []byte(b.String()))
		if t.Failed() {
			t.Fatalf("source %q", b.String())
		}
	}
}

// readsBack: what was read can be written, is sound then, and reads equal.
func readsBack(t *testing.T, data []byte) {
	layer, problems := Parse("f", data)
	for _, p := range problems {
		if p.Message == "" || p.File != "f" || p.Line < 1 || p.Column < 1 {
			t.Errorf("problem %+v", p)
		}
	}
	Merge(layer, layer).Leaves()
	text, err := Marshal(layer.Config)
	if err != nil {
		t.Fatal(err)
	}
	if problems := Validate("again", text); len(problems) > 0 {
		t.Errorf("%v in\n%s", problems, text)
	}
	again, _ := Parse("again", text)
	again.Config.HasK3OS = layer.Config.HasK3OS
	if !reflect.DeepEqual(again.Config, layer.Config) {
		t.Errorf("got  %+v\nwant %+v\nfrom\n%s", again.Config, layer.Config, text)
	}
}

// moodsAgree: both read the same; what strict takes, forgiving takes.
func moodsAgree(t *testing.T, data []byte) {
	layer, skipped := Parse("f", data)
	strictLayer, strict := read("f", data, true)
	if len(skipped) > len(strict) {
		t.Errorf("strict says %v, forgiving %v", strict, skipped)
	}
	if !reflect.DeepEqual(layer, strictLayer) {
		t.Errorf("forgiving %+v\nstrict %+v", layer, strictLayer)
	}
}
