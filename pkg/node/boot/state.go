package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/sys/mount"
	"github.com/kedgeos/kedge/pkg/sys/process"
)

// A verdict is what a check of a file system came to.
type verdict int

const (
	sound  verdict = iota
	mended         // differences that lose nothing, as after a power cut
	broken         // what a person would be asked about
	failed         // the disk does not do what it is told, or the check itself failed
)

// diskFails matches what e2fsck says when it is the disk that is at fault. To
// mend a file system there makes it worse.
var diskFails = regexp.MustCompile(`(?i)error (reading|writing) block|input/output error|short (read|write)`)

// judge reads the end of e2fsck. Source: e2fsck(8), EXIT CODE.
func judge(code int, known bool, text string) verdict {
	const corrected, reboot, uncorrected, operational = 1, 2, 4, 8
	switch {
	case !known || code >= 2*operational || diskFails.MatchString(text):
		return failed
	case code&(uncorrected|operational) != 0: // the latter when there is no superblock
		return broken
	case code&(corrected|reboot) != 0:
		return mended
	}
	return sound
}

// fsck runs e2fsck in the manner -p or -y and returns its last lines as one.
func fsck(ctx context.Context, manner, device string) (verdict, string) {
	var out bytes.Buffer
	err := process.Command{Args: []string{"e2fsck", manner, device}, Stdout: &out, Stderr: &out}.Run(ctx)
	code, known := process.ExitCode(err)
	text := summary(out.String())
	if !known {
		text = err.Error()
	}
	return judge(code, known, out.String()), text
}

// advice matches what e2fsck says to somebody at a terminal, and its own name.
var advice = regexp.MustCompile(`^(e2fsck [0-9]|\(i\.e\., without|The superblock could not be|filesystem|is corrupt, and|e2fsck -b|or$|\S+: ?$)`)

// summary makes one line of the last ones of e2fsck, without advice.
func summary(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.Trim(line, " \t\r\n*")
		if line != "" && !advice.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-4):], "; ")
}

// Places of what is kept when the state itself cannot be.
const (
	stateProbe = runDir + "/state"   // where the state is mounted before it is /var
	salvageDir = runDir + "/salvage" // what could be read of a damaged state
)

// salvaged are the paths below the state's root that a machine needs to be
// itself: its configuration, its keys and its name.
var salvaged = []string{"lib/kedge/config.d", "lib/kedge/ssh", "lib/kedge/hostname", "lib/kedge/machine-id"}

// openState makes the state's file system ready to be mounted: checked, mended
// where that can be done, emptied when a factory reset was asked for. With an
// error the state cannot be used; nothing of it was given up.
func (s *System) openState(ctx context.Context, state string) error {
	v, text := fsck(ctx, "-p", state)
	switch v {
	case mended:
		s.note(fmt.Errorf("state file system %s was mended: %s", state, text))
	case broken:
		s.say(fmt.Sprintf("STATE FILE SYSTEM %s IS DAMAGED: %s", state, text))
		s.noteError(salvage(state, salvageDir))
		s.say("mending it; what loses its place goes to /var/lost+found")
		// One pass may only get as far as the superblock and the journal.
		for pass := 0; pass < 3 && v == broken; pass++ {
			v, text = fsck(ctx, "-y", state)
		}
		if v == broken || v == failed {
			return fmt.Errorf("e2fsck cannot mend %s: %s", state, text)
		}
		s.say(fmt.Sprintf("STATE FILE SYSTEM %s WAS DAMAGED AND IS MENDED, files may be lost: %s", state, text))
		v = mended // even if the last pass found nothing more
	case failed:
		s.noteError(salvage(state, salvageDir))
		return fmt.Errorf("e2fsck cannot check %s: %s", state, text)
	}
	if err := (Mount{mount.Spec{Type: "ext4", Source: state, Target: stateProbe, Options: "nosuid,nodev"}}).Do(Host{}); err != nil {
		return err
	}
	if v != sound {
		s.noteError(giveBack(salvageDir, stateProbe))
	}
	s.noteError(s.reset(ctx, stateProbe))
	return mount.Unmount(stateProbe)
}

func (s *System) noteError(err error) {
	if err != nil {
		s.note(err)
	}
}

// salvage copies what makes a machine itself out of a damaged state, which is
// only read. What cannot be read is left out.
func salvage(state, dir string) error {
	spec := mount.Spec{Type: "ext4", Source: state, Target: stateProbe, Options: "ro,noload,errors=continue,nosuid,nodev,noexec"}
	if err := (Mount{spec}).Do(Host{}); err != nil {
		return fmt.Errorf("save the configuration of a damaged state: %w", err)
	}
	err := giveBack(stateProbe, dir)
	return errors.Join(err, mount.Unmount(stateProbe))
}

// giveBack copies the salvaged paths from one root to another, where that does
// not have them.
func giveBack(from, to string) error {
	var errs []error
	for _, path := range salvaged {
		source := filepath.Join(from, path)
		if !exists(source) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, path)), 0o755); err != nil {
			return err
		}
		if err := (Host{}).Fill(source, filepath.Join(to, path)); err != nil {
			errs = append(errs, fmt.Errorf("copy %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

// loseState decides what a machine does whose state cannot be used: it keeps
// everything in memory and says so, unless somebody who chose the factory reset
// in the boot menu confirms that a new state is made. It returns the device to
// mount, "" for memory.
func (s *System) loseState(ctx context.Context, state string, why error) string {
	if word, _ := cmdline.Get(s.Params, "kedge.reset"); word == "ask" && s.askReset(ctx) {
		s.say("factory reset: making a new state file system on " + state)
		err := FormatState(ctx, state, salvageDir)
		if err == nil {
			return state
		}
		why = errors.Join(why, err)
	}
	s.say(fmt.Sprintf("THE STATE ON %s CANNOT BE USED: %v", state, why))
	s.say("nothing on it was changed that e2fsck did not; this boot keeps everything in memory, with network and SSH, without Kubernetes")
	s.say(StateAdvice)
	s.Journal.Update(func(r *Record) { r.StateDamage, r.StateDevice = why.Error(), state })
	return ""
}

// StateAdvice says what to do about a state that cannot be used.
const StateAdvice = `"kedge reset --format" gives the state up and makes a new one; a restart tries the old one again`

// FormatState makes a new state on a device that is not mounted. All that was
// there is lost, but the salvaged paths below keep, if there are any, are put
// into the new one.
func FormatState(ctx context.Context, state, keep string) error {
	const label = StateLabel
	err := process.Command{Args: []string{"mke2fs", "-q", "-F", "-t", "ext4", "-m", "1", "-L", label, state}}.Run(ctx)
	if err != nil {
		return fmt.Errorf("make state file system on %s: %w", state, err)
	}
	if err := (Mount{mount.Spec{Type: "ext4", Source: state, Target: stateProbe, Options: "nosuid,nodev"}}).Do(Host{}); err != nil {
		return err
	}
	return errors.Join(giveBack(keep, stateProbe), mount.Unmount(stateProbe))
}
