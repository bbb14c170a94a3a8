package build

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module returns an object file with type information, and the same with a
// signature of n bytes.
func module(t *testing.T, n int) (plain, signed []byte) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "m.s")
	text := ".section .modinfo,\"a\"\n.ascii \"name=m\\0\"\n.section .BTF\n.ascii \"types types types\"\n.section .BTF_ids,\"a\"\n.ascii \"ids\"\n"
	writeFiles(t, filepath.Dir(source), map[string]string{"m.s": text})
	runTool(t, "gcc", "-c", "-o", source+".ko", source)
	plain, err := os.ReadFile(source + ".ko")
	if err != nil {
		t.Fatal(err)
	}
	signed = append(bytes.Clone(plain), make([]byte, n+8)...)
	signed = binary.BigEndian.AppendUint32(signed, uint32(n))
	return plain, append(signed, signatureMark...)
}

func TestStripModule(t *testing.T) {
	plain, signed := module(t, 100)
	for name, in := range map[string][]byte{"plain": plain, "signed": signed} {
		out, err := stripModule(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(out) != len(plain) {
			t.Errorf("%s: %d bytes are left of %d", name, len(out), len(plain))
		}
		f, err := elf.NewFile(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		if s := f.Section(".BTF"); s.Size != 0 || strings.Contains(string(out), "types types") {
			t.Errorf("%s: .BTF still has %d bytes", name, s.Size)
		}
		for section, want := range map[string]string{".modinfo": "name=m\x00", ".BTF_ids": "ids"} {
			if b, err := f.Section(section).Data(); err != nil || string(b) != want {
				t.Errorf("%s: %s = %q, %v", name, section, b, err)
			}
		}
	}
}

func TestStripModuleRefuses(t *testing.T) {
	plain, signed := module(t, 100)
	long := bytes.Clone(signed)
	binary.BigEndian.PutUint32(long[len(long)-len(signatureMark)-4:], 1<<30)
	table := bytes.Clone(plain)
	binary.LittleEndian.PutUint64(table[40:], 1<<40)
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte(strings.Repeat("text", 50)), "signature": long, "section table": table} {
		if _, err := stripModule(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzStripModule(f *testing.F) {
	f.Add([]byte("\x7fELF\x02" + strings.Repeat("\x00", 200) + signatureMark))
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := stripModule(b); err == nil && len(out) > len(b) {
			t.Error("it grew")
		}
	})
}
