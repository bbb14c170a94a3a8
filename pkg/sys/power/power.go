// Package power restarts and switches off the machine, and waits for its power
// button.
//
// Source: reboot(2); linux/input.h and linux/input-event-codes.h for the
// button.
package power

import "encoding/binary"

// An Action is how a machine ends its run.
type Action string

// The actions.
const (
	Reboot   Action = "reboot"
	PowerOff Action = "poweroff"
	Halt     Action = "halt"
)

const (
	typeKey  = 1
	keyPower = 116
)

// pressed tells whether power was pressed in a run of struct input_event, each
// of which is a time of two words and then type, code and value.
func pressed(events []byte, word int) bool {
	size := 2*word + 8
	for ; len(events) >= size; events = events[size:] {
		e := events[2*word:]
		kind, code := binary.NativeEndian.Uint16(e), binary.NativeEndian.Uint16(e[2:])
		if kind == typeKey && code == keyPower && binary.NativeEndian.Uint32(e[4:]) == 1 {
			return true
		}
	}
	return false
}

// has tells whether bit n is set in a bitmap as sysfs prints it: words in hex,
// the highest first.
func has(bitmap []string, n, wordBits int) bool {
	word := len(bitmap) - 1 - n/wordBits
	if word < 0 {
		return false
	}
	var v uint64
	for _, c := range bitmap[word] {
		digit := uint64(c - '0')
		if c >= 'a' {
			digit = uint64(c-'a') + 10
		}
		v = v<<4 | digit
	}
	return v>>(n%wordBits)&1 == 1
}
