package verity

import (
	"fmt"
	"testing"
)

func TestCorrupted(t *testing.T) {
	for status, want := range map[string]bool{"V": false, "C": true, "V 0": false, "C 12": true, "": false, "VC": false} {
		if got := Corrupted(status); got != want {
			t.Errorf("Corrupted(%q) = %v", status, got)
		}
	}
}

func TestBadBlocks(t *testing.T) {
	const log = `<6>[    1.001234] device-mapper: ioctl: 4.48.0-ioctl (2023-03-01) initialised: dm-devel@lists.linux.dev
<6>[    1.101234] device-mapper: verity: sha256 using implementation "sha256-ni"
<3>[    9.500000] device-mapper: verity: 7:0: data block 1234 is corrupted
<3>[    9.600000] device-mapper: verity: 7:0: data block 1234 is corrupted
<3>[    9.700000] device-mapper: verity: 7:4: data block 9 is corrupted
<3>[   10.500000] device-mapper: verity: 7:0: metadata block 3 is corrupted
<3>[   10.500000] device-mapper: verity: 7:0: reached maximum errors
`
	for device, want := range map[string]string{
		"7:0": "[block 1234 block 3 of the hash tree]",
		"7:4": "[block 9]",
		"7:1": "[]",
		"":    "[]",
	} {
		if got := fmt.Sprint(BadBlocks(log, device)); got != want {
			t.Errorf("BadBlocks of %q = %s, want %s", device, got, want)
		}
	}
}

func TestDataDevice(t *testing.T) {
	table := Table("7:0", "7:1", 8, 0, [32]byte{}, nil)
	if d := DataDevice(table); d != "7:0" {
		t.Errorf("DataDevice(%q) = %q", table, d)
	}
	if d := DataDevice(""); d != "" {
		t.Errorf("DataDevice of nothing = %q", d)
	}
}
