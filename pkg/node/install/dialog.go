package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
)

// ErrQuit means that the person at the terminal does not want to install.
var ErrQuit = errors.New("not installed: nothing was written")

// A Terminal is where a person answers.
type Terminal interface {
	WriteString(string) (int, error)
	// ReadLine and ReadPassword return os.ErrDeadlineExceeded when nobody answers
	// within wait.
	ReadLine(ctx context.Context, wait time.Duration) (string, error)
	ReadPassword(ctx context.Context, prompt string, wait time.Duration) (string, error)
}

// Known is what needs no question, and what a person wants to see before any.
type Known struct {
	Version  string
	Links    []string // lines about the network ports
	Disks    []Disk
	Need     int64 // bytes
	Hostname string
	Config   config.Config
}

// Ask asks for what the configuration leaves open, and whether to go on. It
// returns what was answered as a configuration, with the disk in its
// install.device. The error is ErrQuit when the person gives up.
func Ask(ctx context.Context, t Terminal, k Known) (config.Config, error) {
	a := asker{ctx, t, k, config.Config{}}
	a.show()
	for _, question := range []func() error{a.disk, a.hostname, a.key, a.password, a.server, a.confirm} {
		if err := question(); err != nil {
			return config.Config{}, err
		}
	}
	return a.answers, nil
}

// answerTime is how long a question waits: meanwhile nobody else can install.
const answerTime = 10 * time.Minute

// gaveUp makes ErrQuit of the error of a question that nobody answered.
func gaveUp(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: there was no answer for %s", ErrQuit, answerTime)
	}
	return err
}

type asker struct {
	ctx     context.Context
	t       Terminal
	known   Known
	answers config.Config
}

func (a *asker) say(format string, args ...any) { a.t.WriteString(fmt.Sprintf(format, args...)) }

func (a *asker) show() {
	a.say("\nInstall Kedge %s to a disk. An empty answer takes what is in brackets; \"quit\" ends this.\n\n", a.known.Version)
	for _, l := range a.known.Links {
		a.say("  Network  %s\n", l)
	}
	for i, d := range a.known.Disks {
		what := strings.Join(d.Holds, ", ")
		if why := unfit(d, config.DiskMatch{}, a.known.Need); why != "" {
			what = why
		} else if what == "" {
			what = "blank"
		}
		a.say("  Disk %d   %s: %s\n", i+1, d, what)
	}
	a.say("\n")
}

// ask reads one answer. Check says what is wrong with it; then the question
// comes again.
func (a *asker) ask(question, fallback string, check func(string) error) error {
	for {
		if fallback != "" {
			a.say("%s [%s]: ", question, fallback)
		} else {
			a.say("%s: ", question)
		}
		answer, err := a.t.ReadLine(a.ctx, answerTime)
		if err != nil {
			return gaveUp(err)
		}
		answer = strings.TrimSpace(answer)
		if answer == "quit" {
			return ErrQuit
		}
		if answer == "" {
			answer = fallback
		}
		err = check(answer)
		if err == nil {
			return nil
		}
		a.say("  %v\n", err)
	}
}

// sound checks a configuration that one answer alone makes, and on success
// takes the answer over.
func (a *asker) sound(set func(*config.Config)) error {
	var one config.Config
	set(&one)
	text, err := config.Marshal(one)
	if err != nil {
		return err
	}
	if problems := config.Validate("answer", text); len(problems) > 0 {
		return errors.New(problems[0].Message)
	}
	set(&a.answers)
	return nil
}

