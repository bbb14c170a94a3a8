package judge

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kedgeos/kedge/hack/powercut/record"
	"github.com/kedgeos/kedge/hack/powercut/replay"
	"github.com/kedgeos/kedge/pkg/api/layout"
)

// contents are what the state's file system holds at the end of a recording. A
// program that does not wait for the disk leaves an empty file when the power goes
// away: such files are named, since one of them may keep a machine from its next
// start. Whether it does is for a boot to find out.
type contents struct {
	folders []string
	full    map[string]bool // files that are not empty
}

// inventory takes the contents of the state at the end of the recording.
func (c *Room) inventory(ctx context.Context, rec *record.Recording, l *replay.Log) (all contents, err error) {
	if err := c.disk.Advance(len(l.Events)); err != nil {
		return all, err
	}
	c.size = rec.SizeAt(len(l.Events))
	file, _, problem, err := c.recover(ctx, c.disk.Image(), c.judge.reference.parts[layout.StateName])
	if err != nil {
		return all, err
	}
	if problem != "" {
		return all, fmt.Errorf("at the end: %s", problem)
	}
	all.full = map[string]bool{}
	for level := []string{""}; len(level) > 0; {
		all.folders = append(all.folders, level...)
		entries, err := list(ctx, file, level)
		if err != nil {
			return all, err
		}
		level = nil
		for _, e := range entries {
			switch {
			case e.folder:
				level = append(level, e.path)
			case e.size > 0:
				all.full[e.path] = true
			}
		}
	}
	return all, nil
}

// empty returns the files that are empty, and are not in the end.
func (c *Room) empty(ctx context.Context, image string) (names []string, err error) {
	end := c.judge.end
	if len(end.full) == 0 {
		return nil, nil
	}
	entries, err := list(ctx, image, end.folders)
	for _, e := range entries {
		if !e.folder && e.size == 0 && end.full[e.path] {
			names = append(names, kind(e.path))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// identifier is the part of a path that is another on each machine: of a pod, a
// container, a digest.
var identifier = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,}`)

// kind is a path without what is another on each machine.
func kind(path string) string { return identifier.ReplaceAllString(path, "*") }

// An entry is a file or a folder of a file system, by its path without a leading
// slash.
type entry struct {
	path   string
	folder bool
	size   int64 // bytes
}

// list returns the entries of folders; one that is not there has none.
func list(ctx context.Context, image string, folders []string) (entries []entry, err error) {
	var script strings.Builder
	for _, f := range folders {
		fmt.Fprintf(&script, "ls -p \"/%s\"\n", f)
	}
	out, status, err := run(ctx, script.String(), "debugfs", "-f", "-", image)
	if err != nil || status != 0 {
		return nil, fmt.Errorf("debugfs: %s (%v)", shorten(out), err)
	}
	folder := ""
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		line := lines.Text()
		if command, ok := strings.CutPrefix(line, `debugfs: ls -p "/`); ok {
			if folder = strings.TrimSuffix(command, `"`); folder != "" {
				folder += "/"
			}
			continue
		}
		// /inode/mode/user/group/name/size/
		f := strings.Split(line, "/")
		if len(f) != 8 || len(f[2]) != 6 || f[5] == "." || f[5] == ".." {
			continue
		}
		e := entry{path: folder + f[5], folder: strings.HasPrefix(f[2], "04")}
		if !e.folder {
			if !strings.HasPrefix(f[2], "10") {
				continue
			}
			if e.size, err = strconv.ParseInt(f[6], 10, 64); err != nil {
				return nil, fmt.Errorf("debugfs: size of %s: %w", e.path, err)
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}
