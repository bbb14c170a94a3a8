package main

import (
	"slices"
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"/usr/bin/kedge status --json", "kedge status --json"},
		{"/usr/sbin/reboot -f", "kedge reboot"},
		{"poweroff", "kedge poweroff"},
		{"halt -p", "kedge poweroff"},
		{"shutdown -h now", "kedge poweroff"},
		{"shutdown -r now", "kedge reboot"},
	} {
		if got := words(strings.Fields(c.args)); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("words(%s) = %v, want %s", c.args, got, c.want)
		}
	}
}
