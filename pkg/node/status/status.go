// Package status says how this node is doing: the answer of the agent's
// socket, its client and server, the question to the Kubernetes API whether
// the node is Ready, and the texts people read (kedge status, the console).
//
// Times in seconds count from the start of the kernel.
package status

import (
	"github.com/kedgeos/kedge/pkg/api/config"
)

// Socket is where the agent answers. Everybody on the machine may ask.
const Socket = "/run/kedge/agent.sock"

// Status is the state of a node.
type Status struct {
	Version   string           `json:"version"`
	ID        string           `json:"id,omitempty"`
	Mode      string           `json:"mode"`
	BootID    string           `json:"boot_id"`
	Hostname  string           `json:"hostname"`
	Links     []Link           `json:"links"`
	Addresses []string         `json:"addresses"`
	Online    bool             `json:"online"` // a default route leads somewhere
	Node      Node             `json:"node"`
	Login     Login            `json:"login"`
	Services  []Service        `json:"services"`
	Skipped   []config.Problem `json:"skipped"` // what of the configuration was not applied
	Sources   []string         `json:"sources"` // of the configuration, later ones win
	Stages    []Stage          `json:"stages"`
	Messages  []string         `json:"messages"`
	Slot      string           `json:"slot,omitempty"`               // a or b, of an installed system
	Trial     bool             `json:"trial,omitempty"`              // the slot is on trial
	Root      string           `json:"root,omitempty"`               // what vouches for the root file system
	Damage    string           `json:"damage,omitempty"`             // what of it is damaged
	Mend      string           `json:"mend,omitempty"`               // what to do about that
	Upgrade   string           `json:"upgrade,omitempty"`            // how the last upgrade stands
	Failure   string           `json:"upgrade_failure,omitempty"`    // which image was not taken since, and why
	Install   string           `json:"install,omitempty"`            // how an installation goes on
	State     string           `json:"state,omitempty"`              // why state or data disks cannot be used, and the way out
	KubeTrial string           `json:"kubernetes_upgrade,omitempty"` // how the last upgrade of Kubernetes alone stands
}

// Link is one network port.
type Link struct {
	Name      string   `json:"name"`
	Carrier   bool     `json:"carrier"`
	Addresses []string `json:"addresses"`
}

// Node is what Kubernetes says of this machine.
type Node struct {
	Name       string `json:"name"`
	Role       string `json:"role"` // server or agent
	Address    string `json:"address,omitempty"`
	Ready      bool   `json:"ready"`
	Reason     string `json:"reason,omitempty"` // why it is not
	Kubernetes string `json:"kubernetes,omitempty"`
}

// Login says who can get in.
type Login struct {
	User     string `json:"user"`
	Password bool   `json:"password"` // one is set: the console lets it in
	Keys     int    `json:"keys"`     // SSH keys that are let in
}

// Service is a program that PID 1 watches.
type Service struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Pid      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
}

// Stage is a milestone of this boot.
type Stage struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Value is one effective value of the configuration and where it comes from;
// secrets are masked.
type Value struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
	Line   int    `json:"line,omitempty"`
}
