package main

import (
	"strings"
	"testing"
)

func TestHeldKeys(t *testing.T) {
	for _, c := range []struct {
		name            string
		cached, fetched string
		all             bool
		want            string
	}{
		{"the first time", "", "a b", true, "a b"},
		{"one place is silent, and nothing came before", "", "a", false, "a"},
		{"one place is silent, and its keys stay", "a b", "a", false, "a b"},
		{"one place is silent, another has a new key", "a b", "a c", false, "a b c"},
		{"all answer, and a key is gone", "a b", "a c", true, "a c"},
		{"two places have the same key", "a", "b b", true, "b"},
	} {
		if got := strings.Join(heldKeys(strings.Fields(c.cached), strings.Fields(c.fetched), c.all), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
