package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/node/slot"
)

// TestEntries lets GRUB's emulator run the entries of the menu: a slot on trial is
// told so by whatever starts it, since its start was counted.
func TestEntries(t *testing.T) {
	if _, err := exec.LookPath("grub-emu"); err != nil {
		t.Skip(err)
	}
	text, err := configText()
	if err != nil {
		t.Fatal(err)
	}
	// The emulator has no disks and nobody at its menu.
	config := regexp.MustCompile(`menuentry "[^"]*" --id (\w+) \{`).ReplaceAllString(string(text), "function entry_$1 {")
	config = strings.NewReplacer(
		slot.Script(), "set kedge_slot=b\nset kedge_other=a\n",
		`set esp="$root"`, `set root="hd0,gpt2"`,
		`probe --set=kedge_partition --part-uuid "$root"`, "set kedge_partition=of-$root",
		`source "($root)/`+release.SlotConfig+`"`, `echo "@$kedge_args@"`,
	).Replace(config)
	for trial, word := range map[string]string{"": "", "1": "kedge.trial=1"} {
		for _, c := range []struct{ entry, want string }{
			{"start", "kedge.mode=disk kedge.slot=b kedge.partition=of-hd0,gpt4 " + word},
			{"other", "kedge.mode=disk kedge.slot=a kedge.partition=of-hd0,gpt3 "},
			{"reset", "kedge.mode=disk kedge.slot=b kedge.partition=of-hd0,gpt4 " + word + " kedge.reset=ask"},
		} {
			dir := t.TempDir()
			for name, content := range map[string]string{
				"device.map": "", "grub.cfg": fmt.Sprintf("set kedge_trial=%q\n%s\nentry_%s\nexit\n", trial, config, c.entry),
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.Command("grub-emu", "-d", dir, "-m", filepath.Join(dir, "device.map"), "-r", "host").CombinedOutput()
			if err != nil {
				t.Fatalf("grub-emu: %v\n%.2000s", err, out)
			}
			m := regexp.MustCompile(`@([^@]*)@`).FindSubmatch(out)
			if m == nil || strings.Join(strings.Fields(string(m[1])), " ") != strings.Join(strings.Fields(c.want), " ") {
				t.Errorf("entry %s with trial %q: %q, want %q\n%.1500s", c.entry, trial, m, c.want, out)
			}
		}
	}
}
