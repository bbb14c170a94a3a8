package release

import (
	"strings"
	"testing"
)

func TestConstraint(t *testing.T) {
	for _, c := range []struct{ text, allowed, refused string }{
		{"", "0.1.0 9.9.9 nightly", ""},
		{">=0.1.0", "0.1.0 v0.1.0 0.1.1 1.0.0 0.2.0-rc.1 0.1.0+build", "0.0.9 0.1.0-rc.1 nightly"},
		{">0.1.0", "0.1.1", "0.1.0 0.1.0+build"},
		{">=0.2.0 <1.0.0", "0.2.0 0.99.0 1.0.0-rc.1", "0.1.9 1.0.0 nightly"},
		{"<=v0.2.0", "0.2.0 0.1.0", "0.2.1"},
		{"=0.2.0", "0.2.0 0.2.0+a", "0.2.1 0.2.0-rc.1"},
	} {
		got, err := ParseConstraint(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		for version := range strings.FieldsSeq(c.allowed) {
			if !got.Allows(version) {
				t.Errorf("%q refuses %s", c.text, version)
			}
		}
		for version := range strings.FieldsSeq(c.refused) {
			if got.Allows(version) {
				t.Errorf("%q allows %s", c.text, version)
			}
		}
		if want := strings.ReplaceAll(c.text, "v", ""); got.String() != want {
			t.Errorf("%q is shown as %q", c.text, got)
		}
	}
	for _, bad := range []string{" ", "0.1.0", ">=0.1", ">=1", ">= 0.1.0", "=>0.1.0", "~0.1.0", "^1.0.0", "!=1.0.0", ">=0.1.0,<1.0.0", ">=0.1.0 || <1.0.0", ">=", "==1.0.0", ">=01.0.0"} {
		if _, err := ParseConstraint(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func FuzzParseConstraint(f *testing.F) {
	f.Add(">=0.1.0 <v1.0.0-rc.1+b")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConstraint(text)
		if err != nil {
			return
		}
		if again, err := ParseConstraint(c.String()); err != nil || again.String() != c.String() {
			t.Errorf("%q: read again: %q, %v", text, again, err)
		}
	})
}
