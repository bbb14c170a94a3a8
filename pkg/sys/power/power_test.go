package power

import (
	"encoding/binary"
	"strings"
	"testing"
)

// event is a struct input_event of a machine whose words have 8 bytes.
func event(kind, code uint16, value uint32) []byte {
	b := make([]byte, 16, 24)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, code)
	return binary.NativeEndian.AppendUint32(b, value)
}

func TestPressed(t *testing.T) {
	for _, c := range []struct {
		name   string
		events [][]byte
		want   bool
	}{
		{"nothing", nil, false},
		{"power down", [][]byte{event(0, 0, 0), event(1, 116, 1)}, true},
		{"power up", [][]byte{event(1, 116, 0)}, false},
		{"another key", [][]byte{event(1, 30, 1)}, false},
		{"a switch", [][]byte{event(5, 116, 1)}, false},
		{"cut short", [][]byte{event(1, 116, 1)[:20]}, false},
	} {
		var all []byte
		for _, e := range c.events {
			all = append(all, e...)
		}
		if got := pressed(all, 8); got != c.want {
			t.Errorf("%s: pressed = %v, want %v", c.name, got, c.want)
		}
	}
}

// The bitmaps are those of /sys/class/input/*/device/capabilities/key of an
// ACPI power button, a keyboard and a mouse.
func TestHas(t *testing.T) {
	for bitmap, want := range map[string]bool{
		"10000000000000 0": true,
		"402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe": true,
		"1f0000 0 0 0 0": false,
		"0":              false,
		"":               false,
	} {
		if got := has(strings.Fields(bitmap), keyPower, 64); got != want {
			t.Errorf("has(%q, power) = %v, want %v", bitmap, got, want)
		}
	}
}
