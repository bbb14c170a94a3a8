package boot

import "testing"

func TestModes(t *testing.T) {
	for _, c := range []struct{ word, fallback, mode, otherwise string }{
		{"", "", ModeLive, ""},
		{"disk", "", ModeDisk, ""},
		{"disk", "install", ModeDisk, ModeInstall},
		{"", "install", ModeDisk, ModeInstall},
		{"", "live", ModeDisk, ModeLive},
		{"disk", "rescue", ModeDisk, ModeRescue},
		{"disk", "disk", ModeDisk, ""},
		{"", "nonsense", ModeLive, ""},
		{"live", "install", ModeLive, ""},
		{"install", "live", ModeInstall, ""},
		{"nonsense", "install", ModeLive, ""},
	} {
		if mode, otherwise := modes(c.word, c.fallback); mode != c.mode || otherwise != c.otherwise {
			t.Errorf("kedge.mode=%s kedge.fallback_mode=%s: %q, %q; want %q, %q", c.word, c.fallback, mode, otherwise, c.mode, c.otherwise)
		}
	}
}
