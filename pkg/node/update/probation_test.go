package update_test

import (
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/node/update"
)

func TestProbation(t *testing.T) {
	type look struct {
		at    int // seconds
		wrong string
	}
	for _, c := range []struct {
		name   string
		looks  []look
		over   bool
		reason string
	}{
		{"well, not yet for long", []look{{0, ""}, {19, ""}}, false, ""},
		{"well for long enough", []look{{0, ""}, {10, ""}, {20, ""}}, true, ""},
		{"ill in between", []look{{0, ""}, {15, "x"}, {20, ""}, {30, ""}}, false, ""},
		{"well again", []look{{0, "x"}, {30, ""}, {50, ""}}, true, ""},
		{"never well", []look{{0, "x"}, {100, "x"}, {101, "the node is not Ready"}}, true, "not healthy within 1m40s: the node is not Ready"},
		{"late, and well for long enough", []look{{0, "x"}, {90, ""}, {101, ""}, {110, ""}}, true, ""},
	} {
		var p update.Probation
		var over bool
		var reason string
		for i, l := range c.looks {
			over, reason = p.Look(time.Unix(1000+int64(l.at), 0), l.wrong, 20*time.Second, 100*time.Second)
			if over && i < len(c.looks)-1 {
				t.Errorf("%s: over at look %d", c.name, i)
			}
		}
		if over != c.over || reason != c.reason {
			t.Errorf("%s: Look = %v, %q", c.name, over, reason)
		}
	}
}
