package boot

import "fmt"

// modes returns the mode for kedge.mode= and the one for a machine that turns
// out to have no state, from kedge.fallback_mode=; "" when there is none. As
// with k3OS, one image started over the network then runs the machines that are
// installed and installs the others.
func modes(word, fallback string) (mode, otherwise string) {
	mode = modeOf(word)
	if word != "" && mode != ModeDisk {
		return mode, ""
	}
	switch fallback {
	case ModeInstall, ModeLive, ModeRescue:
		return ModeDisk, fallback
	}
	return mode, ""
}

// fallBack goes on in the other mode: this machine has no state.
func (s *System) fallBack() {
	s.say(fmt.Sprintf("no state on any disk of this machine: %s mode instead of disk mode (kedge.fallback_mode)", s.fallback))
	s.Mode = s.fallback
	s.Journal.Update(func(r *Record) { r.Mode = s.Mode })
}
