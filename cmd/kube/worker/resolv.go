package worker

import (
	"net"
	"strings"
)

// noResolver is an address that answers nobody (RFC 5737). A cluster DNS with no
// name server at all would not start; with this one, names outside the cluster
// fail, which is what they do on a site without a network.
const noResolver = "# no name server is known\nnameserver 192.0.2.53\n"

// podResolvConf is the machine's resolv.conf as pods may use it: name servers on
// the machine's own loopback mean nothing inside a pod.
func podResolvConf(machine []byte) []byte {
	var out []string
	servers := 0
	for line := range strings.Lines(string(machine)) {
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == "nameserver" {
			if ip := net.ParseIP(words[1]); ip == nil || ip.IsLoopback() {
				continue
			}
			servers++
		}
		out = append(out, strings.TrimRight(line, "\n")+"\n")
	}
	text := strings.Join(out, "")
	if servers == 0 {
		text += noResolver
	}
	return []byte(text)
}
