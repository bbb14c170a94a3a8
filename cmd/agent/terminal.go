package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/kedgeos/kedge/pkg/node/apply"
)

// become turns this process, which leads the session of the terminal, into the
// login shell of a user. It returns only when that cannot be done.
func become(tty string, who account) error {
	f, err := os.OpenFile("/dev/"+tty, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	for fd := range 3 {
		if err := syscall.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("give %s to the shell: %w", tty, err)
		}
	}
	system, _ := os.ReadFile(apply.Environment) // absent: nothing is set
	env := who.environment(tty, apply.ReadEnvironment(string(system)))
	groups := make([]int, len(who.Groups))
	for i, g := range who.Groups {
		groups[i] = int(g)
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setgid(int(who.GID)), syscall.Setuid(int(who.UID))); err != nil {
		return fmt.Errorf("become %s: %w", who.name, err)
	}
	if os.Chdir(who.home) != nil { // a user without a home starts at the top
		if err := os.Chdir("/"); err != nil {
			return err
		}
	}
	if err := syscall.Exec(who.shell, []string{"-" + filepath.Base(who.shell)}, env); err != nil {
		return fmt.Errorf("start %s: %w", who.shell, err)
	}
	return nil
}
