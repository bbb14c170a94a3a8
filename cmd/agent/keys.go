package main

import (
	"context"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/node/apply"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// remoteKeys fetches the SSH keys that the configuration names by place. It
// goes on until every place has answered; what came last time holds until then.
func (d *daemon) remoteKeys(ctx context.Context) {
	left := apply.RemoteKeys(d.config.SSHAuthorizedKeys)
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
		if len(keys) > 0 && len(failed) < len(left) {
			d.useKeys(ctx, keys)
			d.do(ctx, []apply.Step{apply.Write{Path: fetchedKeys, Data: strings.Join(keys, "\n") + "\n", Mode: 0o644}})
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

// useKeys lets in the holders of fetched keys besides those of literal ones.
func (d *daemon) useKeys(ctx context.Context, fetched []string) {
	all := append(apply.LiteralKeys(d.config.SSHAuthorizedKeys), fetched...)
	d.do(ctx, apply.Keys(d.config.Config, all))
	d.setLogin(len(all))
}
