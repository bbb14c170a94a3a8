package plans

import (
	"encoding/json"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
	"github.com/kedgeos/kedge/pkg/sys/registry"
)

// DefaultName of a plan. It stays the same from release to release: one plan is
// changed, not many are made.
const DefaultName = "fleet"

// A Draft is a plan to be written.
type Draft struct {
	Name           string   // "" means DefaultName
	Image          string   // of the system
	Kubernetes     string   // version or image
	Selector       string   // of nodes, as kubectl takes it; "" means all
	Canary         string   // how many nodes go first: a number or percentage; "" means none
	Soak           string   // rest after them, a duration; "" means 1h
	MaxUnavailable string   // number or percentage; "" means 1
	MaxDownloads   string   // number or percentage; "" means all
	Windows        []string // such as "Sat,Sun 02:00-05:00"; none means at any time
	Zone           string   // of the windows; "" means UTC
	Spread         string   // label of nodes
	HaltAfter      string   // number or percentage; "" means 1
	Retries        int
	RollbackAll    bool
	Late           bool
	AllowDowngrade bool
}

// Flags adds what a draft says to a command's flags.
func (d *Draft) Flags(fs *flag.FlagSet) {
	fs.StringVar(&d.Image, "image", "", "`reference` of the system image, such as registry.example/kedge:v1.4.0")
	fs.StringVar(&d.Kubernetes, "kubernetes", "", "`version` of Kubernetes beside it, or the reference of an image that brings one")
	fs.StringVar(&d.Selector, "selector", "", "`labels` of the nodes, such as site=berlin,!spare (default: all nodes)")
	fs.StringVar(&d.Canary, "canary", "", "`number` or percentage of nodes that go first and alone")
	fs.StringVar(&d.Soak, "soak", "", "rest after the canary, a `duration` such as 30m (default: 1h)")
	fs.StringVar(&d.MaxUnavailable, "max-unavailable", "1", "`number` or percentage of nodes that may be away at once")
	fs.StringVar(&d.MaxDownloads, "max-downloads", "", "`number` or percentage of nodes that download at once (default: all)")
	fs.Func("window", "`time` at which nodes may restart, such as \"Sat 02:00-05:00\", \"Mon-Fri 22:00-04:00\" or \"02:00-05:00\"; may be given again (default: any)", func(s string) error {
		d.Windows = append(d.Windows, s)
		return nil
	})
	fs.StringVar(&d.Zone, "zone", "", "time zone of the windows, a `name` such as Europe/Berlin (default: UTC)")
	fs.StringVar(&d.Spread, "spread", "", "`label` of which nodes of only one value are away at once, such as topology.kubernetes.io/zone")
	fs.StringVar(&d.HaltAfter, "halt-after", "1", "`number` or percentage of nodes whose failure stops the plan")
	fs.IntVar(&d.Retries, "retries", 0, "`number` of times that a node tries again before its failure counts")
	fs.BoolVar(&d.RollbackAll, "rollback-all", false, "when the plan stops, take back the nodes that it had upgraded, too")
	fs.BoolVar(&d.Late, "late", false, "download when it is a node's turn, not as soon as the plan is there")
	fs.BoolVar(&d.AllowDowngrade, "allow-downgrade", false, "take an older release, too")
}

// An InputError says which part of a draft is wrong, and what would be right.
type InputError struct{ Field, Problem, Want string }

func (e *InputError) Error() string { return e.Field + ": " + e.Problem }

func wrong(field, want, format string, args ...any) error {
	return &InputError{field, fmt.Sprintf(format, args...), want}
}

// Plan turns a draft into a plan. The error is an *InputError.
func (d Draft) Plan() (*v1alpha1.Plan, error) {
	p := &v1alpha1.Plan{}
	p.APIVersion, p.Kind = v1alpha1.GroupVersion.String(), "Plan"
	p.Name = orElse(d.Name, DefaultName)
	if problems := validation.IsDNS1123Subdomain(p.Name); len(problems) > 0 {
		return nil, wrong("name", "lower-case letters, digits and dashes, such as "+DefaultName, "%q cannot be the name of a plan", p.Name)
	}
	s := &p.Spec
	s.AllowDowngrade = d.AllowDowngrade
	if d.Late {
		s.Stage = v1alpha1.StageLate
	}
	return p, first(
		func() error { return d.release(s) },
		func() error { return d.nodes(s) },
		func() error { return d.pace(s) },
		func() error { return d.windows(s) },
		func() error {
			if err := upgrade.Validate(p); err != nil {
				return wrong("plan", "", "%v", err)
			}
			return nil
		},
	)
}

