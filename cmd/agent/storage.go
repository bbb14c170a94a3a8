package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/node/storage"
)

// Times of the data disks: how long the boot waits for one that is missing, and
// how often a required one is looked for.
const (
	storagePatience = 15 * time.Second
	storagePause    = time.Second
	storageAgain    = 10 * time.Second
)

// mountStorage mounts the data disks of the configuration and tells of those
// that it cannot. It returns whether Kubernetes may start.
func (d *daemon) mountStorage(ctx context.Context, c config.Config) bool {
	if len(c.Kedge.Storage) == 0 {
		return true
	}
	failures := storage.Mount(ctx, storage.System{Medium: d.record.Medium}, c.Kedge.Storage, storagePatience, storagePause)
	for _, f := range failures {
		d.tell([]config.Problem{d.storageProblem(f)})
	}
	return d.holdForStorage(failures)
}

func (d *daemon) storageProblem(f storage.Failure) config.Problem {
	key := fmt.Sprintf("kedge.storage[%d]", f.Index)
	o := d.config.Origins[key]
	if o.Source == "" {
		o.Source = "this machine"
	}
	p := config.Problem{File: o.Source, Line: o.Line, Key: key, Message: fmt.Sprintf("%s is not mounted: %v", f.Item.Path, f.Err)}
	if o.Line > 0 {
		p.Column = 1
	}
	return p
}

// holdForStorage notes what Kubernetes waits for, and returns whether it may
// start.
func (d *daemon) holdForStorage(failures []storage.Failure) bool {
	text := holdText(failures)
	d.mu.Lock()
	before := d.held
	d.held = text
	d.mu.Unlock()
	if text != before && text != "" {
		d.log.Warn(text)
		consoleLines{}.Write([]byte("kedge: " + text + "\n"))
	}
	return text == ""
}

// holdText says for which disks Kubernetes is not started, "" for none.
func holdText(failures []storage.Failure) string {
	var wanted []string
	for _, f := range failures {
		if f.Item.Required {
			wanted = append(wanted, fmt.Sprintf("%s (%v)", f.Item.Path, f.Err))
		}
	}
	if len(wanted) == 0 {
		return ""
	}
	return "Kubernetes is not started until required storage is there: " + strings.Join(wanted, "; ")
}

// awaitStorage looks for required disks until all are mounted; false when ctx
// ended.
func (d *daemon) awaitStorage(ctx context.Context, c config.Config) bool {
	items := slices.DeleteFunc(slices.Clone(c.Kedge.Storage), func(s config.Storage) bool { return !s.Required })
	for ctx.Err() == nil {
		if d.holdForStorage(storage.Mount(ctx, storage.System{Medium: d.record.Medium}, items, 0, storagePause)) {
			d.log.Info("all required storage is mounted")
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(storageAgain):
		}
	}
	return false
}
