package boot

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func containsAll(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func TestJudgeFsck(t *testing.T) {
	for _, c := range []struct {
		name  string
		code  int
		known bool
		text  string
		want  verdict
	}{
		{"clean", 0, true, "clean, 11/51200 files", sound},
		{"corrected", 1, true, "", mended},
		{"corrected, restart", 3, true, "", mended},
		{"uncorrected", 4, true, "RUN fsck MANUALLY", broken},
		{"corrected in part", 5, true, "", broken},
		{"no superblock", 8, true, "Bad magic number in super-block", broken},
		{"usage", 16, true, "", failed},
		{"cancelled", 32, true, "", failed},
		{"library", 128, true, "", failed},
		{"killed", 0, false, "", failed},
		{"disk fails", 4, true, "Error reading block 12 (Input/output error)", failed},
		{"disk is cut off", 12, true, "Attempt to read block from filesystem resulted in short read", failed},
	} {
		if got := judge(c.code, c.known, c.text); got != c.want {
			t.Errorf("%s: judge = %v, want %v", c.name, got, c.want)
		}
	}
}

// TestFsck asks e2fsck itself about damaged file systems.
func TestFsck(t *testing.T) {
	for _, c := range []struct {
		name         string
		at, size     int64
		gently, hard verdict
	}{
		{"sound", 0, 0, sound, sound},
		{"no primary superblock", 0, 64 << 10, broken, mended},
		{"inodes lost", 240 << 10, 160 << 10, broken, mended},
		{"nothing left", 0, 64 << 20, broken, broken},
	} {
		file := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, 64<<20); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-L", StateLabel, file).CombinedOutput(); err != nil {
			t.Fatalf("mke2fs: %v\n%s", err, out)
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt(make([]byte, c.size), c.at)
		f.Close()
		if got, text := fsck(context.Background(), "-p", file); got != c.gently {
			t.Errorf("%s: -p = %v (%s), want %v", c.name, got, text, c.gently)
		}
		if got, text := fsck(context.Background(), "-y", file); got != c.hard || strings.Contains(text, "\n") {
			t.Errorf("%s: -y = %v (%s), want %v", c.name, got, text, c.hard)
		}
	}
}

func TestSummary(t *testing.T) {
	const lost = `e2fsck 1.47.2 (1-Jan-2025)
/usr/sbin/e2fsck: Bad magic number in super-block while trying to open /dev/vda5
/dev/vda5: 
The superblock could not be read or does not describe a valid ext2/ext3/ext4
filesystem.  If the device is valid and it really contains an ext2/ext3/ext4
filesystem (and not swap or ufs or something else), then the superblock
is corrupt, and you might try running e2fsck with an alternate superblock:
    e2fsck -b 8193 <device>
 or
    e2fsck -b 32768 <device>

`
	for text, want := range map[string]string{
		lost: "/usr/sbin/e2fsck: Bad magic number in super-block while trying to open /dev/vda5",
		"KEDGE-STATE: ***** FILE SYSTEM WAS MODIFIED *****\nKEDGE-STATE: 26/499712 files, 53388/1998080 blocks\n": "KEDGE-STATE: ***** FILE SYSTEM WAS MODIFIED; KEDGE-STATE: 26/499712 files, 53388/1998080 blocks",
		"": "",
	} {
		if got := summary(text); got != want {
			t.Errorf("summary = %q, want %q", got, want)
		}
	}
}

func TestGiveBack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{"lib/kedge/config.d/50-install.yaml": "a", "lib/kedge/hostname": "b", "lib/other": "c"} {
		os.MkdirAll(filepath.Dir(filepath.Join(from, path)), 0o755)
		if err := os.WriteFile(filepath.Join(from, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.MkdirAll(filepath.Join(to, "lib/kedge"), 0o755)
	os.WriteFile(filepath.Join(to, "lib/kedge/hostname"), []byte("old"), 0o600)
	if err := giveBack(from, to); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"lib/kedge/config.d/50-install.yaml": "a", "lib/kedge/hostname": "old", "lib/other": ""} {
		if got, _ := os.ReadFile(filepath.Join(to, path)); string(got) != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
}