func (a *asker) disk() error {
	wanted := a.known.Config.Kedge.Install
	fits, err := Choose(a.known.Disks, wanted, a.known.Need)
	if err == nil && wanted.Device != "" {
		a.answers.Kedge.Install.Device = fits.Path
		return nil
	}
	fallback := ""
	for i, d := range a.known.Disks {
		if err == nil && d.Path == fits.Path {
			fallback = strconv.Itoa(i + 1)
		}
	}
	return a.ask("Disk to install to, by its number", fallback, func(answer string) error {
		n, err := strconv.Atoi(answer)
		if err != nil || n < 1 || n > len(a.known.Disks) {
			return fmt.Errorf("a number from 1 to %d is wanted", len(a.known.Disks))
		}
		d := a.known.Disks[n-1]
		if why := unfit(d, config.DiskMatch{}, a.known.Need); why != "" {
			return fmt.Errorf("%s cannot be used: %s", d.Path, why)
		}
		a.answers.Kedge.Install.Device = d.Path
		return nil
	})
}

func (a *asker) hostname() error {
	if a.known.Config.Hostname != "" {
		return nil
	}
	return a.ask("Host name", a.known.Hostname, func(answer string) error {
		return a.sound(func(c *config.Config) { c.Hostname = answer })
	})
}

func (a *asker) key() error {
	if len(a.known.Config.SSHAuthorizedKeys) > 0 {
		return nil
	}
	return a.ask("SSH key, or github:NAME (empty for none)", "", func(answer string) error {
		if answer == "" {
			return nil
		}
		return a.sound(func(c *config.Config) { c.SSHAuthorizedKeys = []string{answer} })
	})
}

// password is asked twice; without a key and a password nobody could log in.
func (a *asker) password() error {
	if a.known.Config.Kedge.Password != "" {
		return nil
	}
	secret := func(prompt string) (string, error) {
		answer, err := a.t.ReadPassword(a.ctx, prompt, answerTime)
		if err == nil && answer == "quit" {
			err = ErrQuit
		}
		return answer, gaveUp(err)
	}
	for {
		first, err := secret("Password of the user kedge, for the console (empty for none): ")
		if err != nil {
			return err
		}
		if first == "" {
			if len(a.known.Config.SSHAuthorizedKeys)+len(a.answers.SSHAuthorizedKeys) == 0 {
				a.say("  Without a key and a password nobody can log in to this machine.\n")
			}
			return nil
		}
		second, err := secret("Again: ")
		if err != nil {
			return err
		}
		if first != second {
			a.say("  The two differ.\n")
			continue
		}
		if err := a.sound(func(c *config.Config) { c.Kedge.Password = first }); err != nil {
			a.say("  %v\n", err)
			continue
		}
		return nil
	}
}

func (a *asker) server() error {
	if a.known.Config.Kedge.ServerURL != "" {
		return nil
	}
	err := a.ask("Server to join, as https://ADDRESS:6443 (empty: a cluster of its own)", "", func(answer string) error {
		if answer == "" {
			return nil
		}
		return a.sound(func(c *config.Config) { c.Kedge.ServerURL = answer })
	})
	if err != nil || a.answers.Kedge.ServerURL == "" || a.known.Config.Kedge.Token != "" {
		return err
	}
	return a.ask("Token of that cluster", "", func(answer string) error {
		if answer == "" {
			return errors.New("without its token no server can be joined")
		}
		return a.sound(func(c *config.Config) { c.Kedge.Token = answer })
	})
}

// confirm wants a yes, or the disk's own name when data will be lost.
func (a *asker) confirm() error {
	var disk Disk
	for _, d := range a.known.Disks {
		if d.Path == a.answers.Kedge.Install.Device {
			disk = d
		}
	}
	a.say("\nKedge %s goes to %s.\n", a.known.Version, disk)
	word, question := "yes", "Type yes to go on"
	if a.known.Config.Kedge.Install.NoFormat {
		a.say("The system and the boot loader there are written anew; its state stays (install.no_format).\n")
	} else if len(disk.Holds) > 0 {
		a.say("It has %s. ALL OF IT WILL BE LOST.\n", strings.Join(disk.Holds, ", "))
		word, question = disk.Name, "Type the disk's name, "+disk.Name+", to go on"
	}
	return a.ask(question, "", func(answer string) error {
		if answer != word && answer != disk.Path {
			return fmt.Errorf("%q or \"quit\" is wanted", word)
		}
		a.answers.Kedge.Install.Wipe = true
		return nil
	})
}
