package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/node/apply"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// remoteKeys fetches the SSH keys that the configuration names by place. It
// goes on until every place has answered; what came last time holds until then,
// beside what has come by now.
func (d *daemon) remoteKeys(ctx context.Context) {
	left := apply.RemoteKeys(d.config.SSHAuthorizedKeys)
	text, _ := os.ReadFile(fetchedKeys) // none: nothing came yet
	cached := apply.FetchedKeys(string(text))
	var keys []string
	delay := 5 * time.Second
	for len(left) > 0 && ctx.Err() == nil {
		var failed []string
		for _, entry := range left {
			text, err := fetch.Bytes(ctx, apply.KeyURL(entry), fetch.Options{Tries: 2})
			got := apply.FetchedKeys(string(text))
			if err != nil || len(got) == 0 {
				d.log.Warnf("fetch SSH keys of %s: %d keys, %v", entry, len(got), err)
				failed = append(failed, entry)
				continue
			}
			d.log.Infof("fetched %d SSH keys of %s", len(got), entry)
			keys = append(keys, got...)
		}
		if len(failed) < len(left) {
			hold := heldKeys(cached, keys, len(failed) == 0)
			d.useKeys(ctx, hold)
			d.do(ctx, []apply.Step{apply.Write{Path: fetchedKeys, Data: strings.Join(hold, "\n") + "\n", Mode: 0o644}})
		}
		if left = failed; len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, 10*time.Minute)
	}
}

// heldKeys returns whose keys hold, each once: those that were fetched, and until
// all places have answered also those of last time, of which nobody knows the
// place.
func heldKeys(cached, fetched []string, all bool) []string {
	if all {
		cached = nil
	}
	var hold []string
	for _, key := range slices.Concat(cached, fetched) {
		if !slices.Contains(hold, key) {
			hold = append(hold, key)
		}
	}
	return hold
}

// useKeys lets in the holders of fetched keys besides those of literal ones.
func (d *daemon) useKeys(ctx context.Context, fetched []string) {
	all := append(apply.LiteralKeys(d.config.SSHAuthorizedKeys), fetched...)
	d.do(ctx, apply.Keys(d.config.Config, all))
	d.setLogin(len(all))
}
