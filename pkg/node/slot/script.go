package slot

import _ "embed"

//go:embed record.cfg
var script string

// Script returns the part of GRUB's configuration that follows the rules of
// this package. It wants the variable esp, the ESP's device such as hd0,gpt1,
// and leaves in kedge_slot the slot to boot, in kedge_other the other one, and
// in kedge_trial 1 for a trial or nothing. It needs GRUB's modules loadenv and
// test, and those that read the ESP: part_gpt and fat.
//
// Source: GNU GRUB Manual 2.06, "Shell-like scripting" and the commands
// load_env and save_env.
func Script() string { return script }
