package apply

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/config"
)

// Kube is how the node's Kubernetes is to be started.
type Kube struct {
	Role        string            // "server" or "agent"
	Args        []string          // with the role first
	Environment map[string]string // from NAME=value items among k3s_args
}

// KubeArgs turns the configuration into the arguments of kube. Name and ip are
// the node's; ip may be empty. What the user says in k3s_args comes last and
// suppresses the same flag of ours.
func KubeArgs(c config.Config, name, ip string) Kube {
	role, user, env := readK3sArgs(c.Kedge.K3sArgs)
	if role == "" {
		role = "server"
		if c.Kedge.ServerURL != "" {
			role = "agent"
		}
	}
	args := []string{role}
	add := func(value string, flags ...string) {
		if value != "" && !hasFlag(user, flags...) {
			args = append(args, flags[0], value)
		}
	}
	add(strings.ToLower(name), "--node-name")
	add(ip, "--node-ip", "-i")
	add(c.Kedge.ServerURL, "--server", "-s")
	add(c.Kedge.Token, "--token", "-t")
	for _, k := range slices.Sorted(maps.Keys(c.Kedge.Labels)) {
		args = append(args, "--node-label", k+"="+c.Kedge.Labels[k])
	}
	for _, t := range c.Kedge.Taints {
		args = append(args, "--node-taint", t)
	}
	return Kube{Role: role, Args: append(args, user...), Environment: env}
}

func hasFlag(args []string, flags ...string) bool {
	return slices.ContainsFunc(args, func(a string) bool {
		name, _, _ := strings.Cut(a, "=")
		return slices.Contains(flags, name)
	})
}

// switches are the flags of k3s that take no value, as far as they occur
// before a role or an environment item in files of users.
var switches = []string{
	"--cluster-init", "--disable-agent", "--disable-apiserver", "--disable-cloud-controller", "--disable-controller-manager",
	"--disable-etcd", "--disable-helm-controller", "--disable-kube-proxy", "--disable-network-policy", "--disable-scheduler",
	"--docker", "--etcd-disable-snapshots", "--etcd-expose-metrics", "--etcd-s3", "--protect-kernel-defaults", "--rootless",
	"--secrets-encryption", "--selinux", "--debug", "--prefer-bundled-bin", "--cluster-reset",
}

var assignment = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*=`)

// readK3sArgs understands every form that k3OS users wrote: a role in front,
// elsewhere or not at all, flag and value in one item, NAME=value items.
func readK3sArgs(items []string) (role string, args []string, env map[string]string) {
	var words []string
	for _, item := range items {
		words = append(words, split(item)...)
	}
	for i, w := range words {
		free := i == 0 || !takesValue(words[i-1])
		switch {
		case free && role == "" && (w == "server" || w == "agent"):
			role = w
		case free && assignment.MatchString(w):
			if env == nil {
				env = map[string]string{}
			}
			name, value, _ := strings.Cut(w, "=")
			env[name] = value
		default:
			args = append(args, w)
		}
	}
	return role, args, env
}

// takesValue tells that the word after w belongs to it.
func takesValue(w string) bool {
	return strings.HasPrefix(w, "-") && !strings.Contains(w, "=") && !slices.Contains(switches, w)
}

var afterComma = regexp.MustCompile(`,\s+`)

// split takes an item apart when it holds several words: "server --flag",
// "--flag value", "--flag=a, b". A value alone keeps its blanks.
func split(item string) []string {
	item = strings.TrimSpace(item)
	first, rest, more := strings.Cut(afterComma.ReplaceAllString(item, ","), " ")
	rest = strings.TrimSpace(rest)
	isFlag := strings.HasPrefix(first, "-")
	switch {
	case item == "":
		return nil
	case !more:
		return []string{first}
	case first == "server" || first == "agent":
		return append([]string{first}, split(rest)...)
	case !isFlag:
		return []string{item}
	case strings.HasPrefix(rest, "-") || slices.Contains(switches, first):
		return append([]string{first}, split(rest)...)
	case strings.Contains(first, "="):
		if i := strings.Index(rest, " -"); i >= 0 {
			return append([]string{first + " " + strings.TrimSpace(rest[:i])}, split(rest[i:])...)
		}
		return []string{first + " " + rest}
	}
	if i := strings.Index(rest, " -"); i >= 0 {
		return append([]string{first, strings.TrimSpace(rest[:i])}, split(rest[i:])...)
	}
	return []string{first, rest}
}

// NodeName is the name the node will have: the last one among the arguments.
func (k Kube) NodeName() string {
	name := ""
	for i, a := range k.Args {
		if v, ok := strings.CutPrefix(a, "--node-name="); ok {
			name = v
		} else if a == "--node-name" && i+1 < len(k.Args) {
			name = k.Args[i+1]
		}
	}
	return name
}
