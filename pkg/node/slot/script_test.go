package slot

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/bootenv"
)

func TestScriptSyntax(t *testing.T) {
	need(t, "grub-script-check")
	cmd := exec.Command("grub-script-check")
	cmd.Stdin = strings.NewReader(Script())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("grub-script-check: %v\n%s", err, out)
	}
}

func TestScriptNames(t *testing.T) {
	for _, name := range []string{"good1", "good2", "/" + Folder + "/" + TrialFile, "$kedge_file.env"} {
		if !strings.Contains(Script(), name) {
			t.Errorf("the script does not mention %s", name)
		}
	}
}

func need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
}

// An esp is the image of a small FAT file system with the three files.
type esp struct {
	image []byte
	data  [3]int // where the contents of each file begin
	entry [3]int // where its directory entry begins
}

// makeESP lets mtools make an ESP. Its clusters are of one sector, so that
// each file has two.
func makeESP(t testing.TB) (e esp) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "esp.img")
	run := func(stdin []byte, name string, args ...string) {
		cmd := exec.Command(name, args...)
		cmd.Stdin = bytes.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	run(nil, "mformat", "-C", "-i", image, "-T", "128", "-h", "2", "-s", "16", "-c", "1", "::")
	run(nil, "mmd", "-i", image, "::/"+Folder)
	for i, name := range files {
		run(bytes.Repeat([]byte{byte('1' + i)}, bootenv.Size), "mcopy", "-i", image, "-", "::/"+Folder+"/"+name)
	}
	var err error
	if e.image, err = os.ReadFile(image); err != nil {
		t.Fatal(err)
	}
	for i, name := range files {
		e.data[i] = bytes.Index(e.image, bytes.Repeat([]byte{byte('1' + i)}, bootenv.Size))
		e.entry[i] = bytes.Index(e.image, fmt.Appendf(nil, "%-8sENV", strings.ToUpper(strings.TrimSuffix(name, ".env"))))
		if e.data[i] < 0 || e.entry[i] < 0 {
			t.Fatalf("%s is not found in the image", name)
		}
	}
	return e
}

// with returns the image with the contents of d.
func (e esp) with(d disk) []byte {
	b := append([]byte{}, e.image...)
	for i, block := range d {
		if block == nil {
			b[e.entry[i]] = 0xe5 // deleted
		}
		copy(b[e.data[i]:], block)
	}
	return b
}

// starts is how often the test lets GRUB start.
const starts = MaxTries + 2

// run lets GRUB's emulator run a script on each disk as often as starts says.
// It returns what the script picked at each start, and the disks it left.
func (e esp) run(t *testing.T, script string, all []disk) (picks []string, left []disk) {
	t.Helper()
	dir := t.TempDir()
	path := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%d.img", i)) }
	var devices, cfg strings.Builder
	for i, d := range all {
		if err := os.WriteFile(path(i), e.with(d), 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&devices, "(hd%d) %s\n", i, path(i))
		fmt.Fprintf(&cfg, "set esp=hd%d\n", i)
		for range starts {
			cfg.WriteString("source $prefix/record.cfg\necho \"@slot $kedge_slot, other $kedge_other, trial $kedge_trial@\"\n")
		}
	}
	for name, text := range map[string]string{"device.map": devices.String(), "record.cfg": script, "grub.cfg": cfg.String() + "exit\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("grub-emu", "-d", dir, "-m", filepath.Join(dir, "device.map"), "-r", "host").CombinedOutput()
	if err != nil {
		t.Fatalf("grub-emu: %v\n%.2000s", err, out)
	}
	for _, m := range regexp.MustCompile(`@(slot [^@]*)@`).FindAllSubmatch(out, -1) {
		picks = append(picks, string(m[1]))
	}
	if len(picks) != len(all)*starts {
		t.Fatalf("the script ran %d times, want %d:\n%.2000s", len(picks), len(all)*starts, out)
	}
	for i := range all {
		image, err := os.ReadFile(path(i))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, e.read(image))
	}
	return picks, left
}

