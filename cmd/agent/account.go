package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kedgeos/kedge/pkg/sys/process"
)

// An account is one user of the machine.
type account struct {
	name, home, shell string
	process.User
}

// findAccount reads one user out of the texts of /etc/passwd and /etc/group.
func findAccount(passwd, group, name string) (account, error) {
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if f[0] != name || len(f) != 7 {
			continue
		}
		uid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(f[3], 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		user := process.User{UID: uint32(uid), GID: uint32(gid), Groups: groupsOf(group, name)}
		return account{name: name, home: f[5], shell: f[6], User: user}, nil
	}
	return account{}, fmt.Errorf("no user %s", name)
}

func groupsOf(group, name string) []uint32 {
	var ids []uint32
	for line := range strings.Lines(group) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 4 || !slices.Contains(strings.Split(f[3], ","), name) {
			continue
		}
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			ids = append(ids, uint32(id))
		}
	}
	return ids
}

// environment is what a login shell on a terminal of this kind starts with.
func (a account) environment(tty string, system []string) []string {
	term := "vt220" // what serial lines are taken for
	if strings.HasPrefix(tty, "tty") && len(tty) > 3 && tty[3] >= '0' && tty[3] <= '9' {
		term = "linux"
	}
	env := []string{
		"HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name, "SHELL=" + a.shell, "TERM=" + term,
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
	}
	return append(env, system...)
}