// first returns the first error.
func first(steps ...func() error) error {
	for _, f := range steps {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

var version = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`)

// release says what nodes are to run.
func (d Draft) release(s *v1alpha1.PlanSpec) error {
	const image = "an image in a registry, such as registry.example/kedge:v1.4.0; \"kedge push\" puts one there"
	if d.Image == "" && d.Kubernetes == "" {
		return wrong("--image", image, "what are the nodes to run?")
	}
	inRegistry := func(field, ref string) error {
		host, _, err := registry.Split(ref)
		switch {
		case err != nil:
			return wrong(field, image, "%v", err)
		case host == "":
			return wrong(field, image, "%s is on the disk of this machine, where no node can reach it", ref)
		}
		return nil
	}
	if d.Image != "" {
		if err := inRegistry("--image", d.Image); err != nil {
			return err
		}
		s.OS = &v1alpha1.OSRelease{Image: d.Image}
	}
	switch {
	case d.Kubernetes == "":
	case version.MatchString(d.Kubernetes):
		s.Kubernetes = &v1alpha1.KubernetesRelease{Version: d.Kubernetes}
	case !strings.ContainsAny(d.Kubernetes, "/:@"):
		return wrong("--kubernetes", "a version, such as v1.36.3, or an image that brings it, such as registry.example/kubernetes:v1.36.3", "%q is neither a version nor an image", d.Kubernetes)
	default:
		if err := inRegistry("--kubernetes", d.Kubernetes); err != nil {
			return err
		}
		s.Kubernetes = &v1alpha1.KubernetesRelease{Image: d.Kubernetes}
	}
	return nil
}

// nodes says which nodes they are.
func (d Draft) nodes(s *v1alpha1.PlanSpec) error {
	if d.Selector != "" {
		var err error
		if s.NodeSelector, err = metav1.ParseToLabelSelector(d.Selector); err != nil {
			return wrong("--selector", "labels as kubectl takes them, such as site=berlin,!spare", "%v", err)
		}
		if len(s.NodeSelector.MatchLabels) == 0 {
			s.NodeSelector.MatchLabels = nil
		}
	}
	if d.Spread != "" {
		if problems := validation.IsQualifiedName(d.Spread); len(problems) > 0 {
			return wrong("--spread", "the name of a label, such as topology.kubernetes.io/zone", "%q is no label", d.Spread)
		}
		s.Spread = d.Spread
	}
	return nil
}

// pace says how fast they go.
func (d Draft) pace(s *v1alpha1.PlanSpec) error {
	if d.Canary != "" {
		n, err := amount("--canary", d.Canary)
		if err != nil {
			return err
		}
		soak, err := time.ParseDuration(orElse(d.Soak, "1h"))
		if err != nil || soak < 0 {
			return wrong("--soak", "a duration such as 30m or 2h", "%q", d.Soak)
		}
		s.Steps = []v1alpha1.Step{{Max: n, Soak: metav1.Duration{Duration: soak}}}
	} else if d.Soak != "" {
		return wrong("--soak", "--canary 1 names one", "there is no canary to rest after")
	}
	away, err := amount("--max-unavailable", orElse(d.MaxUnavailable, "1"))
	if err != nil {
		return err
	}
	s.MaxUnavailable = &away
	if d.MaxDownloads != "" {
		downloads, err := amount("--max-downloads", d.MaxDownloads)
		if err != nil {
			return err
		}
		s.MaxDownloads = &downloads
	}
	halt, err := amount("--halt-after", orElse(d.HaltAfter, "1"))
	if err != nil {
		return err
	}
	if d.Retries < 0 || d.Retries > 10 {
		return wrong("--retries", "a number from 0 to 10", "%d", d.Retries)
	}
	s.Failure = &v1alpha1.Failure{HaltAfter: &halt, Retries: int32(d.Retries), Rollback: v1alpha1.RollbackFailed}
	if d.RollbackAll {
		s.Failure.Rollback = v1alpha1.RollbackAll
	}
	return nil
}

// amount reads a number or percentage.
func amount(field, text string) (intstr.IntOrString, error) {
	digits, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || percent && n > 100 || n > 1<<20 {
		return intstr.IntOrString{}, wrong(field, "a number of nodes of at least 1, or 1% to 100% of them", "%q", text)
	}
	if percent {
		return intstr.FromString(strconv.Itoa(n) + "%"), nil
	}
	return intstr.FromInt32(int32(n)), nil
}

const windowWant = "days and a time from and to, such as \"Sat 02:00-05:00\", \"Mon-Fri 22:00-04:00\" or, for every day, \"02:00-05:00\""

// windows says when they go.
func (d Draft) windows(s *v1alpha1.PlanSpec) error {
	if d.Zone != "" && len(d.Windows) == 0 {
		return wrong("--zone", "--window \"Sat 02:00-05:00\" names one", "there is no window that it would be of")
	}
	zone := orElse(d.Zone, "UTC")
	if _, err := time.LoadLocation(zone); err != nil || zone == "Local" {
		return wrong("--zone", "a name such as Europe/Berlin or America/New_York", "%q is no time zone", zone)
	}
	for _, text := range d.Windows {
		w, err := parseWindow(text)
		if err != nil {
			return err
		}
		w.TimeZone = zone
		s.Windows = append(s.Windows, w)
	}
	return nil
}

// week is the order of days.
var week = []v1alpha1.Weekday{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}

// parseWindow reads "Mon-Wed,Sat 22:00-04:00". One that ends no later than it
// begins ends on the next day.
func parseWindow(text string) (w v1alpha1.Window, err error) {
	fields := strings.Fields(text)
	if len(fields) == 0 || len(fields) > 2 {
		return w, wrong("--window", windowWant, "%q", text)
	}
	if len(fields) == 2 {
		if w.Days, err = parseDays(fields[0]); err != nil {
			return w, wrong("--window", windowWant, "%q: %v", text, err)
		}
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	begin, err1 := time.Parse("15:04", from)
	end, err2 := time.Parse("15:04", to)
	if to == "24:00" {
		end, err2 = time.Parse("15:04", "00:00")
	}
	if !ok || err1 != nil || err2 != nil {
		return w, wrong("--window", windowWant, "%q: %q is no time from and to", text, fields[len(fields)-1])
	}
	if !end.After(begin) {
		end = end.Add(24 * time.Hour)
	}
	w.Start, w.Duration = begin.Format("15:04"), metav1.Duration{Duration: end.Sub(begin)}
	return w, nil
}

func parseDays(text string) (days []v1alpha1.Weekday, err error) {
	index := func(name string) (int, error) {
		i := slices.IndexFunc(week, func(d v1alpha1.Weekday) bool { return len(name) >= 3 && strings.EqualFold(string(d), name[:3]) })
		if i < 0 {
			return 0, fmt.Errorf("%q is no day of the week", name)
		}
		return i, nil
	}
	meant := map[v1alpha1.Weekday]bool{}
	for _, part := range strings.Split(text, ",") {
		from, to, ranged := strings.Cut(part, "-")
		i, err := index(from)
		if err != nil {
			return nil, err
		}
		last := i
		if ranged {
			if last, err = index(to); err != nil {
				return nil, err
			}
		}
		for ; ; i = (i + 1) % len(week) {
			meant[week[i]] = true
			if i == last {
				break
			}
		}
	}
	for _, d := range week {
		if meant[d] {
			days = append(days, d)
		}
	}
	return days, nil
}

// YAML writes a draft as a file with comments, to be read and changed by people.
// The error is an *InputError.
func (d Draft) YAML() (string, error) {
	p, err := d.Plan()
	if err != nil {
		return "", err
	}
	var w planWriter
	w.head(p)
	w.target(&p.Spec)
	w.order(&p.Spec)
	w.windows(&p.Spec)
	w.failure(&p.Spec)
	return w.String(), nil
}

// A planWriter writes a plan line by line.
type planWriter struct{ strings.Builder }

// line writes one; comments stand in one column where it leaves room for them.
func (w *planWriter) line(text, comment string) {
	if comment != "" {
		text = fmt.Sprintf("%-46s # %s", text, comment)
	}
	w.WriteString(text + "\n")
}

// head says what the file is for.
func (w *planWriter) head(p *v1alpha1.Plan) {
	w.line("# The nodes of a cluster take this release by themselves once it is there: kubectl apply -f FILE", "")
	w.line(fmt.Sprintf("# Then \"kedge plan watch %s\" shows how far they are. For the next release, change this plan and apply it again.", p.Name), "")
	w.line("apiVersion: "+p.APIVersion, "")
	w.line("kind: Plan", "\"kubectl explain plan.spec\" tells of every field")
	w.line("metadata: {name: "+flow(p.Name)+"}", "")
	w.line("spec:", "")
}

// target is what the nodes are to run.
func (w *planWriter) target(s *v1alpha1.PlanSpec) {
	if s.OS != nil {
		comment := "a tag is looked up once; every node gets the digest found then"
		if strings.Contains(s.OS.Image, "@") {
			comment = ""
		}
		w.line("  os: {image: "+flow(s.OS.Image)+"}", comment)
	}
	switch k := s.Kubernetes; {
	case k == nil:
	case k.Image != "":
		w.line("  kubernetes: {image: "+flow(k.Image)+"}", "one minor version at a time")
	default:
		w.line("  kubernetes: {version: "+flow(k.Version)+"}", "a node that does not have it needs an image: too")
	}
}

// order is which nodes go, and how many at once.
func (w *planWriter) order(s *v1alpha1.PlanSpec) {
	if s.NodeSelector != nil {
		w.line("  nodeSelector: "+flow(s.NodeSelector), "")
	} else {
		w.line("  # nodeSelector: {matchLabels: {site: berlin}}", "all nodes without it; control-plane nodes go first")
	}
	if len(s.Steps) > 0 {
		w.line("  steps:", "how many nodes run it, before a rest; then the others follow")
		for _, step := range s.Steps {
			w.line(fmt.Sprintf("  - {max: %s, soak: %s}", step.Max.String(), short(step.Soak.Duration)), "the canary")
		}
	} else {
		w.line("  # steps: [{max: 1, soak: 1h}]", "a canary, and a rest before the others follow")
	}
	w.line("  maxUnavailable: "+s.MaxUnavailable.String(), "nodes that may be away at once, whatever the cause")
	if s.Spread != "" {
		w.line("  spread: "+flow(s.Spread), "nodes of only one value are away at once")
	}
}

// windows are when they go, and when they download.
func (w *planWriter) windows(s *v1alpha1.PlanSpec) {
	if len(s.Windows) > 0 {
		comment := "nodes restart only then; they download before"
		if s.Stage == v1alpha1.StageLate {
			comment = "nodes download and restart only then"
		}
		w.line("  windows:", comment)
		for _, open := range s.Windows {
			text := "  - {"
			if len(open.Days) > 0 {
				days := make([]string, len(open.Days))
				for i, day := range open.Days {
					days[i] = string(day)
				}
				text += "days: [" + strings.Join(days, ", ") + "], "
			}
			w.line(text+fmt.Sprintf("start: %q, duration: %s, timeZone: %s}", open.Start, short(open.Duration.Duration), flow(open.TimeZone)), "")
		}
	} else {
		w.line("  # windows: [{days: [Sat], start: \"02:00\", duration: 3h, timeZone: Europe/Berlin}]", "at any time without it")
	}
	if s.Stage == v1alpha1.StageLate {
		w.line("  stage: Late", "download when it is a node's turn")
	}
	if s.MaxDownloads != nil {
		w.line("  maxDownloads: "+s.MaxDownloads.String(), "nodes that download at once, on a thin line")
	}
}

// failure is what follows when a node fails.
func (w *planWriter) failure(s *v1alpha1.PlanSpec) {
	w.line("  failure:", "a node that is not healthy with it goes back by itself")
	w.line("    haltAfter: "+s.Failure.HaltAfter.String(), "so many failed nodes stop the plan")
	w.line(fmt.Sprintf("    retries: %d", s.Failure.Retries), "tries of a node before its failure counts")
	if s.Failure.Rollback == v1alpha1.RollbackAll {
		w.line("    rollback: All", "then the nodes that were upgraded go back, too")
	} else {
		w.line("    rollback: Failed", "All takes the nodes that were upgraded back, too")
	}
	if s.AllowDowngrade {
		w.line("  allowDowngrade: true", "an older release is taken, too")
	}
}

// plain are strings that YAML takes for themselves in a flow.
var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/@:+-]*[A-Za-z0-9]$`)

// words are strings that YAML takes for something else.
var words = regexp.MustCompile(`^(?i:true|false|null|yes|no|on|off)$`)

// flow is a value in YAML's flow style.
func flow(v any) string {
	if s, ok := v.(string); ok && plain.MatchString(s) && !words.MatchString(s) {
		return s
	}
	j, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(j)
}

// short is a duration without units that are zero.
func short(d time.Duration) string {
	s := d.String()
	if t, ok := strings.CutSuffix(s, "m0s"); ok {
		s = t + "m"
	}
	if t, ok := strings.CutSuffix(s, "h0m"); ok {
		s = t + "h"
	}
	return s
}
