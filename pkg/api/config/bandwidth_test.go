package config

import "testing"

func TestParseBandwidth(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "0": 0, "500KB": 500_000, "500kB": 500_000, "500 KB/s": 500_000, "2MiB": 2 << 20, "1.5MB": 1_500_000, "1000": 1000} {
		if got, err := ParseBandwidth(text); err != nil || got != want {
			t.Errorf("ParseBandwidth(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"fast", "999", "1B", "-5MB", "5mb", "10Mbit", "MB", "1e6"} {
		if got, err := ParseBandwidth(bad); err == nil {
			t.Errorf("ParseBandwidth(%q) = %d", bad, got)
		}
	}
}
