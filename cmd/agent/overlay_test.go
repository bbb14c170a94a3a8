package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/node/apply"
)

// overlay returns a file that the image gets as it is.
func overlay(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../overlay", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// names returns the first field of each line.
func names(text string) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, ":")
		all[name] = true
	}
	return all
}

func TestUsersOfTheImage(t *testing.T) {
	passwd, shadow, group, gshadow := overlay(t, "etc/passwd"), overlay(t, "etc/shadow"), overlay(t, "etc/group"), overlay(t, "etc/gshadow")
	for name := range names(passwd) {
		if !names(shadow)[name] {
			t.Errorf("user %s is not in shadow", name)
		}
		if apply.HasPassword(shadow, name) {
			t.Errorf("user %s has a password that everybody can read", name)
		}
		who, err := findAccount(passwd, group, name)
		if err != nil {
			t.Error(err)
		}
		if login := strings.HasSuffix(who.shell, "sh"); login != (name == "root" || name == apply.User) {
			t.Errorf("user %s has shell %s", name, who.shell)
		}
	}
	for name := range names(group) {
		if !names(gshadow)[name] {
			t.Errorf("group %s is not in gshadow", name)
		}
	}
	who, err := findAccount(passwd, group, apply.User)
	if err != nil || who.UID != 1000 || who.home != apply.Home {
		t.Errorf("user %s = %+v, %v", apply.User, who, err)
	}
}

func TestConfigOfTheImage(t *testing.T) {
	if problems := config.Validate("config.yaml", []byte(overlay(t, "usr/lib/kedge/config.yaml"))); len(problems) > 0 {
		t.Error(problems)
	}
}

// TestSSHLetsKeysInOnly holds what the console and the README promise.
func TestSSHLetsKeysInOnly(t *testing.T) {
	text := overlay(t, "etc/ssh/sshd_config")
	for _, line := range []string{
		"AuthenticationMethods publickey", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin no",
		"PermitEmptyPasswords no", "HostKey " + keyFolder + "/ssh_host_ed25519_key", "AuthorizedKeysFile " + apply.KeysDir + "/%u .ssh/authorized_keys",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("sshd_config has no line %q", line)
		}
	}
}

func TestSoundName(t *testing.T) {
	for name, want := range map[string]bool{"till-7": true, "a.b.example": true, "": false, "-x": false, "x-": false, "a_b": false, "a b": false, "x\n": false} {
		if got := soundName.MatchString(name); got != want {
			t.Errorf("soundName(%q) = %v", name, got)
		}
	}
}
