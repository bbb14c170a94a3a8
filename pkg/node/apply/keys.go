package apply

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// LiteralKeys returns those entries of ssh_authorized_keys that are keys
// themselves.
func LiteralKeys(entries []string) []string {
	var keys []string
	for _, e := range entries {
		e = strings.TrimSpace(e)
		if e != "" && !strings.HasPrefix(e, "#") && KeyURL(e) == "" {
			keys = append(keys, e)
		}
	}
	return keys
}

// RemoteKeys returns the entries that name a place where keys are fetched.
func RemoteKeys(entries []string) []string {
	var remote []string
	for _, e := range entries {
		if e = strings.TrimSpace(e); KeyURL(e) != "" && !slices.Contains(remote, e) {
			remote = append(remote, e)
		}
	}
	return remote
}

// hosts of public keys, by the short name that stands before the user's.
var keyHosts = map[string]string{"github": "https://github.com/%s.keys", "gh": "https://github.com/%s.keys", "gitlab": "https://gitlab.com/%s.keys"}

// KeyURL returns where the keys of an entry are fetched, "" for a literal key.
func KeyURL(entry string) string {
	kind, rest, _ := strings.Cut(entry, ":")
	if host, ok := keyHosts[strings.ToLower(kind)]; ok && rest != "" {
		return fmt.Sprintf(host, url.PathEscape(strings.TrimSpace(rest)))
	}
	if strings.HasPrefix(entry, "http://") || strings.HasPrefix(entry, "https://") {
		return entry
	}
	return ""
}

// FetchedKeys returns the keys in what a place answered; lines that look like
// anything else, such as a web page, are left out.
func FetchedKeys(text string) []string {
	var keys []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		fields := strings.Fields(line)
		if len(fields) >= 2 && (strings.HasPrefix(fields[0], "ssh-") || strings.HasPrefix(fields[0], "ecdsa-") || strings.HasPrefix(fields[0], "sk-")) {
			keys = append(keys, line)
		}
	}
	return keys
}
