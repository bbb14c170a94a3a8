package plans

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// barWidth is how wide a progress bar is, in characters.
const barWidth = 30

// List draws one line for each plan.
func List(all []Picture) string {
	rows := [][]string{{"PLAN", "PHASE", "TARGET", "DONE", "FAILED", "MESSAGE"}}
	for _, p := range all {
		say := slices.DeleteFunc(append([]string{p.Message}, p.Notes...), func(s string) bool { return s == "" })
		rows = append(rows, []string{p.Name, phase(p), p.Target, fmt.Sprintf("%d/%d", p.Done, p.Total), fmt.Sprint(p.Failed), strings.Join(say, "; ")})
	}
	return table(rows)
}

// table aligns columns.
func table(rows [][]string) string {
	var b, out strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
	for line := range strings.Lines(b.String()) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}

func phase(p Picture) string { return cmp.Or(string(p.Phase), "New") }

// Draw draws a plan. Times are in the zone of the plan's windows and in local.
// No more than most nodes are listed, those first that need somebody; 0 lists
// all.
func Draw(p Picture, local *time.Location, most int) string {
	var b strings.Builder
	why := ""
	if p.Reason != "" && p.Reason != string(p.Phase) {
		why = " (" + p.Reason + ")"
	}
	fmt.Fprintf(&b, "%s: %s%s, %s\n", p.Name, phase(p), why, p.Target)
	if p.Message != "" {
		fmt.Fprintf(&b, "%s\n", p.Message)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	b.WriteByte('\n')
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", label, fmt.Sprintf(format, args...))
	}
	for _, image := range p.Images {
		line("Image", "%s", image)
	}
	for i, s := range p.Steps {
		line(fmt.Sprintf("Step %d", i+1), "%s", stepText(s, p.At))
	}
	if p.Total > 0 || len(p.Nodes) > 0 {
		n := cmp.Or(len(p.Nodes), p.Total)
		done := p.Done
		if len(p.Nodes) > 0 {
			done = p.States[upgrade.Done]
		}
		line("All", "[%s] %d/%d", bar(done, done, n), done, n)
		line("Nodes", "%s", statesText(p.States))
	}
	if a := p.Available; a != nil {
		line("Away", "%d, of %d allowed", a.Away, a.Allowed)
	}
	if p.Window != nil {
		line("Window", "%s", windowText(p.Window, p.At, local))
	}
	drawNodes(&b, p, most)
	if len(p.Events) > 0 {
		b.WriteByte('\n')
		rows := [][]string{{"AGO", "ABOUT", "EVENT", "MESSAGE"}}
		for _, e := range p.Events {
			rows = append(rows, []string{span(p.At.Sub(e.At)), e.About, e.Reason, e.Message})
		}
		b.WriteString(table(rows))
	}
	if help := ways(p); help != "" {
		fmt.Fprintf(&b, "\n%s", help)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// bar draws how many of n nodes are through, and how many have begun.
func bar(through, begun, n int) string {
	if n == 0 {
		return strings.Repeat(".", barWidth)
	}
	full := barWidth * through / n
	moving := barWidth*max(begun, through)/n - full
	if moving == 0 && begun > through && full < barWidth {
		moving = 1
	}
	return strings.Repeat("#", full) + strings.Repeat(">", moving) + strings.Repeat(".", barWidth-full-moving)
}

func stepText(s Step, now time.Time) string {
	text := fmt.Sprintf("[%s] %d/%d", bar(s.Through, s.Begun, s.Nodes), s.Through, s.Nodes)
	switch {
	case s.Soak == "":
	case s.Until == nil:
		text += ", then " + s.Soak + " of rest"
	case s.Until.After(now):
		text += ", rests for " + span(s.Until.Sub(now)) + " more"
	default:
		text += ", rested " + s.Soak
	}
	return text
}

func statesText(states map[upgrade.NodeState]int) string {
	var parts []string
	for _, s := range slices.Backward(upgrade.NodeStates) {
		if n := states[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "none can be looked at")
}

func windowText(w *Window, now time.Time, local *time.Location) string {
	at := func(t time.Time) string {
		in := t.In(local)
		_, there := t.Zone()
		_, here := in.Zone()
		text := t.Format("Mon 2 Jan 15:04 ") + t.Location().String()
		if there != here {
			text += in.Format(" (here Mon 2 Jan 15:04)")
		}
		return text
	}
	switch {
	case w.Open && w.Until != nil:
		return "open until " + at(*w.Until) + ", " + span(w.Until.Sub(now)) + " more"
	case w.Next != nil:
		return "opens " + at(*w.Next) + ", in " + span(w.Next.Sub(now))
	}
	return "never opens again"
}

// drawNodes lists nodes: in the order in which they go if there are few, else
// those first that need somebody.
func drawNodes(b *strings.Builder, p Picture, most int) {
	nodes := p.Nodes
	if len(nodes) == 0 {
		return
	}
	left := 0
	if most > 0 && len(nodes) > most {
		nodes = slices.Clone(nodes)
		slices.SortStableFunc(nodes, func(a, b Node) int {
			return slices.Index(upgrade.NodeStates, a.State) - slices.Index(upgrade.NodeStates, b.State)
		})
		left, nodes = len(nodes)-most, nodes[:most]
	}
	b.WriteByte('\n')
	rows := [][]string{{"NODE", "STATE", "OS", "KUBERNETES", "SINCE", "WHY"}}
	for _, n := range nodes {
		since := "-"
		if n.Since != nil {
			since = span(p.At.Sub(*n.Since))
		}
		rows = append(rows, []string{n.Name, string(n.State), cmp.Or(n.OS, "-"), cmp.Or(n.Kubernetes, "-"), since, whyText(n, p.At)})
	}
	b.WriteString(table(rows))
	if left > 0 {
		fmt.Fprintf(b, "… and %d more (--all)\n", left)
	}
}

func whyText(n Node, now time.Time) string {
	var parts []string
	if n.State == upgrade.Fetching {
		parts = append(parts, fmt.Sprintf("%d %%", n.Downloaded))
	}
	if n.Retry != nil {
		parts = append(parts, "again in "+span(n.Retry.Sub(now)))
	}
	if n.Why != "" {
		parts = append(parts, n.Why)
	}
	return strings.Join(parts, ": ")
}

// ways names the commands that lead out of a plan that stands still.
func ways(p Picture) string {
	if p.Outcome() == Wrong && p.Halted {
		return fmt.Sprintf("\"kedge plan retry %[1]s\" tries the failed nodes again, \"kedge plan rollback %[1]s\" takes the others back;\nanother release in the plan begins anew.\n", p.Name)
	}
	if p.plan.Spec.Paused {
		return fmt.Sprintf("\"kedge plan resume %s\" goes on.\n", p.Name)
	}
	return ""
}

// News says what is new in a picture after another one, a line for each change.
func News(old, now Picture) (lines []string) {
	if phase(old) != phase(now) || old.Done != now.Done || old.Total != now.Total || old.Failed != now.Failed || old.Message != now.Message && now.States[upgrade.Fetching] == 0 {
		lines = append(lines, Line(now))
	}
	for _, n := range now.Notes {
		if !slices.Contains(old.Notes, n) {
			lines = append(lines, now.Name+": note: "+n)
		}
	}
	was := make(map[string]Node, len(old.Nodes))
	for _, n := range old.Nodes {
		was[n.Name] = n
	}
	for _, n := range now.Nodes {
		o, known := was[n.Name]
		delete(was, n.Name)
		if known && o.State == n.State && (o.Why == n.Why || n.State == upgrade.Fetching) {
			continue
		}
		text := n.Name + ": " + string(n.State)
		if why := whyText(n, now.At); why != "" && n.State != upgrade.Fetching {
			text += ": " + why
		}
		lines = append(lines, text)
	}
	for _, n := range old.Nodes {
		if _, gone := was[n.Name]; gone {
			lines = append(lines, n.Name+": is not of this plan any more")
		}
	}
	return lines
}

// Line is a plan in one line.
func Line(p Picture) string {
	text := fmt.Sprintf("%s: %s %d/%d", p.Name, phase(p), p.Done, p.Total)
	if p.Failed > 0 {
		text += fmt.Sprintf(", %d failed", p.Failed)
	}
	if p.Message != "" {
		text += ": " + p.Message
	}
	return text
}