// compare runs the script on each disk and compares it with the model.
func (e esp) compare(t *testing.T, all []disk) {
	t.Helper()
	picks, left := e.run(t, Script(), all)
	for i, d := range all {
		for n := range starts {
			slot, trial, next := d.start(t)
			want := fmt.Sprintf("slot %s, other %s, trial ", slot, Other(slot))
			if trial {
				want += "1"
			}
			if got := picks[i*starts+n]; got != want {
				t.Fatalf("start %d of blocks %.80q:\nGRUB picks %s, want %s", n+1, all[i], got, want)
			}
			d = next
		}
		if d.record().Trial == "" { // GRUB may have tried to write what it cannot
			left[i][2] = d[2]
		}
		if !reflect.DeepEqual(left[i], d) {
			t.Fatalf("blocks %.80q: GRUB leaves %.80q, want %.80q", all[i], left[i], d)
		}
	}
}

// read returns the contents of the files in an image.
func (e esp) read(image []byte) (d disk) {
	for i := range d {
		if image[e.entry[i]] != 0xe5 {
			d[i] = image[e.data[i]:][:bootenv.Size]
		}
	}
	return d
}

// TestGrubFollowsTheModel shows GRUB every record, sound and damaged, every
// block that a power cut can leave, and some with random damage.
func TestGrubFollowsTheModel(t *testing.T) {
	need(t, "grub-emu", "mformat", "mmd", "mcopy")
	all := disks()
	seen := map[string]bool{}
	add := func(at disk) {
		for i, b := range at {
			if name := fmt.Sprint(i/2) + string(b); b != nil && !seen[name] {
				seen[name] = true
				if i == 2 {
					all = append(all, disk{goodBlock(A), goodBlock(A), b}, disk{goodBlock(B), nil, b})
				} else {
					all = append(all, disk{b, goodBlock(B), trialBlock("", 0)}, disk{b, goodBlock(A), trialBlock(B, 1)}, disk{nil, b, trialBlock(A, 0)})
				}
			}
		}
	}
	for _, d := range disks() {
		if slices.ContainsFunc(d[:], func(b []byte) bool { return b != nil && b[bootenv.Size-1] == 0 }) {
			continue // with zeros there are a thousand mixtures that read alike
		}
		for _, c := range changes(t, d) {
			cuts(d, c.writes, add)
		}
	}
	for _, b := range damaged {
		if b != nil {
			add(disk{b, nil, b})
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		d := disk{goodBlock([]string{A, B}[r.IntN(2)]), goodBlock([]string{A, B}[r.IntN(2)]), trialBlock([]string{A, B}[r.IntN(2)], r.IntN(4))}
		for i := range d {
			if r.IntN(3) > 0 {
				scratch(r, d[i])
			}
		}
		all = append(all, d)
	}
	e := makeESP(t)
	t.Logf("%d records", len(all))
	const devices = 256 // the most that grub-emu takes
	for len(all) > 0 {
		n := min(devices, len(all))
		e.compare(t, all[:n])
		all = all[n:]
	}
}

// TestScriptNeedsTheWrite: on a medium that refuses to be written, or takes a
// write and forgets it, the committed slot is picked.
func TestScriptNeedsTheWrite(t *testing.T) {
	need(t, "grub-emu", "mformat", "mmd", "mcopy")
	e := makeESP(t)
	armed := disk{goodBlock(A), goodBlock(A), trialBlock(B, 3)}
	for _, instead := range []string{"true", "false"} {
		script := strings.Replace(Script(), "if save_env ", "if "+instead+" ", 1)
		if script == Script() {
			t.Fatal("the script does not write")
		}
		picks, _ := e.run(t, script, []disk{armed})
		if want := slices.Repeat([]string{"slot a, other b, trial "}, starts); !slices.Equal(picks, want) {
			t.Errorf("save_env is %s: GRUB picks %q", instead, picks)
		}
	}
}

// scratch changes a few bytes of a block, mostly to such as matter there.
func scratch(r *rand.Rand, b []byte) {
	const chars = "#=\\\n\x00ab0123:"
	for range 1 + r.IntN(3) {
		at := 25 + r.IntN(50)
		switch r.IntN(5) {
		case 0:
			at = len(b) - 1 - r.IntN(8)
			b[at] = chars[r.IntN(len(chars))]
		case 1: // a byte more
			copy(b[at+1:], b[at:len(b)-1])
			b[at] = chars[r.IntN(len(chars))]
		case 2: // a piece twice
			copy(b[at:at+r.IntN(30)], append([]byte{}, b[25+r.IntN(40):]...))
		default:
			b[at] = chars[r.IntN(len(chars))]
		}
	}
}
