package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Size of the terminal that every text fits: a serial line's.
const (
	Columns = 80
	Rows    = 24
)

// shownProblems is how many skipped keys the console has room for.
const shownProblems = 5

// Banner is what the console shows while nobody is logged in: at most Rows
// lines of at most Columns letters, without control sequences.
func Banner(s Status) string {
	var b strings.Builder
	title := "Kedge " + s.Version
	if s.Mode != "" && s.Mode != "disk" {
		title += "   mode " + s.Mode
	}
	if s.ID != "" {
		title += "   image " + s.ID
	}
	fmt.Fprintf(&b, "\n%s\n%s\n\n", title, strings.Repeat("=", len(title)))
	field(&b, "Node", nodeLine(s))
	for i, l := range networkLines(s) {
		field(&b, []string{"Network", ""}[min(i, 1)], l)
	}
	b.WriteString("\n")
	for i, l := range loginLines(s) {
		field(&b, []string{"Log in", ""}[min(i, 1)], l)
	}
	if s.Damage != "" {
		for i, l := range rootLines(s) {
			field(&b, []string{"Root", ""}[min(i, 1)], l)
		}
	}
	if s.Upgrade != "" {
		field(&b, "Upgrade", s.Upgrade)
	}
	if s.KubeTrial != "" {
		field(&b, "Upgrade", s.KubeTrial)
	}
	if s.Failure != "" {
		field(&b, "Last try", s.Failure)
	}
	if s.Install != "" {
		field(&b, "Install", s.Install)
	}
	if s.State != "" {
		field(&b, "State", s.State)
	}
	if n := len(s.Skipped); n > 0 {
		fmt.Fprintf(&b, "\nNot applied from the configuration (%d):\n", n)
		for _, p := range s.Skipped[:min(n, shownProblems)] {
			b.WriteString("  " + cut(p.String(), Columns-2) + "\n")
		}
		if n > shownProblems {
			fmt.Fprintf(&b, "  ... and %d more: kedge status\n", n-shownProblems)
		}
	}
	return b.String()
}

func field(b *strings.Builder, name, value string) {
	const indent = 10
	fmt.Fprintf(b, "%-*s%s\n", indent, name, cut(value, Columns-indent))
}

// cut shortens a line to n letters.
func cut(line string, n int) string {
	line, _, more := strings.Cut(line, "\n")
	letters := []rune(line)
	if len(letters) > n || more {
		return string(letters[:min(len(letters), n-4)]) + " ..."
	}
	return line
}

func nodeLine(s Status) string {
	name := s.Node.Name
	if name == "" {
		name = s.Hostname
	}
	if name == "" {
		name = "starting"
	}
	parts := []string{name}
	if s.Node.Role != "" {
		parts = append(parts, s.Node.Role)
	}
	if s.Node.Kubernetes != "" {
		parts = append(parts, "Kubernetes "+s.Node.Kubernetes)
	}
	return strings.Join(append(parts, nodeState(s)), ", ")
}

func nodeState(s Status) string {
	switch {
	case s.Node.Ready:
		return "Ready"
	case s.Node.Role == "":
		return "no Kubernetes"
	case s.Node.Reason != "":
		return "not ready: " + strings.Join(strings.Fields(s.Node.Reason), " ")
	}
	return "not ready"
}

// rootLines says what vouches for the root, or what is wrong with it.
func rootLines(s Status) []string {
	first := s.Root
	if s.Damage != "" {
		first = s.Damage
	}
	return slices.DeleteFunc([]string{first, s.Mend}, func(l string) bool { return l == "" })
}

func networkLines(s Status) []string {
	var lines []string
	for _, l := range s.Links {
		state := strings.Join(l.Addresses, "  ")
		switch {
		case !l.Carrier:
			state = strings.TrimSpace(state + "  no cable")
		case state == "":
			state = "waiting for an address (DHCP)"
		}
		lines = append(lines, fmt.Sprintf("%-8s %s", l.Name, state))
	}
	const most = 4
	if n := len(lines); n > most {
		lines = append(lines[:most-1], fmt.Sprintf("... and %d more links", n-most+1))
	}
	if len(lines) == 0 {
		lines = []string{"no wired link found"}
	}
	if !s.Online {
		lines = append(lines, "offline: no way to other networks")
	}
	return lines
}

func loginLines(s Status) []string {
	if s.Login.User == "" {
		return []string{"not yet"}
	}
	var lines []string
	switch address := reachable(s); {
	case s.Login.Keys > 0 && address != "":
		lines = append(lines, fmt.Sprintf("ssh %s@%s   (%d key%s)", s.Login.User, address, s.Login.Keys, plural(s.Login.Keys)))
	case s.Login.Keys == 0:
		lines = append(lines, "over the network: no SSH key is set (ssh_authorized_keys)")
	}
	if s.Login.Password {
		return append(lines, "press Enter to log in here")
	}
	return append(lines, "here: no password is set; put \"kedge: {password: X}\" into config.yaml")
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// reachable is the address to log in at: the node's, or the first there is.
func reachable(s Status) string {
	for _, l := range s.Links {
		for _, a := range l.Addresses {
			if p, err := netip.ParsePrefix(a); err == nil && p.Addr().Is4() && (s.Node.Address == "" || p.Addr().String() == s.Node.Address) {
				return p.Addr().String()
			}
		}
	}
	return ""
}

// Text is the answer of kedge status for people.
func Text(s Status) string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%-12s%s\n", name, value) }
	line("Version", s.Version)
	line("Mode", s.Mode)
	if s.ID != "" {
		line("Image", s.ID)
	}
	if s.Slot != "" {
		line("Slot", s.Slot+map[bool]string{true: ", on trial"}[s.Trial])
	}
	for i, l := range rootLines(s) {
		line([]string{"Root", ""}[min(i, 1)], l)
	}
	if s.Upgrade != "" {
		line("Upgrade", s.Upgrade)
	}
	if s.KubeTrial != "" {
		line("Upgrade", s.KubeTrial)
	}
	if s.Failure != "" {
		line("Last try", s.Failure)
	}
	if s.Install != "" {
		line("Install", s.Install)
	}
	if s.State != "" {
		line("State", s.State)
	}
	line("Node", nodeLine(s))
	for i, l := range networkLines(s) {
		line([]string{"Network", ""}[min(i, 1)], l)
	}
	for i, l := range loginLines(s) {
		line([]string{"Login", ""}[min(i, 1)], l)
	}
	for i, src := range s.Sources {
		line([]string{"Config", ""}[min(i, 1)], src)
	}
	for i, svc := range s.Services {
		line([]string{"Services", ""}[min(i, 1)], ServiceLine(svc))
	}
	var stages []string
	for _, st := range s.Stages {
		stages = append(stages, fmt.Sprintf("%s %.1f s", st.Name, st.Seconds))
	}
	if len(stages) > 0 {
		line("Boot", strings.Join(stages, ", "))
	}
	for i, m := range s.Messages {
		line([]string{"Notes", ""}[min(i, 1)], m)
	}
	for i, p := range s.Skipped {
		line([]string{"Not applied", ""}[min(i, 1)], p.String())
	}
	return b.String()
}

// ServiceLine is one service for people.
func ServiceLine(s Service) string {
	var more []string
	if s.Pid != 0 {
		more = append(more, fmt.Sprintf("pid %d", s.Pid))
	}
	if s.Restarts > 0 {
		more = append(more, fmt.Sprintf("%d restart%s", s.Restarts, plural(s.Restarts)))
	}
	return strings.TrimRight(fmt.Sprintf("%-13s %-8s %s", s.Name, s.State, strings.Join(more, ", ")), " ")
}
