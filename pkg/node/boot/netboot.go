package boot

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/format/cmdline"
	"github.com/kedgeos/kedge/pkg/sys/fetch"
	"github.com/kedgeos/kedge/pkg/sys/link"
)

// A Source says where the root file system comes from.
type Source struct {
	ID        string // of the medium that has it, or
	Slot      string // that medium is this slot of a disk,
	Partition string // with this unique ID
	Trial     bool   // that slot is on trial
	URL       string // where it is fetched from
	SHA256    string // of what is fetched, hexadecimal
}

// sourceOf reads from the kernel command line where the root comes from.
func sourceOf(params []cmdline.Param) (Source, error) {
	id, _ := cmdline.Get(params, "kedge.id")
	root, remote := cmdline.Get(params, "kedge.root")
	if !remote {
		if id == "" {
			return Source{}, errors.New("no kedge.id= on the kernel command line: any medium could be the wrong one")
		}
		partition, _ := cmdline.Get(params, "kedge.partition")
		slot, _ := cmdline.Get(params, "kedge.slot")
		trial, _ := cmdline.Get(params, "kedge.trial")
		return Source{ID: id, Slot: slot, Partition: strings.ToLower(partition), Trial: slot != "" && trial == "1"}, nil
	}
	sum, _ := cmdline.Get(params, "kedge.root_sha256")
	u, err := url.Parse(root)
	if err != nil {
		return Source{}, fmt.Errorf("kedge.root=%s: %w", root, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return Source{}, fmt.Errorf("kedge.root=%s: not an http or https address", root)
	}
	if sum == "" {
		return Source{}, fmt.Errorf("kedge.root=%s: refused without kedge.root_sha256=", root)
	}
	if b, err := hex.DecodeString(sum); err != nil || len(b) != 32 {
		return Source{}, fmt.Errorf("kedge.root_sha256=%s: not a SHA-256 in hexadecimal", sum)
	}
	return Source{ID: id, URL: root, SHA256: strings.ToLower(sum)}, nil
}

// fetched is where the root of a network boot lies.
const fetched = fetchedDir + "/root.squashfs"

// anyServer trusts any certificate: the initrd has no list of authorities and
// may have no clock. The digest on the kernel command line vouches for the bytes.
var anyServer = &http.Client{Transport: &http.Transport{
	TLSClientConfig:       &tls.Config{InsecureSkipVerify: true},
	TLSHandshakeTimeout:   15 * time.Second,
	ResponseHeaderTimeout: 30 * time.Second,
	DisableCompression:    true,
}}

// download brings up the network and fetches the root. It tells say what it
// does, each line standing for itself, and calls moved as bytes come in.
func download(ctx context.Context, s Source, say func(string), moved func()) error {
	if err := network(ctx, say); err != nil {
		return err
	}
	say("fetching " + s.URL)
	next := time.Now()
	err := fetch.File(ctx, s.URL, fetched, fetch.Options{SHA256: s.SHA256, Client: anyServer, Progress: func(done, size int64) {
		moved()
		if now := time.Now(); now.After(next) {
			next = now.Add(5 * time.Second)
			say(progress(done, size))
		}
	}})
	if err != nil {
		return err
	}
	say("fetched and verified " + s.URL)
	return nil
}

func progress(done, size int64) string {
	if size <= 0 {
		return fmt.Sprintf("fetched %d MiB", done>>20)
	}
	return fmt.Sprintf("fetched %d of %d MiB (%d %%)", done>>20, size>>20, 100*done/size)
}

// network asks on all wired links at once for an address and takes the first
// that is given.
func network(ctx context.Context, say func(string)) error {
	links, err := link.Wired()
	if err != nil {
		return err
	}
	if len(links) == 0 {
		return errors.New("find a network: no wired link on this machine yet")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		lease link.Lease
		err   error
	}
	answers := make(chan answer)
	for _, l := range links {
		go func() {
			lease, err := lease(ctx, l.Name)
			select {
			case answers <- answer{lease, err}:
			case <-ctx.Done():
			}
		}()
	}
	var errs []error
	for range links {
		select {
		case a := <-answers:
			if a.err != nil {
				errs = append(errs, a.err)
				continue
			}
			say(fmt.Sprintf("%s has address %v", a.lease.Link, a.lease.Address))
			return use(a.lease)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.Join(errs...)
}

// carrierWait is how long a link may take to find its cable.
const carrierWait = 15 * time.Second

func lease(ctx context.Context, name string) (link.Lease, error) {
	if err := link.Up(name); err != nil {
		return link.Lease{}, err
	}
	carrier, cancel := context.WithTimeoutCause(ctx, carrierWait, fmt.Errorf("%s has no carrier", name))
	defer cancel()
	if err := link.WaitCarrier(carrier, name); err != nil {
		if carrier.Err() != nil {
			return link.Lease{}, context.Cause(carrier)
		}
		return link.Lease{}, err
	}
	return link.Acquire(ctx, name, link.Request{})
}

// use sets address and routes, and tells Go's resolver the name servers.
func use(l link.Lease) error {
	if err := l.Apply(0); err != nil {
		return err
	}
	var conf strings.Builder
	for _, server := range l.DNS {
		fmt.Fprintf(&conf, "nameserver %v\n", server)
	}
	const path = "/etc/resolv.conf"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(conf.String()), 0o644)
}
